"""Files of rows that are only appended to, and how far what is in them counts."""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tripletcl.files import sync_to_disk, translate_errors

RACE_NS = 2_000_000_000
"""A file changed again this soon after it was looked at may keep its time stamp."""

CHECKED_BYTES = 2**24
"""Read at a time for a checksum."""


@dataclass(frozen=True)
class Stored:
    """A file as the database knows it.

    Attributes:
        name: Within the folder.
        rows: How many it holds or, if it is a structure, covers.
        width: Numbers in a row.
        size: Bytes; what lies behind them does not count.
        crc32: Of these bytes.
        mtime_ns: Of the file, when it was written.
    """

    name: str
    rows: int = 0
    width: int = 0
    size: int = 0
    crc32: int = 0
    mtime_ns: int = 0


def extended(folder: Path, file: Stored, arrays: Iterable[np.ndarray]) -> Stored:
    """Write rows `[n, width]` float32, block by block, behind those that count, and sync them to disk.

    Returns:
        The file with these rows; until that is written down somewhere they do not count.

    Raises:
        UserError: the disk is full, or the folder may not be written.
    """
    path = folder / file.name
    with translate_errors(path), path.open("r+b" if file.size else "wb") as stream:
        stream.seek(file.size)
        rows, width, size, checksum = file.rows, file.width, file.size, file.crc32
        for array in arrays:
            data = np.ascontiguousarray(array, np.float32).data.cast("B") if array.size else b""
            stream.write(data)
            rows, width, size = rows + len(array), array.shape[1], size + len(data)
            checksum = zlib.crc32(data, checksum)
        stream.truncate()  # a killed writer may have come further
        stream.flush()
        os.fsync(stream.fileno())
        mtime_ns = os.fstat(stream.fileno()).st_mtime_ns
    if not file.size:
        sync_to_disk(folder)
    return Stored(file.name, rows, width, size, checksum, mtime_ns)


def measured(path: Path, rows: int) -> Stored:
    """A whole file of another form as it is now, which covers so many rows."""
    stat = path.stat()
    return Stored(path.name, rows, 0, stat.st_size, _checksum(path, stat.st_size), stat.st_mtime_ns)


def mapped(folder: Path, file: Stored) -> np.ndarray:
    """The rows of a file, `[rows, width]`, mapped into memory."""
    if not file.size:
        return np.zeros((0, file.width), np.float32)
    return np.memmap(folder / file.name, np.float32, "r", shape=(file.rows, file.width)).view(np.ndarray)


def holds_rows(file: Stored, rows: int) -> bool:
    """Is a file's size that of so many rows?"""
    return file.rows == rows and file.size == rows * file.width * np.dtype(np.float32).itemsize


def is_whole(folder: Path, file: Stored) -> bool:
    """Is a file as it was written, as far as it counts?

    One whose time stamp has not changed since is trusted, unless that was a moment ago.
    """
    path = folder / file.name
    try:
        stat = path.stat()
        if stat.st_size < file.size:
            return False
        trusted = stat.st_mtime_ns == file.mtime_ns and time.time_ns() - stat.st_mtime_ns > RACE_NS
        return trusted or _checksum(path, file.size) == file.crc32
    except OSError:
        return False


def _checksum(path: Path, size: int) -> int:
    """CRC-32 of the first bytes of a file."""
    checksum = 0
    with path.open("rb") as stream:
        for start in range(0, size, CHECKED_BYTES):
            checksum = zlib.crc32(stream.read(min(CHECKED_BYTES, size - start)), checksum)
    return checksum
