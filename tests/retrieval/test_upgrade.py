"""An index is upgraded to a newer model without its photos: exactly from features, else by a learned map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from colour_embedder import ColourEmbedder, TurnedEmbedder
from PIL import Image
from torch.nn import functional

from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import FactIndex, writing
from tripletcl.retrieval import upgrade as upgrade_module
from tripletcl.retrieval.upgrade import KEEP, upgrade


def write_photos(folder: Path, count: int, seed: int) -> list[Path]:
    """Write photos of random colours."""
    folder.mkdir()
    pixels = np.random.default_rng(seed).integers(1, 256, (count, 1, 3, 3), dtype=np.uint8)
    for number, photo in enumerate(pixels):
        Image.fromarray(photo).save(folder / f"{number:03}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def indexed(tmp_path: Path) -> list[Path]:
    return write_photos(tmp_path / "indexed", 30, seed=1)


@pytest.fixture
def others(tmp_path: Path) -> list[Path]:
    return write_photos(tmp_path / "others", 40, seed=2)


def delete(photos: list[Path]) -> None:
    for photo in photos:
        photo.unlink()


@pytest.mark.parametrize("on_disk", [False, True])
def test_deleted_photos_are_found_by_the_new_model(
    tmp_path: Path, indexed: list[Path], others: list[Path], on_disk: bool
) -> None:
    old, new = ColourEmbedder(), TurnedEmbedder()
    fresh = FactIndex.build(new, indexed)
    index = FactIndex.build(old, indexed)
    index.save(tmp_path / "index")
    delete(indexed)
    if on_disk:
        with writing(tmp_path / "index") as opened:
            done = upgrade(opened, old, new, others, stage=4, keep=0)
        index = FactIndex.load(tmp_path / "index", new)
    else:
        done = upgrade(index, old, new, others, stage=4, keep=0)
    assert (done.how, done.model, done.stage, done.photos) == ("kernel", "turned", 4, 30)
    assert (done.learned_from, done.held_out) == (40, 8)
    assert done.held_out_error["kernel"] < 0.01 < 0.1 < done.held_out_error["identity"]
    assert (index.model, index.stage) == ("turned", 4)
    assert list(index.paths) == indexed, "rows and paths stay"
    cosines = (index.rows() * fresh.rows()).sum(axis=1) / 3
    assert cosines.mean() > 0.99
    hits, expected = ({hit.path: hit.score for hit in of.search("red, ?, blue", k=30)} for of in (index, fresh))
    assert hits == pytest.approx(expected, abs=0.3)
    assert next(iter(hits)) in list(expected)[:3]
    assert not set(old.photos_read[30:] + new.photos_read[30:]) & set(indexed)


def test_a_share_of_the_old_vectors_stays(indexed: list[Path], others: list[Path]) -> None:
    old, new = ColourEmbedder(), TurnedEmbedder()
    rows = {}
    for keep in (0.0, KEEP, 1.0):
        index = FactIndex.build(old, indexed)
        before = torch.from_numpy(index.rows().copy()).unflatten(1, (3, 3))
        upgrade(index, old, new, others, keep=keep)
        rows[keep] = torch.from_numpy(index.rows().copy()).unflatten(1, (3, 3))
    assert torch.allclose(rows[1.0], before, atol=1e-6)
    mean = (1 - KEEP) * rows[0.0] + KEEP * before
    assert torch.allclose(rows[KEEP], functional.normalize(mean, dim=-1), atol=1e-6)


def test_an_index_that_keeps_features_is_exact_and_no_photo_is_read(indexed: list[Path]) -> None:
    old, new = ColourEmbedder(trunk_is_frozen=True), TurnedEmbedder("pixels", trunk_is_frozen=True)
    fresh = FactIndex.build(new, indexed)
    index = FactIndex.build(old, indexed)
    read = len(old.photos_read), len(new.photos_read)
    done = upgrade(index, old, new, [], stage=2)
    assert (done.how, done.held_out_error, done.keep) == ("exact", {}, 0.0)
    assert (len(old.photos_read), len(new.photos_read)) == read
    np.testing.assert_array_equal(index.rows(), fresh.rows())
    assert (index.model, index.stage) == ("turned", 2)


def test_features_of_another_trunk_are_not_used(indexed: list[Path], others: list[Path]) -> None:
    old, new = ColourEmbedder(trunk_is_frozen=True), TurnedEmbedder()
    index = FactIndex.build(old, indexed)
    assert upgrade(index, old, new, others).how == "kernel"
    assert index.features is None


def test_vectors_may_be_given_instead_of_photos(indexed: list[Path], others: list[Path]) -> None:
    old, new = ColourEmbedder(), TurnedEmbedder()
    by_photos, by_vectors = FactIndex.build(old, indexed), FactIndex.build(old, indexed)
    upgrade(by_photos, old, new, others)
    read = len(new.photos_read)
    upgrade(by_vectors, old, new, (old.encode_images(others), new.encode_images(others)))
    np.testing.assert_allclose(by_vectors.rows(), by_photos.rows(), atol=1e-6)
    assert len(new.photos_read) == read + len(others)


def test_nothing_is_done_to_an_index_of_the_new_model(indexed: list[Path]) -> None:
    index = FactIndex.build(embedder := ColourEmbedder(), indexed)
    before = index.rows().copy()
    assert upgrade(index, ColourEmbedder("older"), embedder, []).how == "nothing"
    np.testing.assert_array_equal(index.rows(), before)


def test_an_index_of_neither_model_is_refused_with_both_names(indexed: list[Path], others: list[Path]) -> None:
    index = FactIndex.build(ColourEmbedder("a third"), indexed)
    with pytest.raises(UserError, match="made by model a third, not by colours-1"):
        upgrade(index, ColourEmbedder(), TurnedEmbedder(), others)
    assert index.model == "a third"


def test_too_few_readable_photos_leave_the_index_unchanged(indexed: list[Path], others: list[Path]) -> None:
    index = FactIndex.build(old := ColourEmbedder(), indexed)
    before = index.rows().copy()
    for photo in others[:21]:
        photo.write_text("no photo")
    with pytest.raises(UserError, match="19 photos are too few"):
        upgrade(index, old, TurnedEmbedder(), others)
    np.testing.assert_array_equal(index.rows(), before)
    assert index.model == old.fingerprint()


@pytest.mark.parametrize("keep", [-0.1, 1.5])
def test_keep_is_between_0_and_1(indexed: list[Path], keep: float) -> None:
    with pytest.raises(UserError, match="from 0 to 1"):
        upgrade(FactIndex.build(old := ColourEmbedder(), indexed), old, TurnedEmbedder(), [], keep=keep)


def test_many_photos_are_sampled_by_the_seed(
    indexed: list[Path], others: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade_module, "MOST_PHOTOS", 25)
    reports: list[Progress] = []
    read = []
    for seed in (0, 0, 1):
        old, new = ColourEmbedder(), TurnedEmbedder()
        index = FactIndex.build(old, indexed)
        with listening(reports.append):
            done = upgrade(index, old, new, others, seed=seed)
        assert done.learned_from == 25
        read.append(sorted(new.photos_read))
        pairs = old.encode_images(others), new.encode_images(others)
        assert upgrade(FactIndex.build(old, indexed), old, new, pairs, seed=seed).learned_from == 25
    assert read[0] == read[1] != read[2]
    assert reports[-1][1:3] == (50, 50), "two models embed each"
