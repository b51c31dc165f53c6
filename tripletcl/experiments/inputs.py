"""Where the images of tables come from: decoded or as frozen features, from caches of each table's own.

A table that was learned before is not opened again: only its test images are still asked for, one looks at them as they
lie in the caches, and where a photo is gone by now it is simply not asked for.
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
from tripletcl.data.source import ArraySource, PermutedSource
from tripletcl.embedding.features import FeatureSource
from tripletcl.embedding.trunk import Trunk
from tripletcl.errors import UserError


def cache_folder() -> Path:
    """Where decoded images, features and drawn scenes are kept: `TRIPLETCL_CACHE`, else `~/.cache/tripletcl`."""
    return Path(os.environ.get("TRIPLETCL_CACHE") or Path.home() / ".cache" / "tripletcl")


def own_folder(name: str, paths: Sequence[Path]) -> Path:
    """A folder of the cache for these images alone: one that is shared keeps one set of images of a common parent."""
    listed = "\n".join(str(path.absolute()) for path in paths)
    return cache_folder() / f"{name}-{hashlib.blake2b(os.fsencode(listed), digest_size=6).hexdigest()}"


@dataclass
class Opener:
    """Opens images as a config asks for them: decoded and augmented, or as features of the frozen trunk.

    Raises:
        UserError: features are asked for, but nothing is frozen.
    """

    config: FactConfig | ObjectConfig
    branch: Trunk
    device: torch.device

    def __post_init__(self) -> None:
        if self.config.data.cache_features and self.config.model.freeze_until is None:
            raise UserError("data.cache_features needs model.freeze_until: nothing is frozen, so nothing can be cached")

    def open(self, paths: Sequence[Path], folder: Path) -> InputSource:
        """Open these images; what no cache has is decoded and computed."""
        size = self.config.model.image_size
        return self._asked(self._source(ImageCache.open(paths, size, folder)))

    def open_array(self, pixels: np.ndarray, order: int) -> InputSource:
        """Open small images that lie in memory, uint8 `[N, C, H, W]`, their pixels in a fixed order; 0 is their own."""
        size, channels = self.config.model.image_size, self.branch.channels
        images = ArraySource(pixels, size, channels, self._augment(), self.device)
        return self._asked(PermutedSource(images, order) if order else images)

    def stored(self, paths: Sequence[Path], folder: Path) -> InputSource | None:
        """These images if the caches have all of them, or None; no image file is looked at."""
        cache = ImageCache.stored(paths, self.config.model.image_size, folder)
        if cache is None or not self.config.data.cache_features:
            return None if cache is None else self._source(cache)
        return FeatureSource.stored(self._source(cache), self.branch, cache_folder())

    def _asked(self, images: ImageSource | ArraySource | PermutedSource) -> InputSource:
        """The images themselves, or their frozen features."""
        if not self.config.data.cache_features:
            return images
        return FeatureSource.open(images, self.branch, cache_folder())

    def _source(self, cache: ImageCache) -> ImageSource:
        return ImageSource(cache, self._augment(), self.device)

    def _augment(self) -> Augment | None:
        augment = self.config.data.augmentation
        changes = augment.flip or augment.crop is not None or augment.jitter
        return Augment(augment.flip, augment.crop, augment.jitter) if changes else None


class FormerTable:
    """The test images of a table that was learned before: those of which the file is still there.

    Args:
        opener: Opens what no cache has.
        paths: All images of the table.
        tests: Which of them are test images.
        folder: Where the caches of the whole table lie.
    """

    def __init__(self, opener: Opener, paths: Sequence[Path], tests: np.ndarray, folder: Path) -> None:
        self.opener, self.paths, self.tests, self.folder = opener, paths, tests, folder

    @cached_property
    def there(self) -> np.ndarray:
        """Which test images can be given."""
        return np.array([test for test in self.tests.tolist() if self.paths[test].exists()], dtype=np.int64)

    @property
    def is_cheap(self) -> bool:
        """Do they cost no more than the trained part of the network?"""
        return self.opener.config.data.cache_features and self._stored is not None

    def batch(self, ids: np.ndarray, generator: torch.Generator | None) -> Tensor:
        """The inputs `[B, ...]` of some of those that are `there`."""
        if self._stored is not None:
            return self._stored.batch(ids, generator)
        return self._tests.batch(np.searchsorted(self.there, ids), generator)

    @cached_property
    def _stored(self) -> InputSource | None:
        return self.opener.stored(self.paths, self.folder)

    @cached_property
    def _tests(self) -> InputSource:
        return self.opener.open([self.paths[test] for test in self.there], own_folder("tests", self.paths))


class Joined:
    """Several sources as one: the ids of each begin where those of the one before end.

    Args:
        starts: The first id of each, ascending from 0.
        sources: The sources.
    """

    def __init__(self, starts: Sequence[int], sources: Sequence[InputSource]) -> None:
        self.starts, self.sources = np.array(starts), list(sources)

    def batch(self, ids: np.ndarray, generator: torch.Generator | None) -> Tensor:
        """The inputs `[B, ...]` of the items, wherever they lie."""
        of = np.searchsorted(self.starts, ids, side="right") - 1
        if (of == of[:1]).all() and len(of):
            return self.sources[of[0]].batch(ids - self.starts[of[0]], generator)
        parts = [np.flatnonzero(of == number) for number in np.unique(of)]
        found = [self.sources[of[rows[0]]].batch(ids[rows] - self.starts[of[rows[0]]], generator) for rows in parts]
        return torch.cat(found)[torch.from_numpy(np.argsort(np.concatenate(parts))).to(found[0].device)]
