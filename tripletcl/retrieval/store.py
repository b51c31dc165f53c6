"""An index on disk: a database that describes it, and raw files with its vectors.

INDEX/index.db          the description, the files with their sizes and checksums, deleted rows, broken photos, cameras
INDEX/vectors-1.f32     float32 `[rows, 3 * D]` without a header; vectors-1.f16 in float16
INDEX/features-1.f32    float32 `[rows, C]`, where features are kept; features-1.f16 in float16
INDEX/photos-1.rows     a record of PHOTO_TYPE for each row: where its path is, the file's stamp, date, camera, place
INDEX/names-1.text      the paths, each with a zero byte behind it
INDEX/structure-2       a graph or IVF-PQ over the vectors; derived, and built again where it is missing
INDEX/lock              present while a process writes

Rows are only appended, and synced to disk before the transaction that names them. Bytes after the known size are those
of a killed writer, and the next writer overwrites them. New rows for all photos go into a new file, and one transaction
switches to it; the next writer removes files that the database does not name. So a process may be killed at any moment,
and the index is in the state of its last transaction. Whatever is written later, a reader's copy does not change.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import re
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tripletcl.errors import UserError
from tripletcl.files import RACE_NS, locked, sync_to_disk, translate_errors, write_atomically
from tripletcl.retrieval.database import (
    DATABASE,
    FORMAT,
    STRUCTURE,
    About,
    Database,
    StoredFile,
    damaged,
    file_name,
    open_for_read,
    open_for_write,
)
from tripletcl.retrieval.table import FEATURES, NAMES, PHOTOS, VECTORS, Broken, GrowingArray, Table, row_blocks

log = logging.getLogger("tripletcl")

LOCK = "lock"

NUMBERED = re.compile(rf"\.?({VECTORS}|{FEATURES}|{PHOTOS}|{NAMES}|{STRUCTURE})-(\d+)\b.*")
"""Names of the index's files, also of one that a killed writer had not yet renamed."""

CHECKSUM_BYTES = 2**24
"""Bytes read at a time for a checksum."""


@dataclass
class Contents:
    """An index as read from disk.

    Attributes:
        about: Its description.
        table: Its rows.
        structure: The file of the structure; None where there is none, or a damaged one.
        covered: Number of rows that the structure covers.
    """

    about: About
    table: Table
    structure: Path | None
    covered: int


