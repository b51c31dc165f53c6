"""Columns of a table: their distinct values, and the value of each row; read from CSV, JSON Lines or Parquet.

What is done for each distinct value, and not for each row, takes a tenth of the time.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from tripletcl.errors import UserError

Value = TypeVar("Value", covariant=True)
Parsed = TypeVar("Parsed", bound=Hashable)


@dataclass(frozen=True)
class Column(Generic[Value]):
    """The cells of a column.

    Attributes:
        values: The V distinct values; a UserError in place of one that cannot be read.
        codes: `[R]` int64, the position of each row's value.
    """

    values: list[Value | UserError]
    codes: np.ndarray

    @classmethod
    def of(cls, cells: Sequence[Value]) -> Column[Value]:
        """Find the distinct values of a column's cells; those that cannot be hashed are compared as text."""
        places: dict[Any, int] = {}
        try:
            codes = [places.setdefault(cell, len(places)) for cell in cells]
        except TypeError:
            places.clear()
            codes = [places.setdefault(cell if isinstance(cell, str) else repr(cell), len(places)) for cell in cells]
        array = np.array(codes, dtype=np.int64)
        return cls([cells[row] for row in np.unique(array, return_index=True)[1].tolist()], array)

    @property
    def distinct(self) -> list[Value]:
        """The distinct values of a column all of whose values can be read.

        Raises:
            UserError: one cannot be.
        """
        values: list[Value] = []
        for value in self.values:
            if isinstance(value, UserError):
                raise value
            values.append(value)
        return values

    def parse(self, function: Callable[[Any], Parsed]) -> Column[Parsed]:
        """Apply a function to each value; values with equal results become one, and a UserError stays in its place."""
        places: dict[Parsed | UserError, int] = {}
        codes = [places.setdefault(_parsed(function, value), len(places)) for value in self.values]
        return Column(list(places), np.array(codes, dtype=np.int64)[self.codes])

    def refused(self) -> np.ndarray:
        """`[R]` bool, True for the rows whose value cannot be read."""
        return np.array([isinstance(value, UserError) for value in self.values], dtype=bool)[self.codes]

    def take(self, rows: np.ndarray) -> Column[Value]:
        """The cells of some rows, `[R]` bool or `[R']` positions, with the values in order of first appearance."""
        used, first, codes = np.unique(self.codes[rows], return_index=True, return_inverse=True)
        order = np.argsort(first)
        ranks = np.empty_like(order)
        ranks[order] = np.arange(len(order))
        return Column([self.values[value] for value in used[order].tolist()], ranks[codes])

    def cells(self) -> list[Value]:
        """The value of each row."""
        values = self.distinct
        return [values[code] for code in self.codes.tolist()]


def _parsed(function: Callable[[Any], Parsed], value: object) -> Parsed | UserError:
    if isinstance(value, UserError):
        return value
    try:
        return function(value)
    except UserError as error:
        return error


def combine(columns: Sequence[Column[Any]]) -> Column[tuple[Any, ...]]:
    """Make one column of several: its values are tuples, or the first UserError among their parts."""
    first, codes = distinct_rows(columns)
    parts = [[column.values[code] for code in column.codes[first].tolist()] for column in columns]
    values: list[Any] = list(zip(*parts, strict=True))
    for column in columns[::-1]:
        for place in np.flatnonzero(column.refused()[first]).tolist():
            values[place] = column.values[column.codes[first[place]]]
    return Column(values, codes)


