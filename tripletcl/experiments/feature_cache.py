"""Per-run cache of a frozen trunk's features of test images.

With the features, old facts are scored exactly after something new was learned, without reading their photos.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tripletcl.data.images import Photo
from tripletcl.embedding import FactEmbedder
from tripletcl.files import FileStamp, stat_file
from tripletcl.files.arrays import read_cached
from tripletcl.files.tensors import TensorFile, read_tensors, write_tensors


@dataclass
class FeatureCache:
    """The representation of images by a frozen trunk.

    Attributes:
        trunk: The trunk's fingerprint.
        stamps: (photo or region, stamp) of each row's file; a file of several rows is in each of them.
        representation: `[N, C]`.
        is_saved: True if a file holds the cache as it is.
    """

    trunk: str = ""
    stamps: list[tuple[str, FileStamp | None]] = field(default_factory=list)
    representation: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    is_saved: bool = True

    @classmethod
    def load(cls, path: Path) -> FeatureCache:
        """Read what `save` wrote; empty if the file is missing or damaged, since it can be computed again."""
        return read_cached(path, cls._parse, read_tensors) or cls()

    @classmethod
    def _parse(cls, stored: TensorFile) -> FeatureCache:
        stamps = json.loads(stored.about["stamps"])
        stamps = [(name, FileStamp(*stamp) if stamp else None) for name, stamp in stamps]
        representation = stored.tensors["representation"]
        # Files with fewer stamps than rows do not say which row belongs to which image.
        return cls(stored.about["trunk"], stamps, representation) if len(stamps) == len(representation) else cls()

    @classmethod
    def of(cls, embedder: FactEmbedder, photos: Sequence[Photo], representation: Tensor) -> FeatureCache:
        """Cache the representation `[N, C]` of images; a photo may occur more than once."""
        stamps = [(str(photo.absolute()), _stamp(photo)) for photo in photos]
        return cls(embedder.trunk_fingerprint(), stamps, representation.cpu().contiguous(), is_saved=False)

    def save(self, path: Path) -> None:
        """Write the cache, whole or not at all, unless it is stored already."""
        if self.is_saved:
            return
        about = {"trunk": self.trunk, "stamps": json.dumps(self.stamps)}
        write_tensors(path, {"representation": self.representation}, about)
        self.is_saved = True

    def without(self, photos: Sequence[Photo]) -> FeatureCache:
        """Return the cache without some images."""
        names = {str(photo.absolute()) for photo in photos}
        rows = [row for row, (name, _) in enumerate(self.stamps) if name not in names]
        stamps = [self.stamps[row] for row in rows]
        return FeatureCache(self.trunk, stamps, self.representation[rows], is_saved=False)

    def rows(self, embedder: FactEmbedder, photos: Sequence[Photo]) -> list[int | None]:
        """Return the row of each image; None if the cache has none that is valid for this model and this file.

        A missing file counts as unchanged.
        """
        if not self.stamps or embedder.trunk_fingerprint() != self.trunk:
            return [None] * len(photos)
        row_of: dict[str, int] = {}
        for row, (name, _) in enumerate(self.stamps):
            row_of.setdefault(name, row)
        rows = [(row_of.get(str(photo.absolute())), photo) for photo in photos]
        return [None if row is None or self._changed(row, photo) else row for row, photo in rows]

    def _changed(self, row: int, photo: Photo) -> bool:
        return _stamp(photo) not in (None, self.stamps[row][1])


def _stamp(photo: Photo) -> FileStamp | None:
    """Return the stamp of a file; None if it is missing."""
    try:
        return stat_file(Path(photo))
    except OSError:
        return None
