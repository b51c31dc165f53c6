"""A few numbers for each unit of a photo, which keep the order that queries put photos in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tripletcl.data.splits import sample

SAMPLE = 20_000
"""Photos that a projection is learned from."""

BLOCK = 20_000
"""Rows held in float32 at a time."""


@dataclass(frozen=True)
class Projection:
    """Each unit's block on the directions in which that unit of the photos differs most (PCA).

    With x a unit of a photo, m the mean of that unit over the photos and B its first d principal directions,

        q.x = q.m + (B'q).(B'(x - m)) + q.r,

    r being what B leaves out. q.m is the same for every photo, so it does not change their order. A unit that is a
    wildcard is a zero block before and after.

    The directions are turned at random among themselves, which changes no inner product: a quantiser spends its steps
    on each number alike, and afterwards all numbers are of one size.

    Attributes:
        means: `[U, D]`.
        bases: `[U, D, d]`, orthonormal columns.
    """

    means: np.ndarray
    bases: np.ndarray

    @property
    def width(self) -> int:
        """d."""
        return self.bases.shape[2]

    def rows(self, vectors: np.ndarray) -> np.ndarray:
        """Photos `[n, U * D]` as B'(x - m), `[n, U * d]` float32."""
        return self.queries(vectors - self.means.ravel())

    def queries(self, queries: np.ndarray) -> np.ndarray:
        """Queries `[Q, U * D]` as B'q, `[Q, U * d]` float32."""
        blocks = queries.reshape(len(queries), *self.means.shape)
        parts = [blocks[:, unit] @ basis for unit, basis in enumerate(self.bases)]
        return np.ascontiguousarray(np.concatenate(parts, axis=1), dtype=np.float32)


def learn_projection(vectors: np.ndarray, units: int, width: int, generator: np.random.Generator) -> Projection:
    """The projection to `width` numbers a unit (D, where D is less), learned from a sample of the rows `[N, U * D]`."""
    rows = vectors[sample(np.arange(len(vectors)), SAMPLE, generator)]  # [n, U * D]
    rows = rows.reshape(-1, units, vectors.shape[1] // units)  # [n, U, D]
    means = rows.mean(axis=0)
    bases = [_turned(_directions(rows[:, unit] - means[unit], width), generator) for unit in range(units)]
    return Projection(means, np.stack(bases).astype(np.float32))


def blocks(count: int, size: int = BLOCK) -> Iterator[slice]:
    """Slices that cover `count` rows, a block at a time."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def _directions(centred: np.ndarray, width: int) -> np.ndarray:
    """The directions of the largest variance, `[D, d]`."""
    _, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred)  # ascending
    return directions[:, ::-1][:, :width]


def _turned(basis: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(generator.standard_normal((basis.shape[1],) * 2))
    return basis @ rotation
