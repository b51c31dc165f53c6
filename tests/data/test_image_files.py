"""Images that are decoded whenever they are read equal those of a cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletcl.data import images
from tripletcl.data.cache import ImageCache
from tripletcl.data.image_files import ImageFiles, open_images
from tripletcl.data.images import Region, decode_image
from tripletcl.errors import UserError


@pytest.fixture
def photos(tmp_path: Path) -> list[Path | Region]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (40, 50, 3), np.uint8)).save(path)
    return [*paths, Region(paths[0], (5, 5, 30, 35))]


def test_pixels_are_those_of_the_cache(photos: list[Path | Region], tmp_path: Path) -> None:
    cache, files = ImageCache.open(photos, 24, tmp_path / "cache"), ImageFiles(photos, 24)
    ids = np.array([3, 0, 2, 0])
    assert (files[ids] == cache[ids]).all()
    assert files[ids].dtype == np.uint8
    assert files[[]].shape == cache[np.array([], int)].shape
    assert (len(files), files.size) == (4, 24)


def test_the_fingerprint_follows_the_files(photos: list[Path | Region]) -> None:
    before = ImageFiles(photos, 24).fingerprint
    assert ImageFiles(photos, 24).fingerprint == before
    assert len({before, ImageFiles(photos, 25).fingerprint, ImageFiles(photos[::-1], 24).fingerprint}) == 3
    Image.new("RGB", (40, 50)).save(photos[1])
    assert ImageFiles(photos, 24).fingerprint != before


def test_a_missing_or_broken_file_is_named(photos: list[Path | Region], tmp_path: Path) -> None:
    files = ImageFiles(photos, 24)
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"1\.png"):
        files[[0, 1]]
    (tmp_path / "1.png").unlink()
    with pytest.raises(UserError, match=r"1\.png: No such file"):
        ImageFiles(photos, 24)


def test_files_are_opened_where_a_cache_would_fill_the_disk(
    photos: list[Path | Region], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch, caplog.at_level("INFO"):
        patch.setattr("tripletcl.data.image_files.SHARE_OF_FREE_DISK", 0)
        assert isinstance(open_images(photos, 24, tmp_path / "cache"), ImageFiles)
        assert "the pixels of 4 images would take 0 GiB: their files are decoded" in caplog.text
        assert not (tmp_path / "cache").exists()
    assert isinstance(open_images(photos, 24, tmp_path / "cache"), ImageCache)
    monkeypatch.setattr("tripletcl.data.image_files.SHARE_OF_FREE_DISK", 0)
    assert isinstance(open_images(photos, 24, tmp_path / "cache"), ImageCache), "it is there"


def test_a_setting_decides_whether_pixels_are_cached(
    photos: list[Path | Region], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(open_images(photos, 24, tmp_path / "cache", "never"), ImageFiles)
    assert not (tmp_path / "cache").exists()
    monkeypatch.setattr("tripletcl.data.image_files.SHARE_OF_FREE_DISK", 0)
    assert isinstance(open_images(photos, 24, tmp_path / "cache", "always"), ImageCache)
    assert isinstance(open_images(photos, 24, tmp_path / "cache", "never"), ImageFiles)


def test_regions_that_follow_each_other_are_decoded_at_once(
    photos: list[Path | Region], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    regions = [Region(path, (x, 2, x + 20, 30)) for path in photos[:3] for x in range(4)]  # type: ignore[arg-type]
    alone = np.stack([decode_image(region, 24) for region in regions])
    opened, original = [], images._open
    monkeypatch.setattr(images, "_open", lambda source, *name: opened.append(source) or original(source, *name))
    order = np.random.default_rng(0).permutation(len(regions))
    assert np.array_equal(ImageFiles(regions, 24)[order], alone[order])
    assert len(opened) == 3
    assert np.array_equal(ImageCache.open(regions, 24, tmp_path / "cache")[np.arange(12)], alone)
    assert len(opened) == 6
    regions[5] = Region(photos[1], (900, 0, 901, 1))  # type: ignore[arg-type]
    with pytest.raises(
        UserError, match=r"1 of 12 images cannot be decoded; the first, .*1\.png \[900, 0, 901, 1\]: its box"
    ):
        ImageCache.open(regions, 24, tmp_path / "other")
    with pytest.raises(UserError, match=r"1\.png \[900, 0, 901, 1\]: its box"):
        ImageFiles(regions, 24)[order]
