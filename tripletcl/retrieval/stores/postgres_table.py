"""The photos of an index in PostgreSQL. A row is the number that a photo got when it was added.

    NAME_about      key, value: the description, and the generation g of the vectors
    NAME_g          number, path, size, mtime_ns, taken, latitude, longitude, camera, width, height, whole halfvec
    NAME_broken     path, size, mtime_ns, reason of the photos that cannot be read

The generation before stays until the next upgrade, for readers that have opened it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.files import FileStamp
from tripletcl.retrieval.details import NO_CAMERA, NO_TIME, PHOTO_TYPE, PhotoDetails, photo_details
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.stores.search import Block
from tripletcl.retrieval.stores.sql import filter_sql
from tripletcl.retrieval.stores.stored_names import StoredNames
from tripletcl.retrieval.table import Broken

if TYPE_CHECKING:
    from psycopg import Connection

UNKNOWN = {"size": -1, "mtime_ns": -1, "taken": NO_TIME, "latitude": np.nan, "longitude": np.nan, "width": 0}
UNKNOWN |= {"height": 0}
"""The columns of numbers that a record has, and what stands for an unknown one."""

BLOCK = 5_000
"""Photos that are read at a time."""

BREADTH = 800
"""Candidates kept while a graph is searched (hnsw.ef_search), at most 1,000."""


class PostgresTable:
    """The photos of a generation, as many as there were when it was opened.

    Args:
        connection: To the database.
        name: Of the table; None for an index that is to be created.
        broken: The photos that cannot be read.
        is_listed: True if it has graphs.
    """

    def __init__(
        self, connection: Connection[Any], name: str | None, broken: Mapping[str, Broken], is_listed: bool = False
    ) -> None:
        self.connection, self.name, self.broken, self.is_listed = connection, name, broken, is_listed
        self.names = StoredNames(self)
        self.features: np.ndarray | None = None

    def select(self, columns: str, condition: str = "true", values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read columns of the rows that meet a condition, in their order."""
        if self.name is None:
            return []
        query = f'SELECT {columns} FROM "{self.name}" WHERE number < {self.rows} AND ({condition}) ORDER BY number'
        return self.connection.execute(query, list(values) or None).fetchall()

    @cached_property
    def rows(self) -> int:
        """The number of rows, those of removed photos included."""
        if self.name is None:
            return 0
        return self.connection.execute(f'SELECT coalesce(max(number) + 1, 0) FROM "{self.name}"').fetchone()[0]

    @cached_property
    def living(self) -> int:
        """The number of photos."""
        return self.select_count("true")

    def select_count(self, sql: str) -> int:
        """Count the photos that meet a condition."""
        if self.name is None:
            return 0
        query = f'SELECT count(*) FROM "{self.name}" WHERE number < {self.rows} AND ({sql})'
        return self.connection.execute(query).fetchone()[0]

    @cached_property
    def width(self) -> int:
        """3 * D."""
        first = self.select("whole", f'number = (SELECT min(number) FROM "{self.name}")')
        return len(to_numbers(first[0][0])) if first else 0

    def count(self, where: Filter) -> int:
        """The number of photos that meet a filter."""
        return self.select_count(filter_sql(where))

    def blocks(self, sql: str) -> Iterator[Block]:
        """Read all photos that meet a condition."""
        for start in range(0, self.rows, BLOCK):
            part = f"number >= {start} AND number < {start + BLOCK}"
            if found := self.select("number, path, whole", f"{part} AND ({sql or 'true'})"):
                yield _block(found)

    def nearest(self, unit: int | None, query: np.ndarray, count: int, sql: str, share: float) -> Block:
        """Propose photos by the graph of a unit or of whole rows."""
        distance = f"{part_sql(unit, self.width)} <#> '{to_text(query)}'::halfvec({len(query)})"
        statement = (
            f'SELECT number, path, whole FROM "{self.name}" WHERE number < {self.rows} AND ({sql or "true"}) '
            f"ORDER BY {distance} LIMIT {count}"
        )
        with self.connection.transaction():
            self.connection.execute(f"SET LOCAL hnsw.ef_search = {min(1000, max(BREADTH, 2 * count))}")
            self.connection.execute("SET LOCAL hnsw.iterative_scan = relaxed_order")
            found = self.connection.execute(statement).fetchall()
        return _block(found)

    def paths_of(self, rows: Sequence[int]) -> list[str]:
        """Read the paths of some rows, in their order; empty for removed photos."""
        found = dict(self.select("number, path", "number = ANY(%s)", [list(rows)]))
        return [found.get(row, "") for row in rows]

    def all_paths(self) -> Iterator[str]:
        """Read the paths of all rows, block by block."""
        for start in range(0, self.rows, BLOCK):
            yield from self.paths_of(range(start, min(start + BLOCK, self.rows)))

    def read(self, numbers: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Read the vectors of some rows, `[n, 3 * D]` float32; zeros for removed photos."""
        wanted = np.arange(self.rows)[numbers] if isinstance(numbers, slice) else np.asarray(numbers, np.int64)
        found = dict(self.select("number, whole", "number = ANY(%s)", [np.unique(wanted).tolist()]))
        rows = {number: to_numbers(text) for number, text in found.items()}
        empty = np.zeros(self.width, np.float32)
        return np.stack([rows.get(int(row), empty) for row in wanted]) if len(wanted) else np.zeros((0, self.width))

    def column(self, name: str) -> np.ndarray:
        """Read a field of all records, `[rows]`."""
        values = np.full(self.rows, UNKNOWN[name], PHOTO_TYPE[name])
        for number, value in self.select(f"number, {name}", f"{name} IS NOT NULL"):
            values[number] = value
        return values

    def details(self, rows: Sequence[int]) -> list[PhotoDetails]:
        """Read the details of some rows."""
        columns = ", ".join(["number", "path", "camera", *UNKNOWN])
        found = {row[0]: row[1:] for row in self.select(columns, "number = ANY(%s)", [list(map(int, rows))])}
        records, cameras = np.zeros(len(rows), PHOTO_TYPE), [found[row][1] for row in rows]
        for n, row in enumerate(rows):
            for name, value in zip(UNKNOWN, found[row][2:], strict=True):
                records[name][n] = UNKNOWN[name] if value is None else value
            records["camera"][n] = NO_CAMERA if cameras[n] is None else n
        return [photo_details(found[row][0], record, cameras) for row, record in zip(rows, records, strict=True)]

    def unread(self, rows: Sequence[int]) -> list[int]:
        """No photo: details are read before a photo is stored."""
        return []

    def find(self, names: Sequence[str]) -> np.ndarray:
        """Find the row of each photo, `[n]`; -1 for one that is not in the table."""
        found = dict(self.select("path, number", "path = ANY(%s)", [list(names)]))
        return np.array([found.get(name, -1) for name in names], np.int64)

    def row_of(self, name: str) -> int | None:
        """Find the row of a photo; None for one that is not in the table."""
        row = int(self.find([name])[0])
        return None if row < 0 else row

    def stamps_of(self, names: Sequence[str]) -> list[FileStamp | None]:
        """Read the stamps of photos; None for each that is not known."""
        found = {path: FileStamp(*stamp) for path, *stamp in self._stamps(names)}
        return [found.get(name, self.broken[name][0] if name in self.broken else None) for name in names]

    def _stamps(self, names: Sequence[str]) -> list[tuple[Any, ...]]:
        return self.select("path, size, mtime_ns", "path = ANY(%s)", [list(names)])


def part_sql(unit: int | None, width: int) -> str:
    """The expression of whole rows, or of a unit, that has a graph."""
    if unit is None:
        return "whole"
    size = width // len(UNITS)
    return f"(subvector(whole, {unit * size + 1}, {size})::halfvec({size}))"


def to_text(vector: np.ndarray) -> str:
    """A vector as PostgreSQL reads it; every number of float16 is written exactly."""
    return "[" + ",".join(map(repr, vector.astype(np.float16).astype(np.float64).tolist())) + "]"


def to_numbers(text: str) -> np.ndarray:
    """The inverse of `to_text`, float32."""
    return np.array(text[1:-1].split(","), np.float32).astype(np.float16).astype(np.float32)


def _block(found: Sequence[tuple[Any, ...]]) -> Block:
    numbers, paths, texts = zip(*found, strict=True) if found else ((), (), ())
    vectors = np.stack([to_numbers(text) for text in texts]) if texts else np.zeros((0, 0), np.float32)
    return Block(np.array(numbers, np.int64), vectors.astype(np.float16), lambda at: [paths[n] for n in at.tolist()])