def distinct_rows(columns: Sequence[Column[Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Find the first of each set of rows that are equal in all columns, and for each row the position of its first."""
    first, codes = np.zeros(0, dtype=np.int64), np.zeros(len(columns[0].codes), dtype=np.int64)
    for column in columns:
        together = codes * max(1, len(column.values)) + column.codes
        _, first, codes = np.unique(together, return_index=True, return_inverse=True)
    return first, codes


# --- files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that is not valid, with the reason."""

    number: int
    reason: str


class TableFile(NamedTuple):
    """The content of a file in some of its columns.

    Attributes:
        numbers: `[R]` the line of each row in the file (its row, in Parquet), from 1.
        columns: Of these rows, by name; None where a row lacks a cell.
        bad: The rows without cells.
    """

    numbers: np.ndarray
    columns: dict[str, Column[object]]
    bad: list[BadRow]


def read_columns(path: Path, names: Sequence[str], optional: Sequence[str] = ()) -> tuple[TableFile, str]:
    """Read some columns of a file, and the unit of its row numbers: "line" or "row".

    Args:
        path: The file; its suffix selects the format.
        names: The columns that it must have.
        optional: Those that it may have.

    Raises:
        UserError: The file is missing, unreadable or empty, or lacks a column.
    """
    try:
        reader, counted_in = READERS[path.suffix.lower()]
    except KeyError:
        raise UserError(
            f"{path} is no table: its suffix is {path.suffix!r}, allowed are {', '.join(READERS)}"
        ) from None
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty")
        return reader(path, names, optional), counted_in
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error


def _text(path: Path) -> str:
    """The file's text.

    Raises:
        UserError: it is not UTF-8.
    """
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or raw[:200].count(b"\0") > len(raw[:200]) // 4:
        raise UserError(f"{path} is UTF-16 text; save it as UTF-8")
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        line, begin = raw.count(b"\n", 0, at) + 1, max(raw.rfind(b"\n", 0, at) + 1, at - 10)
        around = raw[begin : at + 10].splitlines()[0].decode("cp1252", errors="replace")
        raise UserError(
            f"{path} line {line}: the byte {raw[at]:#x} is not UTF-8 text; save the file as UTF-8 (in Windows-1252 it "
            f"reads {around!r})"
        ) from error


def _read_csv(path: Path, names: Sequence[str], optional: Sequence[str]) -> TableFile:
    text = _text(path)
    _check_separator(path, text[: text.find("\n")])
    return _read_plain_csv(path, text, names, optional) or _read_any_csv(path, text, names, optional)


def _read_plain_csv(path: Path, text: str, names: Sequence[str], optional: Sequence[str]) -> TableFile | None:
    """The columns of a text with a row on every line and no quotes, as most are; None for any other.

    A malformed row is found, but not named, so that such a text is another one, too.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    first, _, body = text.rstrip("\r\n").partition("\n")
    if '"' in text or not body or text.count("\r") != text.count("\r\n"):
        return None
    header = [cell.strip() for cell in first.rstrip("\r").split(",")]
    names = _check_columns(path, header, names, optional)
    count = body.count("\n") + 1
    places = [str(header.index(name)) for name in names]
    try:
        content = arrow_csv.read_csv(
            pa.BufferReader(body.encode()),
            read_options=arrow_csv.ReadOptions(column_names=[str(place) for place in range(len(header))]),
            parse_options=arrow_csv.ParseOptions(quote_char=False),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(places, pa.string()), include_columns=places, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        return None
    if content.num_rows != count:  # there are blank lines
        return None
    columns = {name: _arrow_column(content[place]) for name, place in zip(names, places, strict=True)}
    return TableFile(np.arange(2, 2 + count), columns, [])


def _arrow_column(column: Any) -> Column[object]:
    """A column of texts, which may be missing."""
    encoded = column.dictionary_encode(null_encoding="encode").combine_chunks()
    return Column(encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64))


def _read_any_csv(path: Path, text: str, names: Sequence[str], optional: Sequence[str]) -> TableFile:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    numbers: list[int] = []
    rows: list[list[str]] = []
    bad: list[BadRow] = []
    while True:
        number = lines.line_num + 1  # a quoted cell may span lines: a row has the number of its first
        try:
            cells = next(lines)
        except StopIteration:
            break
        except csv.Error as error:
            if not header:
                raise UserError(f"{path} line {number}: the header is not valid CSV ({error})") from error
            bad.append(BadRow(number, f"not valid CSV ({error})"))
            continue
        if not cells:
            continue
        if not header:
            header = [cell.strip() for cell in cells]
        elif len(cells) != len(header):
            bad.append(BadRow(number, f"{len(cells)} cells where the header has {len(header)} columns"))
        else:
            numbers.append(number)
            rows.append(cells)
    names = _check_columns(path, header, names, optional)
    places = {name: header.index(name) for name in names}
    return _table_file(numbers, {name: [row[place] for row in rows] for name, place in places.items()}, bad)


def _table_file(numbers: Sequence[int], cells: dict[str, Any], bad: list[BadRow]) -> TableFile:
    """The content of a file whose cells are given column by column."""
    return TableFile(np.array(numbers, np.int64), {name: Column.of(column) for name, column in cells.items()}, bad)


def _check_separator(path: Path, header: str) -> None:
    """Refuse a file whose cells end at something other than a comma."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if "," not in header and header.count(separator) >= SEPARATORS:
            raise UserError(f"{path} separates its cells by {name}; save it with commas")


SEPARATORS = 4
"""In a header of the fewest columns that a table of facts has."""


def _read_jsonl(path: Path, names: Sequence[str], optional: Sequence[str]) -> TableFile:
    found: dict[str, None] = {}
    numbers: list[int] = []
    records: list[dict[str, object]] = []
    bad: list[BadRow] = []
    for number, line in enumerate(_text(path).split("\n"), start=1):  # splitlines would split inside JSON strings
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            bad.append(BadRow(number, f"not valid JSON ({error})"))
            continue
        if isinstance(record, dict):
            found.update(dict.fromkeys(record))
            numbers.append(number)
            records.append(record)
        else:
            bad.append(BadRow(number, f"not a JSON object but {quoted(record)}"))
    if not found and bad:
        raise UserError(f"{path} line {bad[0].number}: {bad[0].reason}")
    names = _check_columns(path, list(found), names, optional)
    return _table_file(numbers, {name: [record.get(name) for record in records] for name in names}, bad)


def _read_parquet(path: Path, names: Sequence[str], optional: Sequence[str]) -> TableFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = _check_columns(path, [column.name for column in file.schema_arrow], names, optional)
            content = file.read(columns=list(names))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    columns = {name: _parquet_column(path, name, content[name]) for name in names}
    return TableFile(np.arange(1, 1 + content.num_rows), columns, [])


def _parquet_column(path: Path, name: str, column: Any) -> Column[object]:
    import pyarrow as pa

    try:
        return _arrow_column(column) if pa.types.is_string(column.type) else Column.of(column.to_pylist())
    except (ValueError, OverflowError) as error:  # bytes that are no UTF-8; a date out of Python's range
        raise UserError(f"{path} has something other than UTF-8 text in the column {name!r}: {error}") from error


READERS: dict[str, tuple[Callable[[Path, Sequence[str], Sequence[str]], TableFile], str]] = {
    ".csv": (_read_csv, "line"),
    ".jsonl": (_read_jsonl, "line"),
    ".ndjson": (_read_jsonl, "line"),
    ".parquet": (_read_parquet, "row"),
}
"""The reader of each format, and the unit of its row numbers."""


def _check_columns(path: Path, columns: list[str], required: Sequence[str], optional: Sequence[str]) -> list[str]:
    """The columns to read, of those that a file has."""
    if not columns:
        raise UserError(f"{path} is empty")
    if missing := [column for column in required if column not in columns]:
        raise UserError(f"{path} lacks the column {_quoted_list(missing)}; it has {_quoted_list(columns)}")
    names = [*required, *(column for column in optional if column in columns)]
    if double := [column for column in names if columns.count(column) > 1]:
        raise UserError(f"{path} has the column {_quoted_list(double)} twice")
    return names


def _quoted_list(names: Iterable[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def quoted(value: object) -> str:
    """A value for an error message: quoted, escaped and shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
