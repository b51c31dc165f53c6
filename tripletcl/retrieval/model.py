"""What retrieval needs of a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor


class Embedder(Protocol):
    """Texts to vectors: enough to ask an index; `tripletcl.embedding.FactEmbedder` is one."""

    def encode_units(self, texts: list[str]) -> Tensor:
        """The vector of each text, `[n, D]`, each of length 1."""

    def fingerprint(self) -> str:
        """Equal for two models that give equal vectors."""


@runtime_checkable
class PhotoEmbedder(Embedder, Protocol):
    """Photos to vectors, too: what it takes to add photos to an index; `FactEmbedder` is one."""

    @property
    def trunk_is_frozen(self) -> bool:
        """Do representations hold for the stages to come?"""

    def decode(self, image: Path) -> np.ndarray:
        """A photo as the model sees it; called from threads.

        Raises:
            UserError: it cannot be read.
        """

    def represent_images(self, images: Sequence[Any]) -> Tensor:
        """What the read-out reads of photos, or of what `decode` returned of them, `[N, C]`.

        Raises:
            UserError: a photo cannot be read.
        """

    def vectors_of(self, representation: Tensor) -> Tensor:
        """The units of each photo, `[N, 3, D]`, each of length 1, by its representation."""

    def trunk_fingerprint(self) -> str:
        """Equal for two models that give equal representations."""
