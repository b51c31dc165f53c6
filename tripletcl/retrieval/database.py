"""The database of an index: what there is, in SQLite.

It keeps a rollback journal and no write-ahead log: a database at rest then needs no file beside it, so any number of
processes may read it, also in a folder that may not be written. A writer that is killed within a commit leaves a
journal, and who opens the database next rolls it back.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tripletcl.errors import UserError
from tripletcl.files import translate_errors
from tripletcl.retrieval.row_files import Stored
from tripletcl.retrieval.table import Broken, Growing, Origin, Stamp, Table

FORMAT = 2
DATABASE, JOURNAL = "index.db", "index.db-journal"
OLD_HEADER = "index.json"
"""What format 1 had in place of the database."""

BUSY_SECONDS = 60.0
"""How long a commit waits for readers that are loading, and they for it."""

SCHEMA = """
BEGIN;
CREATE TABLE meta (key TEXT PRIMARY KEY, value);
CREATE TABLE files (role TEXT PRIMARY KEY, name TEXT NOT NULL, rows INTEGER NOT NULL, width INTEGER NOT NULL,
                    size INTEGER NOT NULL, crc32 INTEGER NOT NULL, mtime_ns INTEGER NOT NULL);
CREATE TABLE photos (row INTEGER PRIMARY KEY, path NOT NULL UNIQUE, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
                     model TEXT, stage INTEGER);
