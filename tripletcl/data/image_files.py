"""Images that are decoded whenever they are read, where their pixels would fill the disk."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from tripletcl.data.cache import VERSION, ImageCache
from tripletcl.data.images import Photo, Region, decode_parts, map_in_threads
from tripletcl.errors import UserError
from tripletcl.files import stat_file

log = logging.getLogger("tripletcl")

SHARE_OF_FREE_DISK = 0.5
"""The largest share of the free disk that the pixels of a cache may take."""

PixelCache = Literal["auto", "always", "never"]
"""Whether the pixels of images are cached; "auto": unless they would take more than that share."""


class ImageFiles:
    """N images of one size, uint8 `[3, size, size]`, decoded from their files each time; else as an `ImageCache`.

    Attributes:
        fingerprint: A hash of the images' names, sizes and times of change, their order and the size.

    Raises:
        UserError: A file is missing.
    """

    def __init__(self, photos: Sequence[Photo], size: int) -> None:
        self.photos, self.size = list(photos), size
        digest = hashlib.blake2b(f"{VERSION} {size} ".encode(), digest_size=16)
        for photo in self.photos:
            try:
                digest.update(f"{photo} {stat_file(Path(photo))}\n".encode(errors="surrogateescape"))
            except OSError as error:
                raise UserError(f"{photo}: {error.strerror or error}") from error
        self.fingerprint = digest.hexdigest()

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, ids: np.ndarray | Sequence[int]) -> np.ndarray:
        photos = [self.photos[number] for number in np.asarray(ids).tolist()]
        parts: dict[str, list[int]] = {}  # those of one photo, which is decoded once
        for place, photo in enumerate(photos):
            parts.setdefault(os.fspath(photo), []).append(place)
        pixels = np.empty((len(photos), 3, self.size, self.size), np.uint8)

        def decode(file: str) -> list[np.ndarray | str]:
            boxes = [photo.box if isinstance(photo, Region) else None for photo in (photos[n] for n in parts[file])]
            return decode_parts(file, self.size, boxes)

        for places, decoded in zip(parts.values(), map_in_threads(decode, list(parts)), strict=True):
            for place, part in zip(places, decoded, strict=True):
                if isinstance(part, str):
                    raise UserError(f"{photos[place]}: {part}")
                pixels[place] = part
        return pixels


def open_images(
    photos: Sequence[Photo], size: int, folder: str | Path, pixel_cache: PixelCache = "auto"
) -> ImageCache | ImageFiles:
    """Open the cache of images, or their files, which are then decoded whenever they are read."""
    if pixel_cache == "never":
        return ImageFiles(photos, size)
    place = Path(folder)
    existing = next(each for each in (place, *place.absolute().parents) if each.exists())
    needed = len(photos) * 3 * size * size
    if (
        pixel_cache == "always"
        or needed <= SHARE_OF_FREE_DISK * shutil.disk_usage(existing).free
        or ImageCache.stored(photos, size, place) is not None
    ):
        return ImageCache.open(photos, size, folder)
    log.info(
        "the pixels of %d images would take %.0f GiB: their files are decoded whenever they are read",
        *(len(photos), needed / 2**30),
    )
    return ImageFiles(photos, size)
