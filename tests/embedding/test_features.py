from __future__ import annotations

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
    whole = np.array(FeatureSource.open(source, branch, tmp_path / "cache").arrays[0])
    (path,) = (tmp_path / "cache").glob("features-*.npy")
    path.write_bytes(path.read_bytes()[:length])
    assert FeatureSource.stored(source, branch, tmp_path / "cache") is None
    assert np.array_equal(FeatureSource.open(source, branch, tmp_path / "cache").arrays[0], whole)


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
    whole = np.array(FeatureSource.open(source, branch, tmp_path / "whole", batch_size=1).arrays[0])
    monkeypatch.setattr("tripletcl.embedding.features.SYNCED", 2)

    def kill(progress: Progress) -> None:
        if progress.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(kill):
        FeatureSource.open(source, branch, tmp_path / "cache", batch_size=1)
    (part,) = (tmp_path / "cache").glob("*.part")
    with part.open("r+b") as file:  # a last write that was cut
        file.truncate(part.stat().st_size - 3)
    heard: list[Progress] = []
    with listening(heard.append):
        resumed = FeatureSource.open(source, branch, tmp_path / "cache", batch_size=1)
    assert [progress.done for progress in heard] == [3, 4, 5]
    assert (resumed.arrays[0] == whole).all()
    assert not part.exists()


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
    assert np.array_equal(stored.arrays[0], opened.arrays[0])
