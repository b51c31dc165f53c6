"""What retrieval needs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor


class Embedder(Protocol):
    """Photos and texts to vectors; `tripletcl.embedding.FactEmbedder` is one."""

    def encode_images(self, paths: Sequence[Path]) -> Tensor:
        """The units of each photo, `[N, 3, D]`, each of length 1.

        Raises:
            UserError: a photo cannot be read.
        """

    def encode_units(self, texts: list[str]) -> Tensor:
        """The vector of each text, `[n, D]`, each of length 1."""

    def fingerprint(self) -> str:
        """Equal for two models that give equal vectors."""