class Writer:
    """Changes an index on disk, by one transaction a method; `open_writer` creates it and holds the index's lock.

    Attributes:
        files: The files of the index, by role.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder, self._database = folder, database
        self._about, self.files = database.about(), database.files()
        numbers = [int(match[2]) for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name))]
        self._number = max(numbers, default=0)  # of the last new file: no name is used twice

    def read(self) -> Contents:
        """Read the index."""
        self._sweep()
        return _read_contents(self._folder, self._database)

    def modernise(self) -> None:
        """Bring an index of an older format to the present one, whose photos are in files; its rows stay."""
        if self._database.format == FORMAT:
            return
        contents = self.read()
        arrays = {role: row_blocks(contents.table.arrays[role].rows) for role in (PHOTOS, NAMES)}
        self.rewrite(contents.about, contents.table, arrays, [VECTORS, FEATURES, STRUCTURE])

    def rows(self, role: str) -> GrowingArray:
        """Map the rows of a file into memory."""
        return GrowingArray(memory_map(self._folder, self.files[role]))

    def append(
        self,
        names: Sequence[str],
        arrays: Mapping[str, np.ndarray],
        replaced: Sequence[int],
        broken: Mapping[str, Broken],
        cameras: Sequence[str],
    ) -> None:
        """Append photos, delete the rows that they replace, and add those that cannot be read.

        Args:
            names: Their paths.
            arrays: Their rows in each file, by role; missing files are created.
            replaced: Former rows of these photos.
            broken: Photos that cannot be read.
            cameras: All cameras that the records name by their position.
        """
        files = {
            role: append_rows(self._folder, self.files.get(role) or self._new_file(role, self._about), [rows])
            for role, rows in arrays.items()
        }
        with self._transaction(files=self.files | files) as database:
            database.write_deleted(replaced)
            database.delete_broken(names)
            database.write_broken(broken)
            database.write_cameras(cameras)

    def remove(self, rows: Sequence[int], broken: Sequence[str] = ()) -> None:
        """Delete photos, whose rows stay in the files until `rewrite`, and broken photos."""
        with self._transaction() as database:
            database.write_deleted(rows)
            database.delete_broken(broken)

    def describe(self, about: About) -> None:
        """Write the description of the index if it has changed."""
        if about != self._about:
            with self._transaction(about):
                pass

    def rewrite(
        self, about: About, table: Table, arrays: Mapping[str, Iterable[np.ndarray]], kept: Sequence[str] = ()
    ) -> None:
        """Replace the whole index, by new files and one transaction.

        Args:
            about: The new description.
            table: The new photos, without their arrays.
            arrays: The rows of each new file, by role and block by block.
            kept: Roles whose file stays.
        """
        try:
            files = {role: self.files[role] for role in kept if role in self.files}
            files |= {
                role: append_rows(self._folder, self._new_file(role, about), rows) for role, rows in arrays.items()
            }
            with self._transaction(about, files) as database:
                database.delete_all()
                database.write_deleted(np.flatnonzero(table.deleted.rows).tolist())
                database.write_broken(table.broken)
                database.write_cameras(table.cameras)
        finally:
            self._sweep()

    def set_structure(self, about: About, save: Callable[[Path], object] | None = None, rows: int = 0) -> None:
        """Replace the structure.

        Args:
            about: The new description.
            save: Writes the structure to a path; None for an index without one.
            rows: Number of rows that it covers.
        """
        files = {role: file for role, file in self.files.items() if role != STRUCTURE}
        if save is not None:
            path = self._folder / self._new_file(STRUCTURE, about).name
            write_atomically(path, save)
            stat = path.stat()
            files[STRUCTURE] = StoredFile(
                path.name, rows, 0, stat.st_size, _crc32(path, stat.st_size), stat.st_mtime_ns
            )
        with self._transaction(about, files):
            pass
        self._sweep()

    @contextmanager
    def _transaction(
        self, about: About | None = None, files: Mapping[str, StoredFile] | None = None
    ) -> Iterator[Database]:
        """A transaction that also replaces the description and the files, where they are given."""
        with self._database.transaction():
            yield self._database
            if about is not None:
                self._database.write_about(about)
            if files is not None:
                self._database.write_files(files)
        self._about = self._about if about is None else dataclasses.replace(about)
        self.files = self.files if files is None else dict(files)

    def _new_file(self, role: str, about: About) -> StoredFile:
        self._number += 1
        return StoredFile(file_name(role, self._number, about.precision))

    def _sweep(self) -> None:
        """Remove files that the database does not name."""
        names = {file.name for file in self.files.values()}
        for path in self._folder.iterdir():
            if path.name not in names and NUMBERED.fullmatch(path.name):
                path.unlink(missing_ok=True)


@contextmanager
def open_writer(folder: Path) -> Iterator[Writer]:
    """Open an index for writing, or create an empty one, and lock other writers out.

    Raises:
        UserError: another process writes it, it is not writable, or it has another format.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, and an index needs a folder")
    absent = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        with locked(folder / LOCK, busy=f"another process is writing the index in {folder}"):
            _check_not_emptied(folder)
            database, new = open_for_write(folder)
            with closing(database):
                try:
                    writer = Writer(folder, database)
                    writer.modernise()
                    yield writer
                except BaseException:
                    if new and not database.has_photos():
                        (folder / DATABASE).unlink()
                    raise
                database.seal()
    except BaseException:
        with suppress(OSError):  # a folder with photos in it stays
            for each in absent:
                each.rmdir()
        raise


def _check_not_emptied(folder: Path) -> None:
    """Refuse an empty database next to rows: its first transaction comes before them."""
    path = folder / DATABASE
    emptied = path.exists() and not path.stat().st_size
    if emptied and any(NUMBERED.fullmatch(other.name) for other in folder.iterdir()):
        raise damaged(folder, f"{DATABASE} is empty")


@contextmanager
def open_reader(folder: Path) -> Iterator[Contents]:
    """Read an index; no writer can replace it within the block."""
    with open_for_read(folder) as database:
        yield _read_contents(folder, database)


