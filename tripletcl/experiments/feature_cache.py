"""Per-run cache of what holds for all later stages: a frozen trunk's features of test images, and vectors of texts.

With the features, old facts are scored exactly after something new was learned, without reading their photos.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tripletcl.embedding import FactEmbedder
from tripletcl.files import FileStamp, stat_file, write_atomically


@dataclass
class FeatureCache:
    """The representation of images by a frozen trunk.

    Attributes:
        trunk: The trunk's fingerprint.
        stamps: The stamp of each image's file, by its path and in the order of the rows.
        representation: `[N, C]`.
        is_saved: True if a file holds the cache as it is.
    """

    trunk: str = ""
    stamps: dict[str, FileStamp | None] = field(default_factory=dict)
    representation: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    is_saved: bool = True

    @classmethod
    def load(cls, path: Path) -> FeatureCache:
        """Read what `save` wrote; empty if the file is missing or damaged, since it can be computed again."""
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata()
                stamps = {name: FileStamp(*stamp) if stamp else None for name, stamp in json.loads(about["stamps"])}
                return cls(about["trunk"], stamps, file.get_tensor("representation"))
        except (SafetensorError, OSError, KeyError, TypeError):
            return cls()

    @classmethod
    def of(cls, embedder: FactEmbedder, paths: Sequence[Path], representation: Tensor) -> FeatureCache:
        """Cache the representation `[N, C]` of images."""
        stamps = {str(path.absolute()): _stamp(path) for path in paths}
        return cls(embedder.trunk_fingerprint(), stamps, representation.cpu().contiguous(), is_saved=False)

    def save(self, path: Path) -> None:
        """Write the cache, whole or not at all, unless it is stored already."""
        if self.is_saved:
            return
        about = {"trunk": self.trunk, "stamps": json.dumps(list(self.stamps.items()))}
        write_atomically(path, lambda temporary: save_file({"representation": self.representation}, temporary, about))
        self.is_saved = True

    def without(self, paths: Sequence[Path]) -> FeatureCache:
        """Return the cache without some images."""
        names = {str(path.absolute()) for path in paths}
        rows = [row for row, name in enumerate(self.stamps) if name not in names]
        stamps = {name: stamp for name, stamp in self.stamps.items() if name not in names}
        return FeatureCache(self.trunk, stamps, self.representation[rows], is_saved=False)

    def rows(self, embedder: FactEmbedder, paths: Sequence[Path]) -> list[int | None]:
        """Return the row of each image; None if the cache has none that is valid for this model and this file.

        A missing file counts as unchanged.
        """
        if not self.stamps or embedder.trunk_fingerprint() != self.trunk:
            return [None] * len(paths)
        row_of = {name: row for row, name in enumerate(self.stamps)}
        rows = [(row_of.get(str(path.absolute())), path) for path in paths]
        return [None if row is None or self._changed(path) else row for row, path in rows]

    def _changed(self, path: Path) -> bool:
        return _stamp(path) not in (None, self.stamps[str(path.absolute())])


def _stamp(path: Path) -> FileStamp | None:
    """Return the stamp of a file; None if it is missing."""
    try:
        return stat_file(path)
    except OSError:
        return None


def load_texts(path: Path) -> dict[str, Tensor]:
    """Read the vectors of texts that `save_texts` wrote; empty if the file is missing or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(zip(json.loads(file.metadata()["texts"]), file.get_tensor("vectors"), strict=True))
    except (SafetensorError, OSError, KeyError, TypeError):
        return {}


def save_texts(path: Path, vectors: Mapping[str, Tensor]) -> None:
    """Write vectors of texts, whole or not at all, unless the file has them all."""
    if not vectors.keys() - load_texts(path).keys():
        return
    tensors, about = {"vectors": torch.stack(list(vectors.values()))}, {"texts": json.dumps(list(vectors))}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, about))
