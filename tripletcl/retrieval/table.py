"""The rows of an index in memory, and their comparison with the photos on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import overload

import numpy as np

from tripletcl.files import FileStamp, stat_file
from tripletcl.retrieval.details import DETAILS_TYPE, unread_rows

VECTORS, FEATURES, DETAILS = "vectors", "features", "details"
"""The arrays of a table: `[rows, 3 * D]`, each unit's block of length 1; `[rows, C]`, where features are kept; and
`[rows]`, what the photos' files say about them."""

TYPES = {VECTORS: np.dtype(np.float32), FEATURES: np.dtype(np.float32), DETAILS: DETAILS_TYPE}
"""The type of a number, or of a row, of each array."""

UNKNOWN = FileStamp(-1, -1)
"""The stamp of a missing file."""

Origin = tuple[str | None, int | None]
"""Fingerprint and stage of the model that encoded a photo."""

Broken = tuple[FileStamp, str]
"""A photo that cannot be read: its stamp, and the reason."""

BLOCK_BYTES = 2**26
"""Size of the blocks in which rows are rewritten: an index may be larger than memory."""


class GrowingArray:
    """An array that rows are appended to, at a cost that does not depend on the number of rows.

    Args:
        rows: The first rows; never written to, so it may be a read-only memory map.
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
        """Add rows at the end."""
        count = self._count + len(block)
        if count > len(self._buffer):
            larger = np.empty((max(count, 2 * self._count), *block.shape[1:]), block.dtype)
            larger[: self._count] = self.rows
            self._buffer = larger
        self._buffer[self._count : count] = block
        self._count = count


class Paths(Sequence[Path]):
    """File names as paths, which are made on access: a million of them take half a gigabyte."""

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
    """The photo, origin and vectors of each row.

    A removed photo leaves its row, marked in `deleted`.

    Attributes:
        names: The path of each row's photo; empty where it was removed.
        stamps: `[rows, 2]` int64.
        origins: One for each row.
        deleted: `[rows]` bool.
        arrays: VECTORS, FEATURES and DETAILS, `[rows, ...]` each, as far as there are any.
        cameras: The cameras that the details name by their position.
        broken: The photos that cannot be read, by name.
        row_of: The row of each photo, by name.
    """

    names: list[str] = field(default_factory=list)
    stamps: GrowingArray = field(default_factory=lambda: GrowingArray(np.zeros((0, 2), np.int64)))
    origins: list[Origin] = field(default_factory=list)
    deleted: GrowingArray = field(default_factory=lambda: GrowingArray(np.zeros(0, bool)))
    arrays: dict[str, GrowingArray] = field(default_factory=dict)
    cameras: list[str] = field(default_factory=list)
    broken: dict[str, Broken] = field(default_factory=dict)
    row_of: dict[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """The number of rows, those of removed photos included."""
        return len(self.names)

    @property
    def vectors(self) -> np.ndarray:
        """`[rows, 3 * D]`; of width 0 before the first photo."""
        return self.arrays[VECTORS].rows if VECTORS in self.arrays else np.zeros((0, 0), np.float32)

    @property
    def details(self) -> np.ndarray:
        """`[rows]` of DETAILS_TYPE."""
        return self.arrays[DETAILS].rows if DETAILS in self.arrays else unread_rows(self.rows)

    def stamp(self, row: int) -> FileStamp:
        """The stamp of a row."""
        return FileStamp(*self.stamps.rows[row].tolist())

    def stamp_of(self, name: str) -> FileStamp | None:
        """The stamp that a photo had when it was read, or could not be; None for one that is not known."""
        if name in self.row_of:
            return self.stamp(self.row_of[name])
        return self.broken[name][0] if name in self.broken else None

    def append(self, photos: Sequence[tuple[str, FileStamp]], origin: Origin) -> None:
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
        """Copy the rows that are not deleted, without their arrays."""
        living = np.flatnonzero(~self.deleted.rows)
        names = [self.names[row] for row in living]
        return Table(
            names=names,
            stamps=GrowingArray(self.stamps.rows[living]),
            origins=[self.origins[row] for row in living],
            deleted=GrowingArray(np.zeros(len(living), bool)),
            cameras=self.cameras,
            broken=self.broken,
            row_of={name: row for row, name in enumerate(names)},
        )


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def blocks_of(rows: np.ndarray, count: int | None = None) -> Iterator[slice]:
    """Slices of about BLOCK_BYTES that cover the rows of an array, or `count` rows of the same size."""
    return blocks(len(rows) if count is None else count, max(1, BLOCK_BYTES // max(1, rows[:1].nbytes)))


# --- photos on disk --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Changes:
    """The result of a change of an index.

    Attributes:
        added: New photos.
        changed: Photos that were encoded again, because their file has changed.
        removed: Photos whose file is missing.
        skipped: Photos that cannot be read, each with the reason; earlier ones included.
    """

    added: list[Path] = field(default_factory=list)
    changed: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)


def changed_photos(table: Table, names: Sequence[str]) -> list[str]:
    """Those of some photos that are new, or whose size or time of modification differs from the table's."""
    return [name for name in names if not _is_known(table, name)]


def photos_below(table: Table, folder: Path) -> list[str]:
    """The photos of a table, readable or not, that are below a folder."""
    return [name for name in (*table.row_of, *table.broken) if Path(name).is_relative_to(folder)]


def is_missing(path: str | Path) -> bool:
    """True if there is surely no such file; False for one in a folder without permission, or on a broken share."""
    try:
        stat_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        pass
    return False


def stamp_of(path: str) -> FileStamp:
    """A file's size and time of modification; UNKNOWN for a missing file."""
    try:
        return stat_file(path)
    except OSError:
        return UNKNOWN


def _is_known(table: Table, name: str) -> bool:
    known = table.stamp_of(name)
    return (
        known is not None and known == stamp_of(name) != UNKNOWN
    )  # a missing file is decoded again, which gives the reason