def check_index(folder: Path) -> About:
    """Compare every byte of an index with its checksums, which takes as long as reading it.

    Opening an index does so for its database and structure, and for the other files if they have another time of
    modification than when they were written.

    Raises:
        UserError: a file has changed since it was written.
    """
    with open_for_read(folder) as database:
        contents = _read_contents(folder, database)
        for file in database.files().values():
            if not is_intact(folder, file, trust_time=False):
                raise damaged(folder, f"{file.name} has changed since it was written")
        return contents.about


def _read_contents(folder: Path, database: Database) -> Contents:
    about, files, table = database.read()
    rows = files[VECTORS].rows if VECTORS in files else 0
    for role in (VECTORS, FEATURES, PHOTOS, NAMES):
        if role not in files:
            continue
        count = files[role].rows if role == NAMES else rows
        if not files[role].holds_rows(count) or not is_intact(folder, files[role]):
            raise damaged(folder, f"{files[role].name} has changed since it was written")
        table.arrays[role] = GrowingArray(memory_map(folder, files[role]))
    if rows and not {PHOTOS, NAMES} <= set(table.arrays):
        raise damaged(folder, "it names no files of photos")
    structure = _structure_path(folder, files)
    return Contents(about, table, structure, files[STRUCTURE].rows if structure else 0)


def _structure_path(folder: Path, files: Mapping[str, StoredFile]) -> Path | None:
    """The file of the structure; None for a damaged one, since it is derived and the vectors answer without it."""
    if STRUCTURE not in files:
        return None
    path = folder / files[STRUCTURE].name
    if not is_intact(folder, files[STRUCTURE]):
        log.warning("%s is damaged: %s is searched row by row until it is built again", path, folder)
        return None
    return path


# --- files of rows ---------------------------------------------------------------------------------------------------


def append_rows(folder: Path, file: StoredFile, arrays: Iterable[np.ndarray]) -> StoredFile:
    """Write rows `[n, ...]`, block by block, after those that count, and sync them to disk.

    Returns:
        The file with these rows; they count only once the database says so.

    Raises:
        UserError: the disk is full, or the folder is not writable.
    """
    path = folder / file.name
    with translate_errors(path), path.open("r+b" if file.size else "wb") as stream:
        stream.seek(file.size)
        rows, width, size, crc32 = file.rows, file.width, file.size, file.crc32
        for array in arrays:
            data = np.ascontiguousarray(array, file.type).reshape(-1).view(np.uint8).data
            stream.write(data)
            rows, width, size = rows + len(array), math.prod(array.shape[1:]), size + len(data)
            crc32 = zlib.crc32(data, crc32)
        stream.truncate()  # a killed writer may have written more
        stream.flush()
        os.fsync(stream.fileno())
        mtime_ns = os.fstat(stream.fileno()).st_mtime_ns
    if not file.size:
        sync_to_disk(folder)
    return StoredFile(file.name, rows, width, size, crc32, mtime_ns)


def memory_map(folder: Path, file: StoredFile) -> np.ndarray:
    """Map the rows of a file into memory."""
    if not file.size:
        return np.zeros(file.shape, file.type)
    return np.memmap(folder / file.name, file.type, "r", shape=file.shape).view(np.ndarray)


def is_intact(folder: Path, file: StoredFile, trust_time: bool = True) -> bool:
    """True if the bytes that count are those that were written.

    With `trust_time` the checksum is computed only if the time of modification has changed, or is too recent.
    """
    path = folder / file.name
    try:
        stat = path.stat()
        if stat.st_size < file.size:
            return False
        trusted = trust_time and stat.st_mtime_ns == file.mtime_ns and time.time_ns() - stat.st_mtime_ns > RACE_NS
        return trusted or _crc32(path, file.size) == file.crc32
    except OSError:
        return False


def _crc32(path: Path, size: int) -> int:
    """CRC-32 of the first bytes of a file."""
    crc32 = 0
    with path.open("rb") as stream:
        for start in range(0, size, CHECKSUM_BYTES):
            crc32 = zlib.crc32(stream.read(min(CHECKSUM_BYTES, size - start)), crc32)
    return crc32
