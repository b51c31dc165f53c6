"""An index on disk: a database says what there is, and raw files beside it hold the vectors.

INDEX/index.db          the single truth: meta, the files with their sizes and checksums, photos, broken photos
INDEX/vectors-1.f32     float32 `[rows, 3 * D]`, row behind row without a header
INDEX/features-1.f32    float32 `[rows, C]`, where features are kept
INDEX/structure-2       a graph or IVF-PQ over the vectors; derived, and built again where it is missing
INDEX/lock              there while a process writes

Rows are only ever appended, and they are synced to disk before the transaction that names them: bytes behind the known
size are a killed writer's, and the next one writes over them. What replaces all rows goes into a new file, and one
transaction switches to it; files that the database does not name are removed by the next writer. So a process may be
killed at any moment, and the index is what the last transaction made it. What a reader has loaded and mapped stays as
it was, whatever is written later.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tripletcl.errors import UserError
from tripletcl.files import locked, write_atomically
from tripletcl.retrieval.database import DATABASE, About, Database, damaged, opened_to_write, reading
from tripletcl.retrieval.row_files import Stored, extended, holds_rows, is_whole, mapped, measured
from tripletcl.retrieval.table import FEATURES, VECTORS, Broken, Growing, Origin, Stamp, Table

log = logging.getLogger("tripletcl")

LOCK, STRUCTURE = "lock", "structure"

NUMBERED = re.compile(rf"\.?({VECTORS}|{FEATURES}|{STRUCTURE})-(\d+)\b.*")
"""Our files, also one that a killed writer had not yet renamed."""


@dataclass
class Contents:
    """An index as it was when it was read.

    Attributes:
        about: What it says of itself.
        table: Its rows.
        structure: The file of the structure; None where there is none, or a damaged one.
        covered: How many rows that covers.
    """

    about: About
    table: Table
    structure: Path | None
    covered: int


class Writer:
    """Changes an index on disk, each method in one transaction; `open_writer` makes it and holds the index's lock.

    Attributes:
        files: What the database names, by role.
    """

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder, self._database = folder, database
        self._about, self.files = database.about(), database.files()
        numbers = [int(match[2]) for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name))]
        self._number = max(numbers, default=0)  # of the last new file: none gets a name that was there

    def read(self) -> Contents:
        """What the index holds."""
        self._sweep()
        return _contents(self._folder, self._database)

    def rows(self, role: str) -> Growing:
        """The rows of a file, mapped into memory."""
        return Growing(mapped(self._folder, self.files[role]))

    def append(
        self,
        first: int,
        photos: Sequence[tuple[str, Stamp]],
        origin: Origin,
        arrays: Mapping[str, np.ndarray],
        replaced: Sequence[int],
        broken: Mapping[str, Broken],
    ) -> None:
        """Add photos behind the others, take out the rows that they replace, and note those that cannot be read.

        Args:
            first: The row of the first photo.
            photos: Their names and stamps.
            origin: Who encoded them.
            arrays: Their rows for each file; a file that is not there is made.
            replaced: Rows whose photo is another now.
            broken: Photos that cannot be read.
        """
        longer = {
            role: self._extended(self.files.get(role) or self._new(role), [rows]) for role, rows in arrays.items()
        }
        with self._changing(files=self.files | longer) as database:
            database.delete_photos(replaced)
            database.write_photos((first + i, *photo, origin) for i, photo in enumerate(photos))
            database.delete_broken([name for name, _ in photos])
            database.write_broken(broken)

    def remove(self, rows: Sequence[int], broken: Sequence[str] = ()) -> None:
        """Take photos out, their rows stay in the files until `rewrite`; forget broken ones."""
        with self._changing() as database:
            database.delete_photos(rows)
            database.delete_broken(broken)

    def describe(self, about: About) -> None:
        """Write what the index says of itself, if it is something new."""
        if about != self._about:
            with self._changing(about):
                pass

    def rewrite(
        self, about: About, table: Table, arrays: Mapping[str, Iterable[np.ndarray]], kept: Sequence[str] = ()
    ) -> None:
        """Make the index another one: new files, and a database of other photos, in one transaction.

        Args:
            about: What it then says of itself.
            table: Its photos; not their arrays.
            arrays: Rows for each new file, block by block.
            kept: Roles whose file stays.
        """
        try:
            files = {role: self.files[role] for role in kept if role in self.files}
            files |= {role: self._extended(self._new(role), rows) for role, rows in arrays.items()}
            with self._changing(about, files) as database:
                stamps = map(tuple, table.stamps.rows.tolist())
                photos = zip(range(table.rows), table.names, stamps, table.origins, strict=True)
                database.delete_photos()
                database.write_photos(photo for photo in photos if photo[1])
                database.delete_broken()
                database.write_broken(table.broken)
        finally:
            self._sweep()

    def set_structure(self, about: About, save: Callable[[Path], object] | None = None, rows: int = 0) -> None:
        """Put a structure in the place of the old one.

        Args:
            about: What the index then says of itself.
            save: Writes the structure to a path; None for an index without one.
            rows: How many rows it covers.
        """
        files = {role: file for role, file in self.files.items() if role != STRUCTURE}
        if save is not None:
            path = self._folder / self._new(STRUCTURE).name
            write_atomically(path, save)
            files[STRUCTURE] = measured(path, rows)
        with self._changing(about, files):
            pass
        self._sweep()

    @contextmanager
    def _changing(self, about: About | None = None, files: Mapping[str, Stored] | None = None) -> Iterator[Database]:
        """A transaction that also changes what the index says of itself, and the files that count."""
        with self._database.transaction():
            yield self._database
            if about is not None:
                self._database.write_about(about)
            if files is not None:
                self._database.write_files(files)
        self._about = self._about if about is None else dataclasses.replace(about)
        self.files = self.files if files is None else dict(files)

    def _new(self, role: str) -> Stored:
        self._number += 1
        return Stored(f"{role}-{self._number}" + (".f32" if role != STRUCTURE else ""))

    def _extended(self, file: Stored, arrays: Iterable[np.ndarray]) -> Stored:
        return extended(self._folder, file, arrays)

    def _sweep(self) -> None:
        """Remove files that the database does not name."""
        named = {file.name for file in self.files.values()}
        for path in self._folder.iterdir():
            if path.name not in named and NUMBERED.fullmatch(path.name):
                path.unlink(missing_ok=True)


@contextmanager
def open_writer(folder: Path) -> Iterator[Writer]:
    """Open an index to write, or make an empty one, and keep other writers out.

    Raises:
        UserError: another process writes it, it may not be written, or this version does not write its format.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, and an index needs a folder")
    with locked(folder / LOCK, busy=f"another process is writing the index in {folder}"):
        database, made = opened_to_write(folder)
        with closing(database):
            try:
                yield Writer(folder, database)
            except BaseException:
                if made and not database.has_photos():
                    (folder / DATABASE).unlink()  # nothing was begun
                raise


