"""Near-duplicates among the photos of an index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from colour_embedder import ColourEmbedder
from PIL import Image, ImageEnhance

from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex
from tripletcl.retrieval.duplicates import BITS, distance_of, find_duplicates, hashes_of


def picture(seed: int) -> Image.Image:
    """A photo-like picture: soft blobs."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((240, 160), Image.Resampling.BICUBIC)


def crop(photo: Image.Image, share: float) -> Image.Image:
    width, height = (round(side * share) for side in photo.size)
    return photo.crop((0, 0, width, height))


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("album")
    for seed in range(6):
        picture(seed).save(folder / f"{seed}.png")
    picture(0).resize((120, 80)).save(folder / "0-small.jpg", quality=40)
    crop(picture(0), 0.9).save(folder / "0-crop.png")
    ImageEnhance.Brightness(picture(3)).enhance(1.2).save(folder / "3-bright.png")
    return folder


def index_of(album: Path) -> FactIndex:
    photos = sorted(album.iterdir())
    index = FactIndex(ColourEmbedder())
    index.add(photos, torch.rand(len(photos), 3, 3, generator=torch.Generator().manual_seed(0)) + 0.1)
    return index


def names(album: Path, bits: int = BITS) -> list[list[str]]:
    return [[photo.name for photo in group.photos] for group in find_duplicates(index_of(album), bits)]


def test_copies_are_groups_the_one_with_the_most_pixels_first(album: Path) -> None:
    """Of three photos and of two, whatever was done to them; nothing else is a duplicate."""
    first, second = names(album)
    assert first == ["0.png", "0-crop.png", "0-small.jpg"]
    assert set(second) == {"3.png", "3-bright.png"}


def test_a_photo_that_is_missing_or_removed_is_in_no_group(album: Path, tmp_path: Path) -> None:
    for path in album.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    index = index_of(tmp_path)
    index.remove([tmp_path / "0-crop.png"])
    (tmp_path / "3.png").unlink()
    groups = find_duplicates(index)
    assert [{photo.name for photo in group.photos} for group in groups] == [{"0.png", "0-small.jpg"}]


def test_the_distance_of_a_crop_is_that_of_the_window_that_it_was(album: Path) -> None:
    whole, part, other = hashes_of(picture(0)), hashes_of(crop(picture(0), 0.8)), hashes_of(picture(1))
    assert (whole[0] != part[0]).sum() > BITS  # the hash of the whole does not tell
    assert distance_of(whole, part) == distance_of(part, whole) <= BITS < distance_of(whole, other)
    assert distance_of(whole, whole) == 0


def test_bits_are_those_of_a_hash(album: Path) -> None:
    with pytest.raises(UserError, match="bits is 65, but it is between 0 and 64"):
        find_duplicates(index_of(album), 65)
    assert find_duplicates(FactIndex(ColourEmbedder())) == []
