"""Sources of images: decoded or as features of a frozen trunk, each from a cache.

Tables of finished tasks are opened for evaluation only: their test images come from the cache, and missing files are
skipped.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.config import FactConfig, ObjectConfig
from tripletcl.continual import InputSource
from tripletcl.data import Augment, ImageCache, ImageSource
from tripletcl.data.image_files import ImageFiles, open_images
from tripletcl.data.images import Photo
from tripletcl.data.source import ALL, ArraySource, PermutedSource
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.embedding.features import FeatureSource
from tripletcl.embedding.trunk import Trunk
from tripletcl.errors import UserError
from tripletcl.files.places import cache_folder

DECODED_CHANNELS = 3
"""Channels of a decoded photo."""


def own_folder(name: str, paths: Sequence[Photo]) -> Path:
    """Return a folder of the cache for these images only: a shared one holds all images of a common parent."""
    listed = "\n".join(str(path.absolute()) for path in paths)
    return cache_folder() / f"{name}-{hashlib.blake2b(os.fsencode(listed), digest_size=6).hexdigest()}"


def table_cache(number: int, paths: Sequence[Path]) -> Path:
    """Return the folder of the cache for the images of a run's table of this number: 0 is the first table."""
    return own_folder("table", paths) if number else cache_folder()


@dataclass
class Opener:
    """Opens images as a config asks for them: decoded and augmented, or as features of the frozen trunk.

    Raises:
        UserError: features are asked for, but nothing is frozen; or the network takes no images of this size.
    """

    config: FactConfig | ObjectConfig
    branch: Trunk
    device: torch.device

    def __post_init__(self) -> None:
        if self.config.data.cache_features and self.config.model.freeze_until is None:
            raise UserError("data.cache_features needs model.freeze_until: nothing is frozen, so nothing can be cached")

    @torch.no_grad()
    def _check_size(self, channels: int) -> None:
        """Pass a blank image through the network, before any is decoded."""
        size = self.config.model.image_size
        try:
            with eval_mode(self.branch):
                blank = torch.zeros(1, channels, size, size, device=self.device)
                self.branch.represent(self.branch.features(blank))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(f"model.backbone {self.branch.name} takes no images of {size} pixels: {error}") from error

    def open(self, photos: Sequence[Photo], folder: Path) -> InputSource:
        """Open images; those that no cache holds are decoded and computed."""
        self._check_size(DECODED_CHANNELS)
        size = self.config.model.image_size
        return self._features(self._source(open_images(photos, size, folder, self.config.data.pixel_cache)))

    def open_array(self, pixels: np.ndarray, order: int) -> InputSource:
        """Open small images in memory, uint8 `[N, C, H, W]`, with their pixels in a fixed order; 0 is their own."""
        size, channels = self.config.model.image_size, self.branch.channels
        self._check_size(channels)
        images = ArraySource(pixels, size, channels, self._augment(), self.device)
        return self._features(PermutedSource(images, order) if order else images)

    def open_cached(self, photos: Sequence[Photo], folder: Path) -> InputSource | None:
        """Open images without reading their files; None unless the caches hold all of them."""
        cache = ImageCache.stored(photos, self.config.model.image_size, folder)
        if cache is None or not self.config.data.cache_features:
            return None if cache is None else self._source(cache)
        mirrored = self.config.data.augmentation.flip
        return FeatureSource.stored(self._source(cache), self.branch, cache_folder(), mirrored)

    def _features(self, images: ImageSource | ArraySource | PermutedSource) -> InputSource:
        """Return the frozen features of images, or the images if features are not asked for."""
        if not self.config.data.cache_features:
            return images
        return FeatureSource.open(images, self.branch, cache_folder(), mirrored=self.config.data.augmentation.flip)

    def _source(self, cache: ImageCache | ImageFiles) -> ImageSource:
        return ImageSource(cache, self._augment(), self.device)

    def _augment(self) -> Augment | None:
        augment = self.config.data.augmentation
        changes = augment.flip or augment.crop is not None or augment.jitter
        return Augment(augment.flip, augment.crop, augment.jitter) if changes else None


class EvaluationTable:
    """The existing test images of a table whose tasks are all learned.

    Args:
        opener: Opens what no cache holds.
        photos: All images of the table.
        tests: The ids of the test images.
        folder: The folder of the caches of the whole table.
    """

    def __init__(self, opener: Opener, photos: Sequence[Photo], tests: np.ndarray, folder: Path) -> None:
        self.opener, self.photos, self.tests, self.folder = opener, photos, tests, folder

    @cached_property
    def existing(self) -> np.ndarray:
        """The ids of the test images whose file exists."""
        return np.array([test for test in self.tests.tolist() if self.photos[test].exists()], dtype=np.int64)

    def batch(self, ids: np.ndarray, generator: torch.Generator | None, mine: slice = ALL) -> Tensor:
        """Return the inputs `[B, ...]` of some existing images."""
        if self._cached is not None:
            return self._cached.batch(ids, generator, mine)
        return self._opened.batch(np.searchsorted(self.existing, ids), generator, mine)

    @cached_property
    def _cached(self) -> InputSource | None:
        return self.opener.open_cached(self.photos, self.folder)

    @cached_property
    def _opened(self) -> InputSource:
        return self.opener.open([self.photos[test] for test in self.existing], own_folder("tests", self.photos))


class Joined:
    """Several sources as one: the ids of each begin where those of the one before end.

    Args:
        starts: The first id of each, ascending from 0.
        sources: The sources.
    """

    def __init__(self, starts: Sequence[int], sources: Sequence[InputSource]) -> None:
        self.starts, self.sources = np.array(starts), list(sources)

    def batch(self, ids: np.ndarray, generator: torch.Generator | None, mine: slice = ALL) -> Tensor:
        """Return the inputs `[B, ...]` of items of any source."""
        number = np.searchsorted(self.starts, ids, side="right") - 1  # [B] of the source
        if (number == number[:1]).all() and len(number):
            return self.sources[number[0]].batch(ids - self.starts[number[0]], generator, mine)
        first, stop, _ = mine.indices(len(ids))
        inputs, places = [], []
        for each in np.unique(number):  # every source draws its random numbers, also if none of its rows is wanted
            rows = np.flatnonzero(number == each)
            own = slice(*np.searchsorted(rows, [first, stop]))
            inputs.append(self.sources[each].batch(ids[rows] - self.starts[each], generator, own))
            places.append(rows[own])
        order = np.argsort(np.concatenate(places))
        return torch.cat(inputs)[torch.from_numpy(order).to(inputs[0].device)]
