"""An index of float16 vectors answers like its twin of float32 that holds the same rounded numbers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from colour_embedder import ColourEmbedder
from test_kept_features import LaterStage

from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, exact_search, writing
from tripletcl.retrieval.store import check_index
from tripletcl.retrieval.structures import build_structure

WIDTH = 16
NAMES = [f"photos/{number:04}.jpg" for number in range(600)]


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """`[600, 3, WIDTH]`, some of them equal."""
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((600, 3, WIDTH))
    vectors[500:] = vectors[:100]
    return vectors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: np.ndarray) -> Path:
    place = tmp_path_factory.mktemp("halves")
    with writing(place, precision="float16") as index:
        index.add(NAMES, photos)
    return place


def twin_of(index: FactIndex) -> FactIndex:
    """The same numbers in float32; they are not normalised again."""
    twin = FactIndex(kind="flat")
    twin.add([path for path in index.paths if path.name], index.rows()[~index.deleted].reshape(-1, 3, index.width))
    twin._rows.table.vectors[:] = index.rows()[~index.deleted]
    return twin


def queries_of(index: FactIndex) -> np.ndarray:
    """Photos and noise in all seven patterns, `[Q, 3 * D]`."""
    generator = np.random.default_rng(1)
    patterns = np.array([named for named in product([0, 1], repeat=3) if any(named)])
    vectors = generator.standard_normal((4, 3, index.width))
    units = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    units[:2] = index.rows([3, 77]).reshape(2, 3, -1)
    return (units[:, None] * patterns[None, :, :, None]).reshape(-1, 3 * index.width).astype(np.float32)


def test_it_answers_bit_for_bit_like_its_twin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact_search, "CONVERTED_NUMBERS", 100 * 3 * WIDTH)  # six blocks
    index = FactIndex.load(folder)
    assert index.search_vectors(queries_of(index), 30) == twin_of(index).search_vectors(queries_of(index), 30)
    [one] = index.search_vectors(queries_of(index)[:1], 3)
    assert [one] == twin_of(index).search_vectors(queries_of(index)[:1], 3)


def test_filters_and_removed_photos_leave_it_like_its_twin(photos: np.ndarray) -> None:
    index = FactIndex(precision="float16")
    index.add(NAMES, photos)
    for removed in (NAMES[:50], NAMES[50:560]):  # few are excluded, then most
        index.remove(removed)
        assert index.search_vectors(queries_of(index), 30) == twin_of(index).search_vectors(queries_of(index), 30)


def test_its_files_are_half_as_large_and_its_scores_are_near(folder: Path, photos: np.ndarray, tmp_path: Path) -> None:
    with writing(tmp_path) as exact:
        exact.add(NAMES, photos)
    [halves], [singles] = folder.glob("vectors-*.f16"), tmp_path.glob("vectors-*.f32")
    assert 2 * halves.stat().st_size == singles.stat().st_size == 600 * 3 * WIDTH * 4
    index = FactIndex.load(folder)
    assert index.rows().dtype == np.float32
    assert np.abs(index.rows() - exact.rows()).max() <= 2**-11
    ((scores, _),), ((near, _),) = (each.search_rows(photos[:1].reshape(1, -1), 5) for each in (exact, index))
    assert np.allclose(scores, near, atol=1e-3)


def test_every_later_writer_keeps_it(folder: Path, photos: np.ndarray, tmp_path: Path) -> None:
    FactIndex.load(folder).save(tmp_path / "copy")
    place = tmp_path / "copy"
    with writing(place) as index:
        index.add(["new.jpg"], photos[:1])
        index.remove(NAMES[:100])  # so many that the rows are written again
    with writing(place) as index:
        index.replace_vectors(lambda block: block[:, [1, 2, 0]], model="next", stage=1)
    loaded = FactIndex.load(place)
    assert (loaded.precision, len(loaded), len(loaded.paths), loaded.model) == ("float16", 501, 501, "next")
    assert [path.suffix for path in place.glob("vectors-*")] == [".f16"]
    before = FactIndex.load(folder)
    moved = before.rows([before.row(NAMES[200])]).reshape(3, WIDTH)[[1, 2, 0]]
    assert np.allclose(loaded.rows([loaded.row(NAMES[200])]).reshape(3, WIDTH), moved, atol=2**-11)
    check_index(place)


def test_an_index_changes_its_precision_in_place(folder: Path, tmp_path: Path) -> None:
    FactIndex.load(folder).save(tmp_path)
    rows = FactIndex.load(folder).rows()
    for precision, suffix in (("float32", ".f32"), ("float16", ".f16")):
        with writing(tmp_path, precision=precision):  # type: ignore[arg-type]
            pass
        loaded = FactIndex.load(tmp_path)
        assert loaded.precision == precision
        assert [path.suffix for path in tmp_path.glob("vectors-*")] == [suffix]
        assert np.array_equal(loaded.rows(), rows)  # float32 holds each number of float16


def test_an_empty_index_remembers_it(tmp_path: Path, photos: np.ndarray) -> None:
    with writing(tmp_path, precision="float16") as index:
        index.add(["a.jpg"], photos[:1])
        index.remove(["a.jpg"])
    with writing(tmp_path, ColourEmbedder()) as index:
        assert (len(index), index.precision) == (0, "float16")


def test_kept_features_are_rounded_too_and_refresh_from_them(tmp_path: Path, photo: Callable[..., Path]) -> None:
    photo("a.png", "red", "green", "blue")
    images = photo("b.png", "red", "blue", "dark red").parent
    first, later = ColourEmbedder("1", trunk_is_frozen=True), LaterStage("2", trunk_is_frozen=True)
    with writing(tmp_path / "index", first, precision="float16") as index:
        index.sync(images)
        index.refresh(later, stage=2)
    index = FactIndex.load(tmp_path / "index")
    assert index.features is not None
    assert (index.features.dtype, index.stage) == (np.float16, 2)
    assert np.allclose(index.rows(), FactIndex.build(later, images).rows(), atol=2**-10)


def test_a_feature_beyond_float16_is_refused(tmp_path: Path, photo: Callable[..., Path]) -> None:
    class Large(ColourEmbedder):
        def represent_images(self, images: list) -> object:
            return super().represent_images(images) * 1e6

    with (
        pytest.raises(UserError, match="larger than float16 can hold"),
        writing(tmp_path / "index", Large(trunk_is_frozen=True), precision="float16") as index,
    ):
        index.sync(photo("a.png", "red", "green", "blue").parent)


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_a_structure_over_it_is_that_over_its_twin(folder: Path, kind: str) -> None:
    index = FactIndex.load(folder)
    queries = queries_of(index)
    pair = [build_structure(kind, rows) for rows in (index.rows(), index.rows().astype(np.float16))]
    one, other = (structure.candidates(queries, 5) for structure in pair)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    words = "no precision 'int8' of vectors; allowed are float32, float16"
    with pytest.raises(UserError, match=words), writing(tmp_path, precision="int8"):  # type: ignore[arg-type]
        pass
    with pytest.raises(UserError, match=words):
        FactIndex(precision="int8")  # type: ignore[arg-type]
