"""The database of an index, in SQLite: its description, its files and its photos.

It uses a rollback journal and no write-ahead log. A database at rest then needs no second file, so any number of
processes may read it, also in a folder that is not writable. A writer that is killed within a commit leaves a journal,
which the next process that opens the database rolls back.

SQLite has no checksums. A writer that is done stores the SHA-256 of all rows, and readers compare it. Every other
transaction removes it: after a writer that was killed nothing is compared until the next one is done.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tripletcl.errors import UserError
from tripletcl.files import FileStamp, content_digest, translate_errors
from tripletcl.files.documents import RESTORE
from tripletcl.retrieval import older_format
from tripletcl.retrieval.precision import PRECISIONS
from tripletcl.retrieval.table import FEATURES, NAMES, PHOTOS, TYPES, VECTORS, Broken, GrowingArray, Table

FORMAT, FORMATS = 5, (2, 3, 5)
"""The format that is written, and those that are read: 2 and 3 have the photos in the database (`older_format`)."""
DIGEST = "sha256"
STRUCTURE = "structure"
ROLES = (VECTORS, FEATURES, PHOTOS, NAMES, STRUCTURE)
"""What a file of the index holds."""
SUFFIXES = {PHOTOS: ".rows", NAMES: ".text"}
NUMBERS = {"float32": ".f32", "float16": ".f16"}
"""The suffix of vectors and features by their precision."""
DATABASE, JOURNAL = "index.db", "index.db-journal"
OLD_HEADER = "index.json"
"""The file that format 1 had instead of the database."""

BUSY_SECONDS = 60.0
"""Longest wait of a commit for readers that are loading, and of readers for a commit."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS files (role TEXT PRIMARY KEY, name TEXT NOT NULL, rows INTEGER NOT NULL,
    width INTEGER NOT NULL, size INTEGER NOT NULL, crc32 INTEGER NOT NULL, mtime_ns INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS deleted (row INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS broken (path PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cameras (number INTEGER PRIMARY KEY, name TEXT NOT NULL);
"""


def check_precision(precision: str) -> None:
    """Refuse a precision that there is not.

    Raises:
        UserError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise UserError(f"there is no precision {precision!r} of vectors; allowed are {', '.join(PRECISIONS)}")


@dataclass
class About:
    """The description of an index.

    Attributes:
        model: The fingerprint of the model whose queries it answers; None where it is unknown.
        stage: That model's stage, where it belongs to a run.
        trunk: The fingerprint of the trunk that computed the features; None where none are kept.
        asked: The requested kind, or "auto".
        kind: The actual kind.
        why: The reason for this kind, in a sentence.
        precision: Of the stored vectors and features, "float32" or "float16".
        shared: First numbers of each unit that are stored once for all three (`shared_block`).
    """

    model: str | None = None
    stage: int | None = None
    trunk: str | None = None
    asked: str = "auto"
    kind: str = "flat"
    why: str = "flat: there is no photo yet"
    precision: str = "float32"
    shared: int = 0

    def entries(self) -> dict[str, Any]:
        """Its fields as they are stored; LATER ones only if they are not the default, as in indexes without them."""
        entries = dataclasses.asdict(self)
        return {name: value for name, value in entries.items() if name not in LATER or LATER[name] != value}


LATER: dict[str, Any] = {"precision": "float32", "shared": 0}
"""Fields of the description that the first indexes of this format lack, and their defaults."""


@dataclass(frozen=True)
class StoredFile:
    """A file of the index as the database describes it.

    Attributes:
        name: Within the folder.
        rows: Number of rows that it holds or, for a structure, covers.
        width: Numbers in a row.
        size: Bytes that count; more may follow them.
        crc32: Of these bytes.
        mtime_ns: Of the file, when it was written.
    """

    name: str
    rows: int = 0
    width: int = 0
    size: int = 0
    crc32: int = 0
    mtime_ns: int = 0

    @property
    def role(self) -> str:
        """The role that its name says."""
        return self.name.partition("-")[0]

    @property
    def type(self) -> np.dtype:
        """The type of its numbers, or of its rows."""
        return np.dtype(np.float16) if self.name.endswith(NUMBERS["float16"]) else TYPES[self.role]

    @property
    def shape(self) -> tuple[int, ...]:
        """`[rows, width]` numbers, or `[rows]` records or bytes."""
        return (self.rows, self.width) if self.role in (VECTORS, FEATURES) else (self.rows,)

    def holds_rows(self, rows: int) -> bool:
        """True if the size is that of a number of rows."""
        return self.rows == rows and self.size == rows * self.width * self.type.itemsize


class Database:
    """The open database of the index in a folder; from `open_for_read` or `open_for_write`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder, self._connection = folder, connection

    def close(self) -> None:
        """Close it, and release the read lock."""
        self._connection.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def is_empty(self) -> bool:
        """True if nothing was ever committed to it."""
        return not self._connection.execute("SELECT name FROM sqlite_master").fetchone()

    def has_photos(self) -> bool:
        """True if it holds any photo."""
        return self._connection.execute("SELECT role FROM files").fetchone() is not None

    def about(self) -> About:
        """Read the description of the index.

        Raises:
            UserError: there is no index, it has another format, or it is damaged.
        """
        with _translate_damage(self.folder):
            if self.is_empty():
                raise _missing(self.folder)  # its first writer was killed before the first commit
            meta = dict(self._connection.execute("SELECT key, value FROM meta"))
            if meta["format"] not in FORMATS:
                raise UserError(
                    f"the index in {self.folder} has format {meta['format']}, and this version reads "
                    f"{', '.join(map(str, FORMATS[:-1]))} and {FORMATS[-1]}: use the version that wrote it, or build "
                    "it again in another folder"
                )
            meta = LATER | meta
            check_precision(meta["precision"])
            return About(**{field.name: meta[field.name] for field in dataclasses.fields(About)})

    def files(self) -> dict[str, StoredFile]:
        """Read the files of the index, by role."""
        with _translate_damage(self.folder):
            return {role: _stored_file(role, *rest) for role, *rest in self._connection.execute("SELECT * FROM files")}

    @property
    def format(self) -> int:
        """The format that it was written in."""
        return self._connection.execute("SELECT value FROM meta WHERE key = 'format'").fetchone()[0]

    def read(self) -> tuple[About, dict[str, StoredFile], Table]:
        """Read everything, and compare it with its SHA-256; the arrays of the table are those of an older format only.

        Raises:
            UserError: it has changed since its last writer was done, other than by a writer.
        """
        about, files = self.about(), self.files()
        rows = files[VECTORS].rows if VECTORS in files else 0
        with _translate_damage(self.folder):
            if self.format != FORMAT:
                table, digest = older_format.read(self._connection, rows, self._broken(), about, files)
            else:
                table = self._table(rows)
                digest = _digest(about, files, table)
            if self._digest() not in (None, digest):
                raise damaged(self.folder, f"{DATABASE} has changed since it was written")
        return about, files, table

    def _table(self, rows: int) -> Table:
        deleted = np.zeros(rows, bool)
        numbers = np.fromiter((row for (row,) in self._connection.execute("SELECT row FROM deleted")), np.int64)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < rows:
            raise IndexError("a deleted row that the index does not have")
        deleted[numbers] = True
        cameras = [str(name) for (name,) in self._connection.execute("SELECT name FROM cameras ORDER BY number")]
        return Table(deleted=GrowingArray(deleted), broken=self._broken(), cameras=cameras)

    def _broken(self) -> dict[str, Broken]:
        rows = self._connection.execute("SELECT path, size, mtime_ns, reason FROM broken")
        return {os.fsdecode(name): (FileStamp(size, mtime_ns), reason) for name, size, mtime_ns, reason in rows}

    def _digest(self) -> str | None:
        """The stored SHA-256; None after a writer that was killed."""
        found = self._connection.execute("SELECT value FROM meta WHERE key = ?", [DIGEST]).fetchone()
        return None if found is None else found[0]

    # --- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit everything that is written in the block and sync it to disk, or roll all of it back.

        Raises:
            UserError: the disk is full, the folder is not writable, or readers hold the database for too long.
        """
        try:
            with translate_errors(self.folder / DATABASE):
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("DELETE FROM meta WHERE key = ?", [DIGEST])
                yield
                self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.DatabaseError):
                raise _refused(self.folder, error) from error
            raise

    def write_about(self, about: About) -> None:
        """Replace the description of the index."""
        values = {"format": FORMAT, **about.entries()}
        self._connection.executemany("DELETE FROM meta WHERE key = ?", [[name] for name in LATER])
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def seal(self) -> None:
        """Store the SHA-256 of everything, unless nothing has changed since it was stored."""
        if self._digest() is None:
            digest = _digest(*self.read())
            with self.transaction():
                self._connection.execute("INSERT INTO meta VALUES (?, ?)", [DIGEST, digest])

    def write_files(self, files: Mapping[str, StoredFile]) -> None:
        """Replace the files of the index, by role."""
        self._connection.execute("DELETE FROM files")
        rows = ((role, *dataclasses.astuple(file)) for role, file in files.items())
        self._connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def write_deleted(self, rows: Iterable[int]) -> None:
        """Mark rows as deleted."""
        self._connection.executemany("INSERT INTO deleted VALUES (?)", ((int(row),) for row in rows))

    def write_broken(self, broken: Mapping[str, Broken]) -> None:
        """Add photos that cannot be read."""
        rows = ((_text(name), *stamp, reason) for name, (stamp, reason) in broken.items())
        self._connection.executemany("INSERT OR REPLACE INTO broken VALUES (?, ?, ?, ?)", rows)

    def delete_broken(self, names: Iterable[str]) -> None:
        """Delete photos that could not be read."""
        self._connection.executemany("DELETE FROM broken WHERE path = ?", ((_text(name),) for name in names))

    def write_cameras(self, cameras: Sequence[str]) -> None:
        """Add the cameras that are new."""
        self._connection.executemany("INSERT OR IGNORE INTO cameras VALUES (?, ?)", enumerate(cameras))

    def delete_all(self) -> None:
        """Delete all that is said about photos, and bring an older format to the present one."""
        for statement in SCHEMA.split(";"):
            self._connection.execute(statement)
        self._connection.execute("DROP TABLE IF EXISTS photos")  # of an older format
        for table in ("deleted", "broken", "cameras"):
            self._connection.execute(f"DELETE FROM {table}")


def file_name(role: str, number: int, precision: str = "float32") -> str:
    """The name of a file of the index: `vectors-1.f32`, `vectors-1.f16`, `photos-2.rows`, `structure-3`."""
    suffix = NUMBERS[precision] if role in (VECTORS, FEATURES) else SUFFIXES.get(role, "")
    return f"{role}-{number}{suffix}"


def _stored_file(role: str, name: str, *numbers: int) -> StoredFile:
    """A file as the database describes it; only a name that a writer gives is believed, as files are written to."""
    number = re.fullmatch(r"\w+-([1-9]\d*)(\.\w+)?", name, re.ASCII)
    names = set() if number is None else {file_name(role, int(number[1]), precision) for precision in PRECISIONS}
    if role not in ROLES or name not in names:
        raise ValueError(f"{name[:60]!r} is no file of an index")
    if not all(isinstance(each, int) and each >= 0 for each in numbers):
        raise ValueError(f"the size of {name} is no number")
    return StoredFile(name, *numbers)


def open_for_write(folder: Path) -> tuple[Database, bool]:
    """Open the database of an index, or create an empty one; the second value is True for a new one.

    Raises:
        UserError: it is not writable, damaged, or has another format.
    """
    refuse_old(folder)
    connection = _connect(folder / DATABASE, "rwc")
    database = Database(folder, connection)
    try:
        with _translate_damage(folder), translate_errors(folder / DATABASE):
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")  # a commit ends when the removal of its journal is on disk
            if new := database.is_empty():
                connection.executescript(f"BEGIN; {SCHEMA}")
                database.write_about(About())
                connection.execute("COMMIT")
        database.about()  # refuses other formats
    except BaseException:
        connection.close()
        raise
    return database, new


def _digest(about: About, files: Mapping[str, StoredFile], table: Table) -> str:
    """The SHA-256 of the content of a database; the files have checksums of their own."""
    few = {
        "about": about.entries(),
        "files": {role: dataclasses.astuple(file) for role, file in files.items()},
        "broken": table.broken,
        "cameras": table.cameras,
    }
    sha = hashlib.sha256(content_digest(few).encode())
    sha.update(np.packbits(table.deleted.rows).tobytes())
    return sha.hexdigest()


@contextmanager
def open_for_read(folder: Path) -> Iterator[Database]:
    """Open the database of an index; nothing is committed to it within the block.

    Raises:
        UserError: there is no index, or its database cannot be read.
    """
    refuse_old(folder)
    if not (folder / DATABASE).exists():
        raise _missing(folder)
    with ExitStack() as stack:
        connection = _connect_locked(folder / DATABASE, "ro") or _connect_locked(folder / DATABASE, "rw")
        if connection is None:
            connection = _connect_locked(_copy(folder, Path(stack.enter_context(TemporaryDirectory()))), "rw")
        if connection is None:
            raise damaged(folder, f"{DATABASE} cannot be rolled back")
        yield Database(folder, stack.enter_context(closing(connection)))


def _copy(folder: Path, writable: Path) -> Path:
    """Copy the database and its journal to a writable folder."""
    for name in (DATABASE, JOURNAL):
        shutil.copyfile(folder / name, writable / name)
    return writable / DATABASE


def refuse_old(folder: Path) -> None:
    """Refuse an index of format 1 with advice."""
    if (folder / OLD_HEADER).exists() and not (folder / DATABASE).exists():
        raise UserError(
            f"the index in {folder} has format 1, which this version does not read: remove the folder, build it again"
        )


def damaged(folder: Path, reason: str) -> UserError:
    """The error of an index whose files have changed since they were written."""
    return UserError(
        f"the index in {folder} is damaged ({reason}): {RESTORE}, or remove the folder and index the photos again"
    )


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Connect without automatic transactions; mode "ro" never writes, "rwc" creates the database."""
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.DatabaseError as error:
        raise _refused(path.parent, error) from error


def _connect_locked(path: Path, mode: str) -> sqlite3.Connection | None:
    """Connect and take the read lock; None where there is a journal to roll back, and no permission to do it."""
    connection = _connect(path, mode)
    try:
        connection.execute("BEGIN")
        connection.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.DatabaseError as error:
        connection.close()
        if _code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN) and path.with_name(JOURNAL).exists():
            return None
        raise _refused(path.parent, error) from error
    return connection


def _text(name: str) -> str | bytes:
    """A file name as SQLite can store it: text, or bytes where it is not Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


@contextmanager
def _translate_damage(folder: Path) -> Iterator[None]:
    """Report a database that cannot be read, or has other content than a writer's, as damaged."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _refused(folder, error) from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise damaged(folder, f"{DATABASE}: {error!r}") from error


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's error code without the details in its upper bytes; 0 for an error of the Python module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _missing(folder: Path) -> UserError:
    return UserError(f"no index in {folder}: it has no {DATABASE}, or an empty one")


def _refused(folder: Path, error: sqlite3.DatabaseError) -> UserError:
    if _code(error) == sqlite3.SQLITE_BUSY:
        return UserError(f"the index in {folder} is held by other processes for longer than {BUSY_SECONDS:.0f} s")
    if _code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
        return UserError(f"the index in {folder} cannot be used: {DATABASE}: {error}")
    return damaged(folder, f"{DATABASE}: {error}")
