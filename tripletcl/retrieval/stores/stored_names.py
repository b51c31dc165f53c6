"""The paths of rows that are in a store, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, overload


class Table(Protocol):
    """A table that paths are read from."""

    @property
    def rows(self) -> int:
        """The number of rows."""

    def paths_of(self, rows: Sequence[int]) -> list[str]:
        """Read the paths of some rows, in their order; empty for removed photos."""

    def all_paths(self) -> Iterator[str]:
        """Read the paths of all rows."""


class StoredNames(Sequence[str]):
    """The paths of the rows of a table, empty for removed photos; those that were found last are remembered."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._found: dict[int, str] = {}

    def remember(self, paths: dict[int, str]) -> None:
        """Remember the paths of some rows in place of the former ones."""
        self._found = paths

    def __len__(self) -> int:
        return self._table.rows

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return self._table.paths_of(range(*at.indices(len(self))))
        if not -len(self) <= at < len(self):
            raise IndexError(at)
        row = int(at) % len(self)
        found = self._found.get(row)
        return self._table.paths_of([row])[0] if found is None else found

    def __iter__(self) -> Iterator[str]:
        return self._table.all_paths()
