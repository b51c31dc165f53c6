"""Photos as an answer searches them, and what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from tripletcl.retrieval.exact_search import ScoredRows
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.model import Embedder


@dataclass(frozen=True, slots=True)
class Hit:
    """A photo and its score: for one term the sum of the cosines of the units asked for, for several a probability."""

    path: Path
    score: float


class Searched(Protocol):
    """The part of a `FactIndex` that answers need."""

    embedder: Embedder | None

    def __len__(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def paths(self) -> Sequence[Path]: ...
    @property
    def deleted(self) -> np.ndarray: ...
    def row(self, path: str | Path) -> int | None: ...
    def rows(self, numbers: Sequence[int] | np.ndarray | slice = ...) -> np.ndarray: ...
    def kept(self, where: Filter | None) -> np.ndarray: ...
    def search_vectors(self, vectors: np.ndarray, k: int = ..., where: Filter | None = ...) -> list[list[Hit]]: ...
    def search_rows(self, vectors: np.ndarray, k: int = ..., where: Filter | None = ...) -> list[ScoredRows]: ...
