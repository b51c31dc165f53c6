"""The first numbers of each unit that all three units of a photo share, as those of a model's base do: stored once.

A row `[s | a | s | b | s | c]` of three units is stored as `[s | a | b | c]`, and a query `[x | a | y | b | z | c]`
asks `[x + y + z | a | b | c]`: the inner product is the same. Whether units share numbers is seen by the rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.retrieval.precision import to_float32

TOLERANCE = 1e-6
"""Difference of numbers that are the same: each unit was normalised by itself."""

FEWEST = 16
"""Fewer shared numbers are not worth it."""


def shared_width(rows: np.ndarray) -> int:
    """Count the first numbers that the units of all rows `[n, 3 * D]` share; 0 if they are few."""
    if not len(rows):
        return 0
    units = rows.reshape(len(rows), len(UNITS), -1)
    differ = (np.abs(units[:, 1:] - units[:, :1]) > TOLERANCE).any(axis=(0, 1))  # [D]
    width = int(differ.argmax()) if differ.any() else len(differ)
    return width if width >= FEWEST else 0


def do_share(rows: np.ndarray, width: int) -> bool:
    """True if the units of all rows `[n, 3 * D]` share that many numbers."""
    return not width or not len(rows) or shared_width(rows) >= width


def fold(rows: np.ndarray, width: int) -> np.ndarray:
    """Store the shared numbers of rows `[n, 3 * D]` once, `[n, width + 3 * (D - width)]`."""
    if not width:
        return rows
    units = rows.reshape(len(rows), len(UNITS), -1)
    return np.concatenate([units[:, 0, :width], units[:, :, width:].reshape(len(rows), -1)], axis=1)


def fold_queries(queries: np.ndarray, width: int) -> np.ndarray:
    """Queries `[Q, 3 * D]` for rows that `fold` made."""
    if not width:
        return queries
    units = queries.reshape(len(queries), len(UNITS), -1)
    summed = units[:, :, :width].sum(axis=1, dtype=np.float64).astype(queries.dtype)
    return np.concatenate([summed, units[:, :, width:].reshape(len(queries), -1)], axis=1)


def unfold(rows: np.ndarray, width: int) -> np.ndarray:
    """Invert `fold`."""
    if not width:
        return rows
    own = rows[:, width:].reshape(len(rows), len(UNITS), -1)
    shared = np.broadcast_to(rows[:, None, :width], (len(rows), len(UNITS), width))
    return np.concatenate([shared, own], axis=2).reshape(len(rows), -1)


class Unfolded:
    """Stored rows as `[n, 3 * D]` float32, which are computed when they are read.

    Args:
        rows: As they are stored.
        width: Number of shared numbers.
    """

    def __init__(self, rows: np.ndarray, width: int) -> None:
        self._rows, self._width = rows, width
        self.shape = (len(rows), rows.shape[1] + (len(UNITS) - 1) * width if rows.shape[1] else 0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: slice | np.ndarray | Sequence[int]) -> np.ndarray:
        return unfold(to_float32(self._rows[at]), self._width)
