"""Read a fact table from a CSV, JSON Lines or Parquet file, and write it to a CSV file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from tripletcl.data.fact_table import SPLITS, FactTable
from tripletcl.data.facts import UNITS, Fact
from tripletcl.errors import UserError
from tripletcl.files import write_text

COLUMNS = ("image", *UNITS, "split")
"""The columns of every table; predicate and object may be empty."""

Record = tuple[int, Mapping[str, object] | str]
"""A row's number, and its cells by column or, for a row without cells, the reason why it is bad."""


@dataclass(frozen=True, slots=True)
class Row:
    """One valid row; `number` is its line in the file (its row, in Parquet), from 1."""

    number: int
    image: str
    fact: Fact
    split: str
    group: str | None = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """One row that is not valid, with the reason."""

    number: int
    reason: str


@dataclass(frozen=True)
class Scan:
    """Every row of a file, valid or not.

    Attributes:
        path: The file.
        root: The folder that the image paths are relative to.
        counted_in: The unit of row numbers: "line" of a text file, "row" of a Parquet file.
        rows: The valid rows, in file order.
        bad: The others.
    """

    path: Path
    root: Path
    counted_in: str
    rows: list[Row]
    bad: list[BadRow]


def read_table(
    path: str | Path, root: str | Path | None = None, task_column: str | None = None, absolute: bool = False
) -> FactTable:
    """Read a table with the columns image, subject, predicate, object, split from a .csv, .jsonl or .parquet file.

    Predicate and object may be empty (the fact lacks that unit); split is "train" or "test". Blanks around a value are
    ignored, and duplicate rows are dropped. Image paths are relative to `root` and stay below it; symbolic links are
    followed. `tripletcl.data.check_table` also finds missing images and images in both splits.

    Args:
        path: The file; its suffix selects the format. Text is UTF-8, with or without a byte order mark.
        root: The folder that the image paths are relative to; None is the file's own folder.
        task_column: An additional column with the task of each row's fact; it becomes `FactTable.groups`.
        absolute: Allow absolute image paths.

    Raises:
        UserError: The file cannot be read, has no rows, lacks a column, or has bad rows: the first one is named.
    """
    scan = scan_table(path, root, task_column, absolute)
    if scan.bad:
        first = scan.bad[0]
        where = f"{scan.counted_in} {first.number}: {first.reason}"
        many = len(scan.bad) > 1
        raise UserError(f"{path} has {len(scan.bad)} bad rows; the first, {where}" if many else f"{path} {where}")
    table = FactTable.from_rows(scan.root, [(row.image, row.fact, row.split) for row in scan.rows])
    if task_column is None:
        return table
    groups = {row.fact: row.group or "" for row in scan.rows}
    return replace(table, groups=tuple(groups[fact] for fact in table.facts))


def scan_table(
    path: str | Path, root: str | Path | None = None, task_column: str | None = None, absolute: bool = False
) -> Scan:
    """Read every row of a table file, bad ones too; arguments as for `read_table`.

    Raises:
        UserError: The file as a whole cannot be used: it is missing, unreadable or empty, or lacks a column.
    """
    path = Path(path)
    root = path.parent if root is None else Path(root)
    columns, records, counted_in = _records(path)
    _check_columns(path, columns, [*COLUMNS, *([task_column] if task_column else [])])
    if not records:
        raise UserError(f"{path} has a header but no rows")
    if not root.is_dir():
        raise UserError(f"the folder of the images, {root}, does not exist")
    scan = Scan(path, root, counted_in, [], [])
    groups: dict[Fact, Row] = {}
    for number, record in records:
        try:
            row = _row(number, record, task_column, absolute)
            _check_group(row, groups.setdefault(row.fact, row), counted_in)
        except UserError as error:
            scan.bad.append(BadRow(number, str(error)))
        else:
            scan.rows.append(row)
    return scan


def table_text(table: FactTable, task_column: str | None = None) -> str:
    """The table as CSV with absolute image paths; `read_table(absolute=True)` restores images, facts and rows in order.

    Args:
        table: A table of one file, not a joined one.
        task_column: The name of the column for `FactTable.groups`, if the table has them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    named = task_column is not None and table.groups is not None
    writer.writerow([*COLUMNS, *([task_column] if named else [])])
    paths = [str(path.absolute()) for path in table.paths]
    for (image, fact), split in zip(table.rows.tolist(), table.splits.tolist(), strict=True):
        group = [table.groups[fact]] if named and table.groups is not None else []
        writer.writerow([paths[image], *(unit or "" for unit in table.facts[fact].units), split, *group])
    return text.getvalue()


def write_table(path: Path, table: FactTable, task_column: str | None = None) -> None:
    """Write `table_text` atomically."""
    write_text(path, table_text(table, task_column))


def _records(path: Path) -> tuple[list[str], list[Record], str]:
    """The columns of a file, its rows, and the unit of their numbers."""
    try:
        reader, counted_in = READERS[path.suffix.lower()]
    except KeyError:
        raise UserError(
            f"{path} is no table: its suffix is {path.suffix!r}, allowed are {', '.join(READERS)}"
        ) from None
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty")
        columns, records = reader(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return columns, records, counted_in


def _text(path: Path) -> str:
    """The file's text; bytes that are not UTF-8 become lone surrogates, which `_cell` refuses row by row."""
    raw = path.read_bytes()
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16 text; save it as UTF-8")
    return raw.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="surrogateescape")


