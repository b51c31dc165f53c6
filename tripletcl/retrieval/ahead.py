"""Rows that lie on disk are asked for together."""

from __future__ import annotations

import mmap

import numpy as np

MOST = 10_000
"""More rows than these are as well read as they come."""


def read_ahead(vectors: np.ndarray, rows: np.ndarray) -> None:
    """Tell the system which rows of a memory map will be read, so that the disk fetches them side by side.

    Without it each row waits for the one before, and drags along what lies beside it. Nothing is done where the vectors
    are in memory.
    """
    mapped = _mapping(vectors)
    if mapped is None or len(rows) > MOST or not hasattr(mmap, "MADV_WILLNEED"):
        return
    for start, length in _pages(vectors, mapped, rows):
        mapped.madvise(mmap.MADV_WILLNEED, start, length)


def _mapping(vectors: np.ndarray) -> mmap.mmap | None:
    """The memory map that an array is a view of."""
    base: object = vectors
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _pages(vectors: np.ndarray, mapped: mmap.mmap, rows: np.ndarray) -> list[tuple[int, int]]:
    """Where each row lies in the map, from the beginning of a page: (start, length)."""
    begin = vectors.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
    size = vectors.strides[0]
    places = (begin + int(row) * size for row in rows)
    return [(place - place % mmap.PAGESIZE, place % mmap.PAGESIZE + size) for place in places]
