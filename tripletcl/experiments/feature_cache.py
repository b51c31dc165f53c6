"""What a run keeps so that it need not be computed again: it holds for all stages to come.

What the read-out reads of test images, where the trunk stands still: so old facts can be scored exactly after something
new was learned, without a look at their photos. And the text encoder's vectors of the units that were named.
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
    """The representation of images that a frozen trunk gives; valid for all stages to come.

    Attributes:
        trunk: The fingerprint of the trunk.
        stamps: By path of an image its file's stamp, in the order of the rows.
        representation: `[N, C]`.
        is_saved: It is stored as it is.
    """

    trunk: str = ""
    stamps: dict[str, FileStamp | None] = field(default_factory=dict)
    representation: Tensor = field(default_factory=lambda: torch.zeros(0, 0))
    is_saved: bool = True

    @classmethod
    def load(cls, path: Path) -> FeatureCache:
        """Read what `save` wrote; nothing is kept where there is no whole file: it can be computed again."""
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata()
                stamps = {name: FileStamp(*stamp) if stamp else None for name, stamp in json.loads(about["stamps"])}
                return cls(about["trunk"], stamps, file.get_tensor("representation"))
        except (SafetensorError, OSError, KeyError, TypeError):
            return cls()

    @classmethod
    def of(cls, embedder: FactEmbedder, paths: Sequence[Path], representation: Tensor) -> FeatureCache:
        """Keep the representation of these images."""
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
        """What is kept, but for these images."""
        names = {str(path.absolute()) for path in paths}
        rows = [row for row, name in enumerate(self.stamps) if name not in names]
        stamps = {name: stamp for name, stamp in self.stamps.items() if name not in names}
        return FeatureCache(self.trunk, stamps, self.representation[rows], is_saved=False)

    def rows(self, embedder: FactEmbedder, paths: Sequence[Path]) -> list[int | None]:
        """Where each image stands; None where nothing is kept that holds for this model and this file.

        A file that is gone is taken to be what it was.
        """
        if not self.stamps or embedder.trunk_fingerprint() != self.trunk:
            return [None] * len(paths)
        row = {name: number for number, name in enumerate(self.stamps)}
        found = [(row.get(str(path.absolute())), path) for path in paths]
        return [None if number is None or self._changed(path) else number for number, path in found]

    def _changed(self, path: Path) -> bool:
        return _stamp(path) not in (None, self.stamps[str(path.absolute())])


def _stamp(path: Path) -> FileStamp | None:
    """The stamp of a file, None where it is missing."""
    try:
        return stat_file(path)
    except OSError:
        return None


def load_texts(path: Path) -> dict[str, Tensor]:
    """The vectors of texts that `save_texts` wrote; none where there is no whole file."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(zip(json.loads(file.metadata()["texts"]), file.get_tensor("vectors"), strict=True))
    except (SafetensorError, OSError, KeyError, TypeError):
        return {}


def save_texts(path: Path, encoded: Mapping[str, Tensor]) -> None:
    """Write vectors of texts, whole or not at all, unless the file has all of them."""
    if not encoded.keys() - load_texts(path).keys():
        return
    tensors, about = {"vectors": torch.stack(list(encoded.values()))}, {"texts": json.dumps(list(encoded))}
    write_atomically(path, lambda temporary: save_file(tensors, temporary, about))