@contextmanager
def open_reader(folder: Path) -> Iterator[Contents]:
    """What an index holds; while the block lasts no writer can replace it.

    Raises:
        UserError: there is no index, it is damaged or of another format.
    """
    with reading(folder) as database:
        yield _contents(folder, database)


def about_index(folder: str | Path) -> About:
    """What the index in a folder says of itself, without reading its rows.

    Raises:
        UserError: there is no index, it is damaged or of another format.
    """
    with reading(Path(folder)) as database:
        return database.about()


def _contents(folder: Path, database: Database) -> Contents:
    about, files = database.about(), database.files()
    rows = files[VECTORS].rows if VECTORS in files else 0
    table = database.table(rows)
    for role in (VECTORS, FEATURES):
        if role in files:
            if not holds_rows(files[role], rows) or not is_whole(folder, files[role]):
                raise damaged(folder, f"{files[role].name} is not as it was written")
            table.arrays[role] = Growing(mapped(folder, files[role]))
    structure = _structure(folder, files)
    return Contents(about, table, structure, files[STRUCTURE].rows if structure else 0)


def _structure(folder: Path, files: Mapping[str, Stored]) -> Path | None:
    """Where the structure lies; None where it is damaged: it is derived, and the vectors answer without it."""
    if STRUCTURE not in files:
        return None
    path = folder / files[STRUCTURE].name
    if not is_whole(folder, files[STRUCTURE]):
        log.warning("%s is damaged: %s is searched row by row until it is built again", path, folder)
        return None
    return path
