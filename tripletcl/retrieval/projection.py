"""Projection of each unit of a photo to a few numbers that keep the order in which queries rank photos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tripletcl.data.splits import sample
from tripletcl.retrieval.precision import to_float32
from tripletcl.retrieval.shared_block import Unfolded

SAMPLE = 20_000
"""Photos that a projection is learned from."""

BLOCK = 20_000
"""Rows held in float32 at a time."""


@dataclass(frozen=True)
class Projection:
    """Projection of each unit's block on the directions in which that unit of the photos varies most (PCA).

    With x a unit of a photo, m the mean of that unit over the photos and B its first d principal directions,

        q.x = q.m + (B'q).(B'(x - m)) + q.r,

    where r is the rest that B drops. q.m is the same for every photo, so it does not change their order. A wildcard is
    a zero block before and after.

    The directions are rotated at random among themselves, which changes no inner product: then all numbers have the
    same variance, and a quantiser spends its steps on all of them alike.

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
        """Project photos `[n, U * D]` to B'(x - m), `[n, U * d]` float32."""
        return self.queries(vectors - self.means.ravel())

    def queries(self, queries: np.ndarray) -> np.ndarray:
        """Project queries `[Q, U * D]` to B'q, `[Q, U * d]` float32."""
        units = queries.reshape(len(queries), *self.means.shape)  # [Q, U, D]
        projected = [units[:, unit] @ basis for unit, basis in enumerate(self.bases)]  # U times [Q, d]
        return np.ascontiguousarray(np.concatenate(projected, axis=1), dtype=np.float32)


def learn_projection(
    vectors: np.ndarray | Unfolded, units: int, width: int, generator: np.random.Generator
) -> Projection:
    """Learn the projection to `width` numbers a unit, at most D, from a sample of the rows `[N, U * D]`."""
    rows = to_float32(vectors[sample(np.arange(len(vectors)), SAMPLE, generator)])  # [n, U * D]
    rows = rows.reshape(-1, units, vectors.shape[1] // units)  # [n, U, D]
    means = rows.mean(axis=0)
    bases = [_rotate(_principal_directions(rows[:, unit] - means[unit], width), generator) for unit in range(units)]
    return Projection(means, np.stack(bases).astype(np.float32))


def part_columns(units: int, width: int) -> list[slice]:
    """The columns of each unit in projected rows of some width and, last, all columns."""
    size = width // units
    return [slice(unit * size, (unit + 1) * size) for unit in range(units)] + [slice(0, width)]


def _principal_directions(centred: np.ndarray, width: int) -> np.ndarray:
    """The directions of largest variance of `[n, D]`, `[D, d]`."""
    _, directions = np.linalg.eigh(centred.T.astype(np.float64) @ centred)  # ascending
    return directions[:, ::-1][:, :width]


def _rotate(basis: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    rotation, _ = np.linalg.qr(generator.standard_normal((basis.shape[1],) * 2))  # [d, d]
    return basis @ rotation
