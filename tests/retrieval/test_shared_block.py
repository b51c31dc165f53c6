"""Numbers that the three units of a photo share are stored once, and change no answer."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tripletcl.retrieval import FactIndex, rows, writing
from tripletcl.retrieval.precision import Precision
from tripletcl.retrieval.shared_block import do_share, fold, fold_queries, shared_width, unfold
from tripletcl.retrieval.store import check_index

SHARED, OWN = 40, 24
WIDTH = SHARED + OWN
NAMES = [f"{number:04}.jpg" for number in range(500)]


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """`[500, 3, WIDTH]` of length 1; half the squared length is a base that a photo's units share."""
    generator = np.random.default_rng(0)
    middles = generator.standard_normal((20, 3, WIDTH))
    vectors = middles[generator.integers(0, 20, 500)] + 0.5 * generator.standard_normal((500, 3, WIDTH))
    vectors[:, :, :SHARED] = vectors[:, :1, :SHARED]
    for part in (slice(0, SHARED), slice(SHARED, None)):
        vectors[:, :, part] *= 0.5**0.5 / np.linalg.norm(vectors[:, :, part], axis=2, keepdims=True)
    return vectors.astype(np.float32)


@pytest.fixture(scope="module")
def queries(photos: np.ndarray) -> np.ndarray:
    """All seven patterns; the parts of the units' queries that meet the base differ."""
    patterns = np.array([named for named in product([0, 1], repeat=3) if any(named)])
    texts = photos[[3, 77, 200, 499]][:, [0, 1, 2]] + photos[[5, 6, 7, 8]][:, [2, 0, 1]]
    return (texts[:, None] * patterns[None, :, :, None]).reshape(-1, 3 * WIDTH).astype(np.float32)


def without(monkeypatch: pytest.MonkeyPatch, place: Path, photos: np.ndarray, **options: object) -> FactIndex:
    """The twin that stores every block."""
    with monkeypatch.context() as patch:
        patch.setattr(rows, "shared_width", lambda rows: 0)
        with writing(place, **options) as index:  # type: ignore[arg-type]
            index.add(NAMES, photos)
    return FactIndex.load(place)


def test_a_folded_query_and_row_have_the_inner_product_of_the_whole(photos: np.ndarray, queries: np.ndarray) -> None:
    whole = photos.reshape(500, -1)
    assert shared_width(whole) == SHARED
    assert np.array_equal(unfold(fold(whole, SHARED), SHARED), whole)
    products = fold_queries(queries, SHARED) @ fold(whole, SHARED).T
    assert np.allclose(products, queries @ whole.T, atol=1e-6)
    assert shared_width(whole[:, ::-1]) == 0
    assert not do_share(whole[:, ::-1], 1)


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivfpq"])
def test_it_answers_like_the_index_that_stores_every_block(
    photos: np.ndarray,
    queries: np.ndarray,
    precision: Precision,
    kind: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with writing(tmp_path / "once", kind=kind, precision=precision) as index:
        index.add(NAMES[:400], photos[:400])
        index.add(NAMES[400:], photos[400:])
    once = FactIndex.load(tmp_path / "once")
    thrice = without(monkeypatch, tmp_path / "thrice", photos, kind=kind, precision=precision)
    sizes = [next((tmp_path / name).glob("vectors-*")).stat().st_size for name in ("once", "thrice")]
    number = 4 if precision == "float32" else 2
    assert sizes == [500 * number * (SHARED + 3 * OWN), 500 * number * 3 * WIDTH]
    assert (once.width, once.kind) == (WIDTH, kind)
    assert np.allclose(once.rows(), thrice.rows(), atol=2e-7 if precision == "float32" else 2**-11)
    for found, expected in zip(once.search_vectors(queries, 10), thrice.search_vectors(queries, 10), strict=True):
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        assert len({hit.path for hit in found} & {hit.path for hit in expected}) >= 9
    check_index(tmp_path / "once")


def test_a_photo_that_does_not_share_them_gives_it_up(photos: np.ndarray, queries: np.ndarray, tmp_path: Path) -> None:
    with writing(tmp_path) as index:
        index.add(NAMES[:400], photos[:400])
        before = index.rows()
        index.add(["other.jpg"], photos[:1, :, ::-1].copy())
    loaded = FactIndex.load(tmp_path)
    assert np.array_equal(loaded.rows()[:400], before)
    assert next(tmp_path.glob("vectors-*")).stat().st_size == 401 * 4 * 3 * WIDTH
    plain = FactIndex()
    plain.add([*NAMES[:400], "other.jpg"], loaded.rows().reshape(401, 3, -1))
    pairs = zip(plain.search_rows(queries, 20), loaded.search_rows(queries, 20), strict=True)
    assert all(np.allclose(expected, scores, atol=1e-6) for (expected, _), (scores, _) in pairs)


def test_later_changes_keep_it_where_the_vectors_do(photos: np.ndarray, tmp_path: Path) -> None:
    def size() -> float:
        return next(tmp_path.glob("vectors-*")).stat().st_size / len(FactIndex.load(tmp_path).paths)

    with writing(tmp_path) as index:
        index.add(NAMES, photos)
        index.remove(NAMES[:200])
        before = index.rows()[200:]
    assert (len(FactIndex.load(tmp_path)), size()) == (300, 4 * (SHARED + 3 * OWN))
    assert np.array_equal(FactIndex.load(tmp_path).rows(), before)
    with writing(tmp_path) as index:
        index.replace_vectors(lambda block: -block, model="next")
    assert np.allclose(FactIndex.load(tmp_path).rows(), -before, atol=2e-7)
    assert size() == 4 * (SHARED + 3 * OWN)
    with writing(tmp_path) as index:
        index.replace_vectors(lambda block: block[:, :, ::-1].copy(), model="mirrored")
    assert size() == 4 * 3 * WIDTH
    with writing(tmp_path) as index:
        index.replace_vectors(lambda block: block[:, :, ::-1].copy(), model="back")
    assert size() == 4 * (SHARED + 3 * OWN)


def test_blocks_that_share_unlike_the_first_are_stored_whole(
    photos: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tripletcl.retrieval.table.BLOCK_BYTES", 100 * 4 * (SHARED + 3 * OWN))
    mirror = iter([False, False, True, False, False] * 2)
    with writing(tmp_path) as index:
        index.add(NAMES, photos)
        index.replace_vectors(lambda block: block[:, :, ::-1].copy() if next(mirror) else block, model="next")
    assert FactIndex.load(tmp_path).rows().shape == (500, 3 * WIDTH)
    assert next(tmp_path.glob("vectors-*")).stat().st_size == 500 * 4 * 3 * WIDTH
    assert len(list(tmp_path.glob("vectors-*"))) == 1
