"""The rows of an index in memory, and their comparison with the photos on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.data.media import HEIF, INSTALL_MEDIA, RAW, VIDEO, media_suffixes
from tripletcl.data.metadata import Metadata
from tripletcl.files import FileStamp, stat_file
from tripletcl.retrieval.details import PHOTO_TYPE, PhotoDetails, photo_details, set_details, unread_records
from tripletcl.retrieval.names import Names, name_bytes, name_hash
from tripletcl.retrieval.shared_block import Unfolded

VECTORS, FEATURES, PHOTOS, NAMES = "vectors", "features", "photos", "names"
"""The arrays of a table: `[rows, 3 * D]`, each unit's block of length 1; `[rows, C]`, where features are kept; the
`[rows]` records of the photos; and the bytes of their paths."""

TYPES = {VECTORS: np.dtype(np.float32), FEATURES: np.dtype(np.float32), PHOTOS: PHOTO_TYPE, NAMES: np.dtype(np.uint8)}
"""The type of a number, or of a row, of each array; vectors and features may be float16 (`precision`)."""

UNKNOWN = FileStamp(-1, -1)
"""The stamp of a missing file."""

Broken = tuple[FileStamp, str]
"""A photo that cannot be read: its stamp, and the reason."""

BLOCK_BYTES = 2**26
"""Size of the blocks in which rows are rewritten: an index may be larger than memory."""

NAME_BLOCK = 2**16
"""Photos whose records and paths are rewritten at a time."""

RECENT = 100_000
"""New photos that are remembered by their path, before all hashes are sorted again."""


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

    def __iter__(self) -> Iterator[Path]:
        return map(Path, self._names)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __repr__(self) -> str:
        return repr(list(self))


@dataclass
class Table:
    """The photo and the vectors of each row. Nothing in it grows with the number of rows but arrays.

    A removed photo leaves its row, marked in `deleted`.

    Attributes:
        arrays: VECTORS, FEATURES, PHOTOS and NAMES, as far as there are any.
        deleted: `[rows]` bool.
        broken: The photos that cannot be read, by name.
        cameras: The cameras that the records name by their position.
        shared: Number of the first numbers of each unit that VECTORS have once (`shared_block`).
    """

    arrays: dict[str, GrowingArray] = field(default_factory=dict)
    deleted: GrowingArray = field(default_factory=lambda: GrowingArray(np.zeros(0, bool)))
    broken: dict[str, Broken] = field(default_factory=dict)
    cameras: list[str] = field(default_factory=list)
    shared: int = 0
    _sorted: tuple[np.ndarray, np.ndarray] | None = field(default=None, init=False)
    _recent: dict[str, int] = field(default_factory=dict, init=False)
    _columns: dict[str, np.ndarray] = field(default_factory=dict, init=False)

    @property
    def rows(self) -> int:
        """The number of rows, those of removed photos included."""
        return len(self.deleted)

    @property
    def living(self) -> int:
        """The number of photos."""
        return self.rows - int(self.deleted.rows.sum())

    @property
    def vectors(self) -> np.ndarray:
        """`[rows, 3 * D]` as they are stored, shared numbers once; of width 0 before the first photo."""
        return self.arrays[VECTORS].rows if VECTORS in self.arrays else np.zeros((0, 0), np.float32)

    @property
    def width(self) -> int:
        """3 * D; 0 before the first photo."""
        stored: int = self.vectors.shape[1]
        return stored and stored + (len(UNITS) - 1) * self.shared

    @property
    def unfolded(self) -> Unfolded:
        """`[rows, 3 * D]` float32, read block by block."""
        return Unfolded(self.vectors, self.shared)

    @property
    def features(self) -> np.ndarray | None:
        """`[rows, C]`; None where they are not kept."""
        return self.arrays[FEATURES].rows if FEATURES in self.arrays else None

    def read(self, numbers: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """The vectors of some rows, `[n, 3 * D]` float32."""
        return self.unfolded[numbers]

    @property
    def photos(self) -> np.ndarray:
        """`[rows]` of PHOTO_TYPE."""
        return self.arrays[PHOTOS].rows if PHOTOS in self.arrays else np.zeros(0, PHOTO_TYPE)

    def column(self, name: str) -> np.ndarray:
        """A field of all records, `[rows]`; it is copied once, since records are read ten times as slowly."""
        if len(self._columns.get(name, ())) != self.rows:
            self._columns[name] = np.ascontiguousarray(self.photos[name])
        return self._columns[name]

    @property
    def names(self) -> Names:
        """The path of each row's photo; empty where it was removed."""
        text = self.arrays[NAMES].rows if NAMES in self.arrays else np.zeros(0, np.uint8)
        return Names(text, self.photos, self.deleted.rows)

    def details(self, rows: Sequence[int]) -> list[PhotoDetails]:
        """The details of some rows."""
        names, photos = self.names, self.photos
        return [photo_details(names[row], photos[row], self.cameras) for row in rows]

    def unread(self, rows: Sequence[int]) -> list[int]:
        """Those of some rows whose details were never read from their files."""
        return [row for row in rows if not self.photos["read"][row]]

    def stamp(self, row: int) -> FileStamp:
        """The stamp of a row."""
        return FileStamp(*self.photos[["size", "mtime_ns"]][row].item())

    def stamps_of(self, names: Sequence[str]) -> list[FileStamp | None]:
        """The stamps that photos had when they were read, or could not be; None for each that is not known."""
        rows = self.find(names).tolist()
        broken = (self.broken[name][0] if name in self.broken else None for name in names)
        return [self.stamp(row) if row >= 0 else stamp for row, stamp in zip(rows, broken, strict=True)]

    def find(self, names: Sequence[str]) -> np.ndarray:
        """The row of each photo, `[n]`; -1 for one that is not in the table."""
        hashes, order = self._sort()
        wanted = np.array([name_hash(name) for name in names], np.uint64)
        first, end = (np.searchsorted(hashes, wanted, side).tolist() for side in ("left", "right"))
        known = self.names
        rows = [
            self._recent.get(name, next((row for row in order[a:b].tolist() if known[row] == name), -1))
            for name, a, b in zip(names, first, end, strict=True)
        ]
        return np.array(rows, np.int64)

    def row_of(self, name: str) -> int | None:
        """The row of a photo; None for one that is not in the table."""
        row = int(self.find([name])[0])
        return None if row < 0 else row

    def _sort(self) -> tuple[np.ndarray, np.ndarray]:
        """The hashes of all paths but recent ones in order, and the row of each."""
        if self._sorted is None or len(self._recent) > RECENT:
            hashes = self.photos["hash"]
            order = np.argsort(hashes, kind="stable")
            self._sorted, self._recent = (hashes[order], order), {}
        return self._sorted

    def new_photos(
        self, photos: Sequence[tuple[str, FileStamp]], metadata: Sequence[Metadata | None]
    ) -> dict[str, np.ndarray]:
        """The rows of new photos in PHOTOS and NAMES, unread for None; new cameras are added to `cameras`."""
        names = [name for name, _ in photos]
        text, records = name_bytes(names), unread_records(len(names))
        before = len(self.arrays[NAMES]) if NAMES in self.arrays else 0
        ends = np.flatnonzero(text == 0)
        records["start"] = before + np.concatenate([[0], ends[:-1] + 1])[: len(names)]
        records["length"] = before + ends - records["start"]
        records["hash"] = [name_hash(name) for name in names]
        records["size"], records["mtime_ns"] = np.array([stamp for _, stamp in photos], np.int64).reshape(-1, 2).T
        set_details(records, metadata, self.cameras)
        return {PHOTOS: records, NAMES: text}

    def append(self, names: Sequence[str]) -> None:
        """Add rows, whose arrays are those of `new_photos`."""
        if self._sorted is None:
            self._sort()
        self._recent.update(zip(names, range(self.rows, self.rows + len(names)), strict=True))
        self.deleted.append(np.zeros(len(names), bool))
        for name in names:
            self.broken.pop(name, None)

    def remove(self, rows: Iterable[int]) -> None:
        """Mark rows as deleted."""
        names = self.names
        for row in rows:
            self._recent.pop(names[row], None)
            self.deleted.rows[row] = True

    def without_deleted(self) -> tuple[Table, dict[str, Iterator[np.ndarray]]]:
        """A table of the rows that are not deleted, without its arrays, and the blocks of its PHOTOS and NAMES."""
        living = np.flatnonzero(~self.deleted.rows)
        table = Table(deleted=GrowingArray(np.zeros(len(living), bool)), broken=self.broken, cameras=self.cameras)
        return table, {PHOTOS: self._living_photos(living), NAMES: self._living_names(living)}

    def _living_photos(self, living: np.ndarray) -> Iterator[np.ndarray]:
        start = 0
        for block in blocks(len(living), NAME_BLOCK):
            records = self.photos[living[block]]
            ends = np.cumsum(records["length"] + np.int64(1))
            records["start"] = start + ends - records["length"] - 1
            start += int(ends[-1])
            yield records

    def _living_names(self, living: np.ndarray) -> Iterator[np.ndarray]:
        names = self.names
        for block in blocks(len(living), NAME_BLOCK):
            yield name_bytes([names[row] for row in living[block].tolist()])


