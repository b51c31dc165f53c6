from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tripletcl.data import ImageCache, ImageSource
from tripletcl.embedding.backbones import build_backbone
from tripletcl.embedding.features import FeatureSource
from tripletcl.embedding.image import ImageBranch
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening

SHARD = "tripletcl.embedding.feature_shards.SHARD"


def whole(features: FeatureSource) -> np.ndarray:
    return np.concatenate(features.arrays[0].parts)


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    """Five random images."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for i, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 32, 3), np.uint8)).save(path)
    return ImageSource(ImageCache.open(paths, 32, tmp_path / "cache"), None, "cpu")


@pytest.fixture(scope="module")
def branch() -> ImageBranch:
    torch.manual_seed(0)
    return ImageBranch(build_backbone("timm/resnet10t", "none"), 4, freeze_until="layer1").eval()


def test_cached_features_are_the_features(source: ImageSource, branch: ImageBranch, tmp_path: Path) -> None:
    cached = FeatureSource.open(source, branch, tmp_path / "cache", batch_size=2)
    ids = np.array([3, 0, 4])
    images = source.batch(ids, None)
    torch.testing.assert_close(cached.batch(ids, None), branch.features(images), rtol=1e-3, atol=1e-3)
    mirrored = torch.from_numpy(cached.arrays[0][ids, 1]).float()
    torch.testing.assert_close(mirrored, branch.features(images.flip(3)), rtol=1e-3, atol=1e-3)
    assert len(cached) == 5


@pytest.mark.parametrize("length", [0, 100, 400])
def test_features_that_were_cut_are_computed_again(
    source: ImageSource, branch: ImageBranch, tmp_path: Path, length: int
) -> None:
    before = whole(FeatureSource.open(source, branch, tmp_path / "cache"))
    (path,) = (tmp_path / "cache").glob("features-*/*.npy")
    path.write_bytes(path.read_bytes()[:length])
    assert FeatureSource.stored(source, branch, tmp_path / "cache") is None
    assert np.array_equal(whole(FeatureSource.open(source, branch, tmp_path / "cache")), before)


def test_shards_are_one_array(
    source: ImageSource, branch: ImageBranch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = FeatureSource.open(source, branch, tmp_path / "one", batch_size=2)
    monkeypatch.setattr(SHARD, 2)
    three = FeatureSource.open(source, branch, tmp_path / "three", batch_size=2)
    assert [len(part) for part in three.arrays[0].parts] == [2, 2, 1]
    assert np.array_equal(whole(three), whole(one))
    assert three.arrays[0].shape == one.arrays[0].shape
    for ids in ([3, 0, 4, 3], [1], [4, 3, 2, 1, 0], []):
        seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
        batches = [each.batch(np.array(ids, int), seed) for each, seed in zip((one, three), seeds, strict=True)]
        assert torch.equal(*batches)


def test_a_damaged_shard_is_computed_again_and_no_other(
    source: ImageSource,
    branch: ImageBranch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(SHARD, 2)
    before = whole(FeatureSource.open(source, branch, tmp_path, batch_size=2))
    first, second, third = sorted(tmp_path.glob("features-*/*.npy"))
    data = bytearray(second.read_bytes())
    data[-1] ^= 1  # one bit
    second.write_bytes(data)
    os.utime(first, (1, 1))  # a copy
    intact = [path.stat().st_mtime_ns for path in (first, third)]
    assert FeatureSource.stored(source, branch, tmp_path) is None
    heard: list[Progress] = []
    with listening(heard.append):
        again = FeatureSource.open(source, branch, tmp_path, batch_size=2)
    assert [progress.done for progress in heard] == [5]
    assert f"{second} is damaged" in caplog.text
    assert np.array_equal(whole(again), before)
    assert [path.stat().st_mtime_ns for path in (first, third)] == intact


def test_a_damaged_index_of_shards_is_computed_again(
    source: ImageSource, branch: ImageBranch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = whole(FeatureSource.open(source, branch, tmp_path))
    (index,) = tmp_path.glob("features-*/index.json")
    index.write_text(index.read_text().replace(".npy", ".npz"))
    assert np.array_equal(whole(FeatureSource.open(source, branch, tmp_path)), before)
    assert f"{index} is damaged" in caplog.text


@pytest.mark.parametrize("length", [None, 100])
def test_one_file_of_an_earlier_version_is_read(
    source: ImageSource, branch: ImageBranch, tmp_path: Path, length: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    features = FeatureSource.open(source, branch, tmp_path / "new")
    (folder,) = (tmp_path / "new").glob("features-*")
    old = tmp_path / "old" / f"{folder.name}.npy"
    old.parent.mkdir()
    np.save(old, whole(features))
    old.write_bytes(old.read_bytes()[:length])
    heard: list[Progress] = []
    with listening(heard.append):
        read = FeatureSource.open(source, branch, tmp_path / "old")
    assert np.array_equal(whole(read), whole(features))
    assert bool(heard) == bool(length) == (f"{old} is damaged" in caplog.text)


def test_a_generator_chooses_image_or_mirror_image(source: ImageSource, branch: ImageBranch, tmp_path: Path) -> None:
    cached = FeatureSource.open(source, branch, tmp_path / "cache")
    ids = np.zeros(64, np.int64)
    first = cached.batch(ids, torch.Generator().manual_seed(0))
    again = cached.batch(ids, torch.Generator().manual_seed(0))
    assert torch.equal(first, again)
    plain = (first == cached.batch(ids, None)).flatten(1).all(1)
    assert 16 < plain.sum() < 48


def test_without_mirror_images_only_the_plain_ones_are_computed(
    source: ImageSource, branch: ImageBranch, tmp_path: Path
) -> None:
    cached = FeatureSource.open(source, branch, tmp_path / "cache", mirrored=False)
    assert cached.arrays[0].shape[:2] == (5, 1)
    ids = np.arange(5)
    assert torch.equal(cached.batch(ids, torch.Generator().manual_seed(0)), cached.batch(ids, None))
    both = FeatureSource.open(source, branch, tmp_path / "cache")
    assert torch.equal(both.batch(ids, None), cached.batch(ids, None))
    assert FeatureSource.stored(source, branch, tmp_path / "cache", mirrored=False) is not None


def test_features_are_reused_unless_images_or_frozen_weights_change(
    source: ImageSource, branch: ImageBranch, tmp_path: Path
) -> None:
    def computed(of: ImageBranch) -> list[int]:
        heard: list[Progress] = []
        with listening(heard.append):
            FeatureSource.open(source, of, tmp_path / "cache")
        return [progress.done for progress in heard]

    assert computed(branch) == [5]
    assert computed(branch) == []
    other = ImageBranch(build_backbone("timm/resnet10t", "none"), 4, freeze_until="layer1").eval()
    assert computed(other) == [5]


def test_a_full_disk_is_reported_and_leaves_nothing(branch: ImageBranch, source: ImageSource, tmp_path: Path) -> None:
    def full(_: Progress) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="disk is full"), listening(full):
        FeatureSource.open(source, branch, tmp_path / "features")
    assert list((tmp_path / "features").iterdir()) == []


def test_a_killed_process_is_continued(
    source: ImageSource, branch: ImageBranch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SHARD, 2)
    before = whole(FeatureSource.open(source, branch, tmp_path / "whole", batch_size=1))

    def kill(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(kill):
        FeatureSource.open(source, branch, tmp_path / "cache", batch_size=1)
    (shard,) = (tmp_path / "cache").glob("features-*/*.npy")
    complete = shard.stat().st_mtime_ns
    heard: list[Progress] = []
    with listening(heard.append):
        resumed = FeatureSource.open(source, branch, tmp_path / "cache", batch_size=1)
    assert [progress.done for progress in heard] == [3, 4, 5]
    assert np.array_equal(whole(resumed), before)
    assert shard.stat().st_mtime_ns == complete


def test_pooled_stages_have_features_of_their_own(source: ImageSource, tmp_path: Path) -> None:
    widths = {}
    for pooled in ((), ("layer1",), ("layer1", "layer2")):
        torch.manual_seed(0)
        branch = ImageBranch(build_backbone("timm/resnet10t", "none"), 4, freeze_until="layer4", pooled=pooled).eval()
        cached = FeatureSource.open(source, branch, tmp_path / "cache")
        images = source.batch(np.arange(5), None)
        torch.testing.assert_close(cached.batch(np.arange(5), None), branch.features(images), rtol=1e-2, atol=1e-2)
        widths[pooled] = cached.arrays[0].shape[2]
    assert sorted(widths.values()) == list(widths.values())
    assert len(set(widths.values())) == 3


def test_stored_features_are_opened_without_computing(source: ImageSource, branch: ImageBranch, tmp_path: Path) -> None:
    assert FeatureSource.stored(source, branch, tmp_path / "cache") is None
    opened = FeatureSource.open(source, branch, tmp_path / "cache")
    stored = FeatureSource.stored(source, branch, tmp_path / "cache")
    assert stored is not None
    assert np.array_equal(whole(stored), whole(opened))
