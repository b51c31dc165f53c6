"""The parts of a model that retrieval uses; `tripletcl.embedding.FactEmbedder` has all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from tripletcl.data.facts import Fact

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Embedder(Protocol):
    """Encodes texts: enough to query an index."""

    def encode_units(self, texts: list[str], unit: int | None = None, /) -> Tensor | np.ndarray:
        """The vector of each text of a unit (0 to 2; None is any), `[n, D]`, each of length 1."""

    def fingerprint(self) -> str:
        """Equal for two models that give equal vectors."""


@runtime_checkable
class TaughtEmbedder(Embedder, Protocol):
    """Knows facts, whose words are found in requests."""

    @property
    def known_facts(self) -> tuple[Fact, ...]:
        """The facts that it knows."""


@runtime_checkable
class BaseEmbedder(Embedder, Protocol):
    """May know things before it is taught."""

    def encode_queries(self, queries: Sequence[Sequence[str | None]], /) -> np.ndarray | None:
        """The vectors of queries as wholes, `[Q, 3, D]`; None if they are those of their units."""

    def also_asked(self, units: Sequence[str | None], /) -> tuple[list[Fact], float | None]:
        """The taught facts that a query asks although it does not name them, and the cosine of the nearest; None where
        they are of the kinds that it names."""

    def encode_levelled(self, units: Sequence[str | None], /) -> np.ndarray:
        """The vectors `[n, 3, D]` of the taught facts that a query asks: their product with a photo's is its score
        relative to those of the photos that taught the fact."""

    def nearest_of_base(self, text: str, unit: int | None = None, /) -> list[str]:
        """Name what answers a text that was never taught; empty if its own vector does."""

    def familiarity(self, text: str, unit: int | None = None, /) -> float | None:
        """Similarity of a text to what the model knew before it was taught; None if another part of it answers."""

    def seen_by_base(self, text: str, vectors: np.ndarray, unit: int | None = None, /) -> np.ndarray:
        """The evidence `[N]` that photos show what a text means, from their vectors `[N, D]` of a unit."""


@runtime_checkable
class PhotoEmbedder(Embedder, Protocol):
    """Encodes photos as well: enough to add photos to an index."""

    @property
    def trunk_is_frozen(self) -> bool:
        """True if the trunk is frozen, so that representations stay valid in later stages."""

    def decode(self, image: Path) -> np.ndarray:
        """Decode a photo to the model's input; called from threads.

        Raises:
            UserError: it cannot be read.
        """

    def represent_images(self, images: Sequence[Any]) -> Tensor:
        """The readout's input `[N, C]` for photos, or for results of `decode`.

        Raises:
            UserError: a photo cannot be read.
        """

    def vectors_of(self, representation: Tensor) -> Tensor:
        """The units of each photo, `[N, 3, D]`, each of length 1, from its representation."""

    def trunk_fingerprint(self) -> str:
        """Equal for two models that give equal representations."""


def unit_vectors(embedder: Embedder, texts: list[str], unit: int | None = None) -> np.ndarray:
    """The vectors of texts as an array `[n, D]` float32, whatever an embedder computes with."""
    vectors = embedder.encode_units(texts, unit)
    return vectors if isinstance(vectors, np.ndarray) else vectors.detach().float().cpu().numpy()