def blocks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` rows that cover `count` rows."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def blocks_of(rows: np.ndarray, count: int | None = None) -> Iterator[slice]:
    """Slices of about BLOCK_BYTES that cover the rows of an array, or `count` rows of the same size."""
    return blocks(len(rows) if count is None else count, max(1, BLOCK_BYTES // max(1, rows[:1].nbytes)))


def row_blocks(rows: np.ndarray, numbers: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Rows, or those with some numbers, block by block."""
    for block in blocks_of(rows, None if numbers is None else len(numbers)):
        yield rows[block if numbers is None else numbers[block]]


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


class Known(Protocol):
    """The photos that an index knows."""

    @property
    def names(self) -> Sequence[str]:
        """The path of each row's photo; empty where it was removed."""

    @property
    def broken(self) -> Mapping[str, Broken]:
        """The photos that cannot be read, by name."""

    def stamps_of(self, names: Sequence[str]) -> list[FileStamp | None]:
        """Read the stamps that photos had; None for each that is not known."""


def changed_photos(table: Known, names: Sequence[str]) -> list[str]:
    """Those of some photos that are new, or whose size or time of modification differs from the table's.

    Those that lacked a package are new once it is installed.
    """
    again = {name for name, (_, reason) in table.broken.items() if reason.endswith(INSTALL_MEDIA)}
    again = again if again and media_suffixes() >= HEIF | RAW | VIDEO else set()
    stamps = zip(names, table.stamps_of(names), strict=True)
    return [name for name, stamp in stamps if name in again or not _is_known(stamp, name)]


def photos_below(table: Known, folder: Path) -> list[str]:
    """The photos of a table, readable or not, that are below a folder."""
    living = (name for name in table.names if name)
    return [name for name in (*living, *table.broken) if Path(name).is_relative_to(folder)]


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


def _is_known(known: FileStamp | None, name: str) -> bool:
    return known is not None and known == stamp_of(name) != UNKNOWN  # a missing one is decoded again: for the reason