CREATE TABLE broken (path PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, reason TEXT NOT NULL);
"""


@dataclass
class About:
    """What an index says of itself.

    Attributes:
        model: The fingerprint of the model whose queries it answers; None where it is not known.
        stage: That model's stage, where it belongs to a run.
        trunk: The fingerprint of the trunk that the features came from; None where none are kept.
        asked: The kind asked for, or "auto".
        kind: The kind it is.
        why: Why it is of this kind, in a sentence.
    """

    model: str | None = None
    stage: int | None = None
    trunk: str | None = None
    asked: str = "auto"
    kind: str = "flat"
    why: str = "flat: there is no photo yet"


class Database:
    """The database of the index in a folder, open; from `reading` or `opened_to_write`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder, self._connection = folder, connection

    def close(self) -> None:
        """Let go of it, and of the reading lock."""
        self._connection.close()

    # --- reading -----------------------------------------------------------------------------------------------------

    def is_empty(self) -> bool:
        """Is it one that nothing was ever committed to?"""
        return not self._connection.execute("SELECT name FROM sqlite_master").fetchone()

    def has_photos(self) -> bool:
        """Does it hold any?"""
        return self._connection.execute("SELECT row FROM photos").fetchone() is not None

    def about(self) -> About:
        """What the index says of itself.

        Raises:
            UserError: there is no index, it is of another format, or damaged.
        """
        with _explained_as_damage(self.folder):
            if self.is_empty():
                raise _missing(self.folder)  # its first writer was killed before the first commit
            meta = dict(self._connection.execute("SELECT key, value FROM meta"))
            if meta["format"] != FORMAT:
                raise UserError(
                    f"the index in {self.folder} has format {meta['format']}, and this version reads {FORMAT}: use the "
                    "version that wrote it, or build it again in another folder"
                )
            return About(**{field.name: meta[field.name] for field in dataclasses.fields(About)})

    def files(self) -> dict[str, Stored]:
        """The files that count, by role."""
        with _explained_as_damage(self.folder):
            return {role: Stored(*rest) for role, *rest in self._connection.execute("SELECT * FROM files")}

    def table(self, rows: int) -> Table:
        """So many rows, all but their arrays."""
        table = Table(names=[""] * rows, origins=[(None, None)] * rows)
        stamps = np.full((rows, 2), -1, np.int64)
        known: dict[Origin, Origin] = {}
        with _explained_as_damage(self.folder):
            for row, name, size, mtime_ns, model, stage in self._connection.execute("SELECT * FROM photos"):
                table.names[row] = os.fsdecode(name)
                stamps[row] = size, mtime_ns
                table.origins[row] = known.setdefault((model, stage), (model, stage))
            for name, size, mtime_ns, reason in self._connection.execute("SELECT * FROM broken"):
                table.broken[os.fsdecode(name)] = (size, mtime_ns), reason
        table.stamps = Growing(stamps)
        table.deleted = Growing(np.fromiter((not name for name in table.names), bool, rows))
        table.row_of = {name: row for row, name in enumerate(table.names) if name}
        return table

    # --- writing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is written in the block is there, synced to disk, or nothing of it.

        Raises:
            UserError: the disk is full, it may not be written, or readers hold it for too long.
        """
        try:
            with translate_errors(self.folder / DATABASE):
                self._connection.execute("BEGIN IMMEDIATE")
                yield
                self._connection.execute("COMMIT")
        except BaseException as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.DatabaseError):
                raise _refused(self.folder, error) from error
            raise

    def write_about(self, about: About) -> None:
        """Change what the index says of itself."""
        values = {"format": FORMAT, **dataclasses.asdict(about)}
        self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())

    def write_files(self, files: Mapping[str, Stored]) -> None:
        """Let these files count, by role, and no others."""
        self._connection.execute("DELETE FROM files")
        rows = ((role, *dataclasses.astuple(file)) for role, file in files.items())
        self._connection.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def write_photos(self, photos: Iterable[tuple[int, str, Stamp, Origin]]) -> None:
        """Add photos: row, name, stamp, origin."""
        rows = ((row, _text(name), *stamp, *origin) for row, name, stamp, origin in photos)
        self._connection.executemany("INSERT INTO photos VALUES (?, ?, ?, ?, ?, ?)", rows)

    def delete_photos(self, rows: Iterable[int] | None = None) -> None:
        """Take photos out by their rows; all by default."""
        if rows is None:
            self._connection.execute("DELETE FROM photos")
        else:
            self._connection.executemany("DELETE FROM photos WHERE row = ?", ((int(row),) for row in rows))

    def write_broken(self, broken: Mapping[str, Broken]) -> None:
        """Note photos that cannot be read."""
        rows = ((_text(name), *stamp, reason) for name, (stamp, reason) in broken.items())
        self._connection.executemany("INSERT OR REPLACE INTO broken VALUES (?, ?, ?, ?)", rows)

    def delete_broken(self, names: Sequence[str] | None = None) -> None:
        """Forget photos that could not be read; all by default."""
        if names is None:
            self._connection.execute("DELETE FROM broken")
        else:
            self._connection.executemany("DELETE FROM broken WHERE path = ?", ((_text(name),) for name in names))


def opened_to_write(folder: Path) -> tuple[Database, bool]:
    """The database of an index, and whether it was made just now.

    Raises:
        UserError: it cannot be written, is damaged, or of another format.
    """
    refuse_old(folder)
    connection = _connect(folder / DATABASE, "rwc")
    database = Database(folder, connection)
    try:
        with _explained_as_damage(folder), translate_errors(folder / DATABASE):
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = EXTRA")  # a commit is over when its journal is gone for good
            if made := database.is_empty():
                connection.executescript(SCHEMA)
                database.write_about(About())
                connection.execute("COMMIT")
        database.about()  # of this format, or it is refused
    except BaseException:
        connection.close()
        raise
    return database, made


@contextmanager
def reading(folder: Path) -> Iterator[Database]:
    """The database of an index; nothing is committed to it while the block lasts.

    Raises:
        UserError: there is no index, or its database cannot be read.
    """
    refuse_old(folder)
    if not (folder / DATABASE).exists():
        raise _missing(folder)
    with ExitStack() as stack:
        connection = _readable(folder / DATABASE, "ro") or _readable(folder / DATABASE, "rw")
        if connection is None:
            connection = _readable(_copied(folder, Path(stack.enter_context(TemporaryDirectory()))), "rw")
        if connection is None:
            raise damaged(folder, f"{DATABASE} cannot be rolled back")
        yield Database(folder, stack.enter_context(closing(connection)))


def _copied(folder: Path, elsewhere: Path) -> Path:
    """A copy of the database and its journal that may be written."""
    for name in (DATABASE, JOURNAL):
        shutil.copyfile(folder / name, elsewhere / name)
    return elsewhere / DATABASE


def refuse_old(folder: Path) -> None:
    """Say what to do about an index of format 1."""
    if (folder / OLD_HEADER).exists() and not (folder / DATABASE).exists():
        raise UserError(
            f"the index in {folder} has format 1, and this version reads {FORMAT}: remove the folder, build it again"
        )


def damaged(folder: Path, what: str) -> UserError:
    """What to say of an index that is not as it was written."""
    return UserError(f"the index in {folder} is damaged: {what}")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """A connection that begins no transaction by itself; "ro" never writes, "rwc" makes the database."""
    try:
        uri = f"{path.absolute().as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.DatabaseError as error:
        raise _refused(path.parent, error) from error


def _readable(path: Path, mode: str) -> sqlite3.Connection | None:
    """A connection with the reading lock; None where there is a journal to roll back, but no right to do it."""
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
    """A file name as SQLite can keep it: text, or bytes where they are no Unicode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name)
    return name


@contextmanager
def _explained_as_damage(folder: Path) -> Iterator[None]:
    """A database that cannot be read, or holds what no writer wrote, is damaged."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _refused(folder, error) from error
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise damaged(folder, f"{DATABASE}: {error!r}") from error


def _code(error: sqlite3.DatabaseError) -> int:
    """SQLite's code without the details in its upper bytes; 0 where the module itself complains."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _missing(folder: Path) -> UserError:
    return UserError(f"no index in {folder}: it has no {DATABASE}, or an empty one")


def _refused(folder: Path, error: sqlite3.DatabaseError) -> UserError:
    if _code(error) == sqlite3.SQLITE_BUSY:
        return UserError(f"the index in {folder} is held by other processes for longer than {BUSY_SECONDS:.0f} s")
    if _code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
        return UserError(f"the index in {folder} cannot be used: {DATABASE}: {error}")
    return damaged(folder, f"{DATABASE}: {error}")
