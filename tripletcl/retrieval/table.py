"""What an index holds, row by row, in memory."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np

VECTORS, FEATURES = "vectors", "features"
"""What a row has: `[3 * D]`, each unit's block of length 1; and, where they are kept, `[C]`, its representation."""

Stamp = tuple[int, int]
"""Size and time of modification (ns) of a photo's file when it was looked at; UNKNOWN for none."""
UNKNOWN: Stamp = (-1, -1)

Origin = tuple[str | None, int | None]
"""The fingerprint and the stage of the model that encoded a photo."""

Broken = tuple[Stamp, str]
"""A photo that cannot be read: its stamp, and the reason."""

BLOCK_BYTES = 2**26
"""Rows are rewritten in blocks of about this size: an index may be larger than memory."""


class Growing:
    """Rows of one shape that more are appended to, at a cost that does not grow with those there.

    Args:
        rows: Those there at first; never written to, so it may be a read-only memory map.
    """

    def __init__(self, rows: np.ndarray) -> None:
        self._buffer, self._count = rows, len(rows)

    def __len__(self) -> int:
        return self._count

    @property
    def rows(self) -> np.ndarray:
        """All rows so far."""
        return self._buffer[: self._count]

    def append(self, block: np.ndarray) -> None:
        """Add rows behind the last."""
        count = self._count + len(block)
        if count > len(self._buffer):
            grown = np.empty((max(count, 2 * self._count), *block.shape[1:]), block.dtype)
            grown[: self._count] = self.rows
            self._buffer = grown
        self._buffer[self._count : count] = block
        self._count = count


class Paths(Sequence[Path]):
    """File names as paths, made when they are asked for: a million of them take half a gigabyte."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, at: int) -> Path: ...

    @overload
    def __getitem__(self, at: slice) -> list[Path]: ...

    def __getitem__(self, at: int | slice) -> Path | list[Path]:
        return [Path(name) for name in self._names[at]] if isinstance(at, slice) else Path(self._names[at])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))


@dataclass
class Table:
    """Every row's photo, where its vectors came from, and the vectors.

    A photo that is removed leaves its row behind, marked in `deleted`.

    Attributes:
        names: The photo's path of each row; empty where it was removed.
        stamps: `[rows, 2]` int64.
        origins: Of each row.
        deleted: `[rows]` bool.
        arrays: VECTORS and FEATURES, `[rows, ...]` float32 each, where there are any.
        broken: Photos that cannot be read.
        row_of: The row of each photo that is there.
    """

    names: list[str] = field(default_factory=list)
    stamps: Growing = field(default_factory=lambda: Growing(np.zeros((0, 2), np.int64)))
    origins: list[Origin] = field(default_factory=list)
    deleted: Growing = field(default_factory=lambda: Growing(np.zeros(0, bool)))
    arrays: dict[str, Growing] = field(default_factory=dict)
    broken: dict[str, Broken] = field(default_factory=dict)
    row_of: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows there are, those of removed photos among them."""
        return len(self.names)

    @property
    def vectors(self) -> np.ndarray:
        """`[rows, 3 * D]`; of width 0 before the first photo."""
        return self.arrays[VECTORS].rows if VECTORS in self.arrays else np.zeros((0, 0), np.float32)

    def stamp(self, row: int) -> Stamp:
        """The stamp of a row."""
        size, mtime_ns = self.stamps.rows[row].tolist()
        return size, mtime_ns

    def append(self, photos: Sequence[tuple[str, Stamp]], origin: Origin) -> None:
        """Add rows, all but their arrays."""
        names = [name for name, _ in photos]
        self.row_of.update(zip(names, range(self.rows, self.rows + len(names)), strict=True))
        self.names += names
        self.origins += [origin] * len(names)
        self.stamps.append(np.array([stamp for _, stamp in photos], np.int64).reshape(-1, 2))
        self.deleted.append(np.zeros(len(names), bool))
        for name in names:
            self.broken.pop(name, None)

    def remove(self, rows: Iterable[int]) -> None:
        """Mark rows as deleted."""
        for row in rows:
            del self.row_of[self.names[row]]
            self.names[row] = ""
            self.deleted.rows[row] = True

    def without_deleted(self) -> Table:
        """The rows whose photo is there, moved together; without their arrays."""
        living = np.flatnonzero(~self.deleted.rows)
        names = [self.names[row] for row in living]
        return Table(
            names=names,
            stamps=Growing(self.stamps.rows[living]),
            origins=[self.origins[row] for row in living],
            deleted=Growing(np.zeros(len(living), bool)),
            broken=self.broken,
            row_of={name: row for row, name in enumerate(names)},
        )


def blocks(rows: np.ndarray, chosen: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Rows, or the chosen ones, block by block."""
    count = len(rows) if chosen is None else len(chosen)
    step = max(1, BLOCK_BYTES // max(1, rows.itemsize * rows.shape[1]))
    for start in range(0, count, step):
        yield rows[start : start + step] if chosen is None else rows[chosen[start : start + step]]


def stamp_of(path: str) -> Stamp:
    """A file's size and time of modification.

    Raises:
        OSError: there is no such file.
    """
    stat = os.stat(path)  # noqa: PTH116 - building a Path for each of many files costs more than the stat
    return stat.st_size, stat.st_mtime_ns