def _read_csv(path: Path) -> tuple[list[str], list[Record]]:
    lines = csv.reader(io.StringIO(_text(path), newline=""), strict=True)
    columns: list[str] = []
    records: list[Record] = []
    while True:
        number = lines.line_num + 1  # a quoted cell may span lines: a row has the number of its first
        try:
            cells = next(lines)
        except StopIteration:
            return columns, records
        except csv.Error as error:
            if not columns:
                raise UserError(f"{path} line {number}: the header is not valid CSV ({error})") from error
            records.append((number, f"not valid CSV ({error})"))
            continue
        if not cells:
            continue
        if not columns:
            columns = [cell.strip() for cell in cells]
        elif len(cells) != len(columns):
            records.append((number, f"{len(cells)} cells where the header has {len(columns)} columns"))
        else:
            records.append((number, dict(zip(columns, cells, strict=True))))


def _read_jsonl(path: Path) -> tuple[list[str], list[Record]]:
    columns: dict[str, None] = {}
    records: list[Record] = []
    for number, line in enumerate(_text(path).split("\n"), start=1):  # splitlines would split inside JSON strings
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            records.append((number, f"not valid JSON ({error})"))
            continue
        if isinstance(record, dict):
            columns.update(dict.fromkeys(record))
            records.append((number, record))
        else:
            records.append((number, f"not a JSON object but {_quoted(record)}"))
    if not columns and records:
        raise UserError(f"{path} line {records[0][0]}: {records[0][1]}")
    return list(columns), records


def _read_parquet(path: Path) -> tuple[list[str], list[Record]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = list(file.schema_arrow.names)
            records = file.read().to_pylist() if len(set(columns)) == len(columns) else []
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    return columns, list(enumerate(records, start=1))


READERS = {
    ".csv": (_read_csv, "line"),
    ".jsonl": (_read_jsonl, "line"),
    ".ndjson": (_read_jsonl, "line"),
    ".parquet": (_read_parquet, "row"),
}


def _check_columns(path: Path, columns: list[str], required: Iterable[str]) -> None:
    if not columns:
        raise UserError(f"{path} is empty")
    if missing := [column for column in required if column not in columns]:
        raise UserError(f"{path} lacks the column {_quoted_list(missing)}; it has {_quoted_list(columns)}")
    if double := [column for column in required if columns.count(column) > 1]:
        raise UserError(f"{path} has the column {_quoted_list(double)} twice")


def _row(number: int, record: Mapping[str, object] | str, task_column: str | None, absolute: bool) -> Row:
    if isinstance(record, str):
        raise UserError(record)
    image, subject, predicate, object_, split = (_cell(record, column) for column in COLUMNS)
    if split not in SPLITS:
        raise UserError(f"split is {_quoted(split)}, allowed are 'train' and 'test'")
    group = _cell(record, task_column) if task_column else None
    if group == "":
        raise UserError(f"the task column {_quoted(task_column)} is empty")
    return Row(number, _image(image, absolute), Fact(subject, predicate, object_), split, group)


def _cell(record: Mapping[str, object], column: str) -> str:
    """A cell's stripped text, "" if it is missing (None, or the NaN of a data frame)."""
    value = record.get(column)
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{column} is {_quoted(value)}, which is not text")
    if "\0" in value:
        raise UserError(f"{column} {_quoted(value)} holds a NUL character")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{column} {_quoted(value)} is not UTF-8 text")
    return value.strip()


def _image(text: str, absolute: bool) -> str:
    """An image path in normal form, so that `./a.jpg` and `a.jpg` are the same image."""
    if not text:
        raise UserError("image is empty")
    path = PurePath(text)
    if (path.is_absolute() or path.drive) and not absolute:
        raise UserError(f"image {_quoted(text)} is absolute; image paths are relative to the root folder")
    if ".." in path.parts:
        raise UserError(f"image {_quoted(text)} has a '..'; image paths stay below the root folder")
    if not path.parts:
        raise UserError(f"image {_quoted(text)} names no file")
    return path.as_posix()


def _check_group(row: Row, first: Row, counted_in: str) -> None:
    if row.group != first.group:
        task, other = _quoted(row.group), _quoted(first.group)
        raise UserError(f"fact {row.fact} is in task {task}, but in task {other} at {counted_in} {first.number}")


def _quoted_list(names: Iterable[str]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _quoted(value: object) -> str:
    """A value for an error message: quoted, escaped and shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
