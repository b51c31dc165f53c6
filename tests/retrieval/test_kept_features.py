"""Kept features: a later stage with a frozen trunk needs no photo."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_embedder import ColourEmbedder
from PIL import Image
from torch import Tensor

from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, FactEmbedder, build_embedder
from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, writing
from tripletcl.retrieval import table as table_module

Write = Callable[..., Path]


class LaterStage(ColourEmbedder):
    """Another readout of the same pixels."""

    def vectors_of(self, representation: Tensor, normalise: bool = True) -> Tensor:
        return super().vectors_of(representation.flip(1))


@pytest.fixture
def photos(photo: Write) -> Path:
    photo("a.png", "red", "green", "blue")
    photo("b.png", "red", "blue", "dark red")
    return photo("c.png", "dark red", "green", "green").parent


@pytest.fixture
def first() -> ColourEmbedder:
    return ColourEmbedder("stage-1", trunk_is_frozen=True)


@pytest.fixture
def later() -> LaterStage:
    return LaterStage("stage-2", trunk_is_frozen=True)


def test_features_are_kept_where_the_trunk_is_frozen(first: ColourEmbedder, photos: Path) -> None:
    index = FactIndex.build(first, photos)
    assert index.features is not None
    assert np.array_equal(index.features, first.represent_images(index.photos).numpy())
    assert index.trunk == "pixels"
    moving = FactIndex.build(ColourEmbedder(), photos)
    assert (moving.features, moving.trunk) == (None, None)


def test_the_setting_overrides_the_default(first: ColourEmbedder, photos: Path, tmp_path: Path) -> None:
    with writing(tmp_path / "without", first, keep_features=False) as index:
        index.sync(photos)
    assert FactIndex.load(tmp_path / "without").features is None
    with writing(tmp_path / "with", ColourEmbedder(), keep_features=True) as index:
        index.sync(photos)
    features = FactIndex.load(tmp_path / "with").features
    assert features is not None
    assert features.shape == (3, 9)


@pytest.mark.parametrize("block_bytes", [1, 80, 2**20])
def test_a_refreshed_index_is_that_of_the_later_stage(
    first: ColourEmbedder,
    later: LaterStage,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block_bytes: int,
) -> None:
    monkeypatch.setattr(table_module, "BLOCK_BYTES", block_bytes)
    with writing(tmp_path / "index", first, stage=1) as index:
        index.sync(photos)
    in_memory = FactIndex.build(first, photos)
    first.photos_read.clear()
    with writing(tmp_path / "index") as index:
        index.refresh(later, stage=2)
        on_disk = index
    in_memory.refresh(later, stage=2)
    expected = FactIndex.build(LaterStage("stage-2"), photos)
    for refreshed in (in_memory, on_disk, FactIndex.load(tmp_path / "index", later)):
        assert np.array_equal(refreshed.rows(), expected.rows())
        assert refreshed.search(["red", "? blue"]) == expected.search(["red", "? blue"])
        assert (refreshed.model, refreshed.stage, refreshed.trunk) == ("stage-2", 2, "pixels")
    assert first.photos_read == later.photos_read == []


def test_a_refreshed_index_can_be_extended_by_the_later_stage(
    first: ColourEmbedder, later: LaterStage, photos: Path, photo: Write, tmp_path: Path
) -> None:
    with writing(tmp_path / "index", first) as index:
        index.sync(photos)
    photo("d.png", "blue", "blue", "red")
    (photos / "a.png").unlink()
    with writing(tmp_path / "index") as index:
        index.refresh(later)
        index.sync(photos)
    index = FactIndex.load(tmp_path / "index", later)
    assert len(later.photos_read) == 1
    assert index.search("red", k=9) == FactIndex.build(later, photos).search("red", k=9)
    assert index.features is not None
    assert len(index.features) == len(index.paths)


def test_features_of_another_trunk_are_refused_and_dropped(
    first: ColourEmbedder, later: LaterStage, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = FactIndex.build(first, photos)
    before = index.rows().copy()
    monkeypatch.setattr(later, "trunk_fingerprint", lambda: "other pixels")
    with pytest.raises(UserError, match="are of trunk pixels, and the model's is other pixels"):
        index.refresh(later)
    assert np.array_equal(index.rows(), before)
    index.replace_vectors(lambda block: block, model="stage-2", trunk="other pixels")
    assert (index.features, index.trunk, index.embedder) == (None, None, None)
    with pytest.raises(UserError, match="keeps no features"):
        index.refresh(later)


def test_vectors_are_not_added_to_an_index_with_features(first: ColourEmbedder, photos: Path) -> None:
    index = FactIndex(first)
    index.add(["x"], np.ones((1, 3, 3)))
    assert index.features is None
    index = FactIndex.build(first, photos)
    with pytest.raises(UserError, match="keeps each photo's features"):
        index.add(["x"], np.ones((1, 3, 3)))


@pytest.fixture
def analytic(tmp_path: Path) -> FactEmbedder:
    """A real model with an analytic readout, which knows no class yet."""
    words, generator = ("dog", "running", "cat", "sleeping", "sofa"), np.random.default_rng(1)
    lines = [" ".join([word, *map(str, generator.standard_normal(6).round(3))]) for word in words]
    (tmp_path / "words.txt").write_text("\n".join(lines))
    spec = EmbedderSpec("timm/resnet10t", "none", width=6, text=str(tmp_path / "words.txt"), image_size=32)
    embedder = build_embedder(spec, seed=0)
    embedder.install_analytic(200, seed=0, scored_by="text")
    return embedder


def test_a_refresh_equals_embedding_again(analytic: FactEmbedder, tmp_path: Path) -> None:
    """A class is learned, photos are indexed, a second class is learned: the vectors change, the features do not."""
    generator = np.random.default_rng(0)
    for number in range(9):
        pixels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    weights = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    facts = [Fact("dog", "running"), Fact("cat", "sleeping", "sofa")]
    assert not analytic.trunk_is_frozen
    analytic.set_readout(weights[:, :1], facts[:1])
    assert analytic.trunk_is_frozen
    index = FactIndex.build(analytic, tmp_path / "photos")
    before = index.rows().copy()

    analytic.set_readout(weights, facts)
    index.refresh(analytic)
    again = FactIndex.build(analytic, tmp_path / "photos")
    assert not np.allclose(index.rows(), before, atol=0.1)
    np.testing.assert_allclose(index.rows(), again.rows(), atol=2e-6)
    np.testing.assert_array_equal(index.features, again.features)
    assert index.model == again.model == analytic.fingerprint()
