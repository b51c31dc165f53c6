"""Images of regions: boxes are cut out of their photos once, and used again while the photo stays the same."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from PIL import Image

from tripletcl.data.fact_sets.record import Box
from tripletcl.data.images import ORIENTATION_TAG, TRANSPOSES, map_in_threads
from tripletcl.data.sets.archive import reason
from tripletcl.errors import UserError
from tripletcl.files import stat_file, write_atomically

QUALITY = 95


class Region(NamedTuple):
    """A part of a photo; `extent` as in `FactRecord`."""

    image: str
    box: Box
    extent: tuple[float, float] | None = None


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around some boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def write_regions(root: Path, folder: Path, regions: Iterable[Region]) -> dict[Region, str | None]:
    """Cut regions out of their photos, and write them as JPEG below a folder unless they are there already.

    Boxes are cut out of the pixels as they are stored, after they are clamped to the photo; then the EXIF rotation of
    the photo is applied.

    Returns:
        The name of each region's file in the folder; None for a region that is outside its photo.

    Raises:
        UserError: A photo cannot be decoded.
    """
    by_photo: dict[str, list[Region]] = {}
    for region in dict.fromkeys(regions):
        by_photo.setdefault(region.image, []).append(region)
    names: dict[Region, str | None] = {}
    cut = partial(_cut_photo, root, folder)
    for of_photo in map_in_threads(cut, list(by_photo.values()), "cutting out regions"):
        names.update(of_photo)
    return names


def _cut_photo(root: Path, folder: Path, regions: list[Region]) -> dict[Region, str | None]:
    """Write the regions of one photo that are not there yet."""
    path = root / regions[0].image
    try:
        size = stat_file(path).size
        names: dict[Region, str | None] = {region: _name(region, size) for region in regions}
        if new := {region: name for region, name in names.items() if name and not (folder / name).exists()}:
            with Image.open(path) as photo:
                turn = TRANSPOSES.get(photo.getexif().get(ORIENTATION_TAG, 1))
                pixels = photo.convert("RGB")
            for region, name in new.items():
                box = pixel_box(region, pixels.size)
                if box is None:
                    names[region] = None
                    continue
                crop = pixels.crop(box) if turn is None else pixels.crop(box).transpose(turn)
                write_atomically(folder / name, partial(crop.save, format="JPEG", quality=QUALITY))
    except UserError:
        raise
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise UserError(f"{path} cannot be decoded: {reason(error)}") from error
    return names


def pixel_box(region: Region, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """The whole pixels of a photo that a region covers, within the photo; None if there are none."""
    across, down = (1.0, 1.0) if region.extent is None else (size[0] / region.extent[0], size[1] / region.extent[1])
    left, top, right, bottom = region.box
    box = (
        max(math.floor(left * across), 0),
        max(math.floor(top * down), 0),
        min(math.ceil(right * across), size[0]),
        min(math.ceil(bottom * down), size[1]),
    )
    return box if box[0] < box[2] and box[1] < box[3] else None


def _name(region: Region, size: int) -> str:
    digest = hashlib.blake2b(repr((region, size)).encode(), digest_size=8).hexdigest()
    return f"{PurePosixPath(region.image).stem}-{digest}.jpg"
