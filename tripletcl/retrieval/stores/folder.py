"""An index in a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tripletcl.retrieval.database import DATABASE, About, open_for_read
from tripletcl.retrieval.rows import Rows
from tripletcl.retrieval.store import check_index, open_reader, open_writer


@dataclass(frozen=True)
class FolderStore:
    """The index in a folder; `store` describes its files.

    Attributes:
        folder: The folder, which need not exist.
    """

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    def about(self) -> About:
        with open_for_read(self.folder) as database:
            return database.about()

    def version(self) -> object:
        try:
            stat = (self.folder / DATABASE).stat()
        except OSError:
            return None
        return stat.st_mtime_ns, stat.st_size

    @contextmanager
    def read(self) -> Iterator[Rows]:
        with open_reader(self.folder) as contents:
            rows = Rows(contents.about, contents)
            rows.structure()  # before a writer can remove its file
        yield rows

    @contextmanager
    def write(self) -> Iterator[Rows]:
        with open_writer(self.folder) as writer:
            contents = writer.read()
            rows = Rows(contents.about, contents, writer)
            try:
                yield rows
            finally:
                rows.writer = None  # from here on it is a copy

    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())

    def check(self) -> None:
        check_index(self.folder)
