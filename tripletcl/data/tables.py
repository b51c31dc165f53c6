"""Read a fact table from a CSV, JSON Lines or Parquet file, and write it to a CSV file."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from tripletcl.data.fact_table import SPLITS, FactTable
from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.folding import Fold, describe_folds, fold_facts
from tripletcl.data.words import PLACEHOLDERS
from tripletcl.errors import UserError
from tripletcl.files import write_text

log = logging.getLogger("tripletcl")

COLUMNS = ("image", *UNITS, "split")
"""The columns of every table; predicate and object may be empty."""

CONTENT = "photo_digest"
"""A column of the tables that a run stores (`FactTable.contents`)."""

PLAIN_PATH = re.compile(r"([^/.:\\][^/:\\]*/)*[^/.:\\][^/:\\]*")
"""A relative path in normal form, as nearly all are: no part of it begins with a dot."""

Cells = tuple[object, ...]
"""The cells of a row in the columns that are read; None where a row lacks one."""

Record = tuple[int, Cells | str]
"""A row's number, and its cells or, for a row without cells, the reason why it is bad."""


class Row(NamedTuple):
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
        folds: The texts of units that are read as another one.
        placeholders: Units that seem to stand for a missing value, such as "NaN", with the number of their rows.
    """

    path: Path
    root: Path
    counted_in: str
    rows: list[Row]
    bad: list[BadRow]
    folds: list[Fold] = field(default_factory=list)
    placeholders: dict[str, int] = field(default_factory=dict)


def read_table(
    path: str | Path,
    root: str | Path | None = None,
    task_column: str | None = None,
    absolute: bool = False,
    fold: bool = True,
    known: Collection[Fact] = (),
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
        fold: Read units that are spellings or forms of one another as one (`tripletcl.data.folding.fold_facts`), and
            log which; False reads them as they are written.
        known: Facts that are known already, onto whose units those of the table are folded.

    Raises:
        UserError: The file cannot be read, has no rows, lacks a column, or has bad rows: the first one is named.
    """
    scan = scan_table(path, root, task_column, absolute, fold, known)
    if scan.bad:
        first = scan.bad[0]
        where = f"{scan.counted_in} {first.number}: {first.reason}"
        many = len(scan.bad) > 1
        raise UserError(f"{path} has {len(scan.bad)} bad rows; the first, {where}" if many else f"{path} {where}")
    if scan.folds:
        log.info("%s: %s", path, describe_folds(scan.folds))
    if fold and scan.placeholders:
        log.warning("%s has %s", path, describe_placeholders(scan.placeholders))
    table = FactTable.from_rows(scan.root, [(row.image, row.fact, row.split) for row in scan.rows])
    if task_column is None:
        return table
    groups = {row.fact: row.group or "" for row in scan.rows}
    return replace(table, groups=tuple(groups[fact] for fact in table.facts))


def scan_table(
    path: str | Path,
    root: str | Path | None = None,
    task_column: str | None = None,
    absolute: bool = False,
    fold: bool = True,
    known: Collection[Fact] = (),
) -> Scan:
    """Read every row of a table file, bad ones too; arguments as for `read_table`.

    Raises:
        UserError: The file as a whole cannot be used: it is missing, unreadable or empty, or lacks a column.
    """
    path = Path(path)
    root = path.parent if root is None else Path(root)
    records, counted_in = _records(path, [*COLUMNS, *([task_column] if task_column else [])])
    if not records:
        raise UserError(f"{path} has a header but no rows")
    if not root.is_dir():
        raise UserError(f"the folder of the images, {root}, does not exist")
    rows, bad = _rows(records, _RowReader(task_column, absolute))
    counts = Counter(row.fact for row in rows)
    folds: list[Fold] = []
    if fold:
        readings, folds = fold_facts(counts, known)
        rows = [Row(*row[:2], readings.get(row.fact, row.fact), *row[3:]) for row in rows] if readings else rows
    if task_column:
        rows, bad = _with_one_group(rows, bad, counted_in)
    return Scan(path, root, counted_in, rows, bad, folds, _placeholders(counts))


def describe_placeholders(placeholders: Mapping[str, int]) -> str:
    """Say which units seem to stand for a missing value, and in how many rows."""
    some = ", ".join(f"{text!r} in {count:,} rows" for text, count in placeholders.items())
    return f"units that seem to stand for a missing value: {some}; leave the cell of a missing unit empty"


def table_text(table: FactTable, task_column: str | None = None) -> str:
    """The table as CSV with absolute image paths; `read_table(absolute=True)` restores images, facts and rows in order.

    Args:
        table: A table of one file, not a joined one.
        task_column: The name of the column for `FactTable.groups`, if the table has them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    groups = table.groups if task_column is not None else None
    extra = [*([task_column] if groups else []), *([CONTENT] if table.contents else [])]
    writer.writerow([*COLUMNS, *extra])
    paths = [str(path.absolute()) for path in table.paths]
    for (image, fact), split in zip(table.rows.tolist(), table.splits.tolist(), strict=True):
        values = [*([groups[fact]] if groups else []), *([table.contents[image]] if table.contents else [])]
        writer.writerow([paths[image], *(unit or "" for unit in table.facts[fact].units), split, *values])
    return text.getvalue()


def write_table(path: Path, table: FactTable, task_column: str | None = None) -> None:
    """Write `table_text` atomically."""
    write_text(path, table_text(table, task_column))


# --- files -----------------------------------------------------------------------------------------------------------


def _records(path: Path, columns: Sequence[str]) -> tuple[list[Record], str]:
    """The rows of a file in some of its columns, and the unit of their numbers."""
    try:
        reader, counted_in = READERS[path.suffix.lower()]
    except KeyError:
        raise UserError(
            f"{path} is no table: its suffix is {path.suffix!r}, allowed are {', '.join(READERS)}"
        ) from None
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty")
        return reader(path, columns), counted_in
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


def _read_csv(path: Path, columns: Sequence[str]) -> list[Record]:
    text = _text(path)
    _check_separator(path, text[: text.find("\n")])
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] = []
    places: list[int] = []
    records: list[Record] = []
    while True:
        number = lines.line_num + 1  # a quoted cell may span lines: a row has the number of its first
        try:
            cells = next(lines)
        except StopIteration:
            break
        except csv.Error as error:
            if not header:
                raise UserError(f"{path} line {number}: the header is not valid CSV ({error})") from error
            records.append((number, f"not valid CSV ({error})"))
            continue
        if not cells:
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            _check_columns(path, header, columns)
            places = [header.index(column) for column in columns]
        elif len(cells) != len(header):
            records.append((number, f"{len(cells)} cells where the header has {len(header)} columns"))
        else:
            records.append((number, tuple([cells[place] for place in places])))
    _check_columns(path, header, columns)
    return records


def _check_separator(path: Path, header: str) -> None:
    """Refuse a file whose cells end at something other than a comma."""
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if "," not in header and header.count(separator) >= len(COLUMNS) - 1:
            raise UserError(f"{path} separates its cells by {name}; save it with commas")


def _read_jsonl(path: Path, columns: Sequence[str]) -> list[Record]:
    found: dict[str, None] = {}
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
            found.update(dict.fromkeys(record))
            records.append((number, tuple(map(record.get, columns))))
        else:
            records.append((number, f"not a JSON object but {_quoted(record)}"))
    if not found and records:
        raise UserError(f"{path} line {records[0][0]}: {records[0][1]}")
    _check_columns(path, list(found), columns)
    return records


def _read_parquet(path: Path, columns: Sequence[str]) -> list[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(path, [column.name for column in file.schema_arrow], columns)
            content = file.read(columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from error
    cells = [_parquet_cells(path, column, content[column]) for column in columns]
    return list(enumerate(zip(*cells, strict=True), start=1))


def _parquet_cells(path: Path, name: str, column: Any) -> list[object]:
    try:
        return column.to_pylist()
    except (ValueError, OverflowError) as error:  # bytes that are no UTF-8; a date out of Python's range
        raise UserError(f"{path} has something other than UTF-8 text in the column {name!r}: {error}") from error


READERS: dict[str, tuple[Callable[[Path, Sequence[str]], list[Record]], str]] = {
    ".csv": (_read_csv, "line"),
    ".jsonl": (_read_jsonl, "line"),
    ".ndjson": (_read_jsonl, "line"),
    ".parquet": (_read_parquet, "row"),
}
"""The reader of each format, and the unit of its row numbers."""


def _check_columns(path: Path, columns: list[str], required: Iterable[str]) -> None:
    if not columns:
        raise UserError(f"{path} is empty")
    if missing := [column for column in required if column not in columns]:
        raise UserError(f"{path} lacks the column {_quoted_list(missing)}; it has {_quoted_list(columns)}")
    if double := [column for column in required if columns.count(column) > 1]:
        raise UserError(f"{path} has the column {_quoted_list(double)} twice")


# --- rows ------------------------------------------------------------------------------------------------------------


def _rows(records: Iterable[Record], reader: _RowReader) -> tuple[list[Row], list[BadRow]]:
    """The valid rows and the others."""
    rows: list[Row] = []
    bad: list[BadRow] = []
    for number, cells in records:
        try:
            rows.append(reader.read(number, cells))
        except UserError as error:
            bad.append(BadRow(number, str(error)))
    return rows, bad


class _RowReader:
    """Reads rows; a path and a fact that were read before are not read again.

    Args:
        task_column: The name of the last column, if it is the one of tasks.
        absolute: Allow absolute image paths.
    """

    def __init__(self, task_column: str | None, absolute: bool) -> None:
        self.task_column, self.absolute = task_column, absolute
        self.columns = (*COLUMNS, *([task_column] if task_column else []))
        self.images: dict[str, str] = {}
        self.facts: dict[tuple[str, ...], Fact] = {}

    def read(self, number: int, cells: Cells | str) -> Row:
        """Read a row.

        Raises:
            UserError: it is not valid.
        """
        if isinstance(cells, str):
            raise UserError(cells)
        image, *units, split = map(_cell, cells[: len(COLUMNS)], COLUMNS)
        if split not in SPLITS:
            raise UserError(f"split is {_quoted(split)}, allowed are 'train' and 'test'")
        group = None if self.task_column is None else _cell(cells[-1], self.task_column)
        if group == "":
            raise UserError(f"the task column {_quoted(self.task_column)} is empty")
        if image not in self.images:
            self.images[image] = _image(image, self.absolute)
        if (key := tuple(units)) not in self.facts:
            self.facts[key] = Fact(*units)
        return Row(number, self.images[image], self.facts[key], split, group)


def _cell(value: object, column: str) -> str:
    """A cell's stripped text, "" if it is missing (None, or the NaN of a data frame)."""
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{column} is {_quoted(value)}, which is not text")
    if "\0" in value:
        raise UserError(f"{column} {_quoted(value)} holds a NUL character")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{column} {_quoted(value)} is not UTF-8 text")
    return value.strip()


def _image(text: str, absolute: bool) -> str:
    """An image path in normal form, so that `./a.jpg` and `a.jpg` are the same image."""
    if PLAIN_PATH.fullmatch(text):
        return text
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


def _placeholders(facts: Counter[Fact]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for fact, count in facts.items():
        for text in dict.fromkeys(fact.units):
            if text is not None and text.casefold() in PLACEHOLDERS:
                found[text] += count
    return dict(found)


def _with_one_group(rows: list[Row], bad: list[BadRow], counted_in: str) -> tuple[list[Row], list[BadRow]]:
    """The rows whose fact is in the task of its first row, and the bad rows with the others."""
    first: dict[Fact, Row] = {}
    others = [row for row in rows if row.group != first.setdefault(row.fact, row).group]
    if not others:
        return rows, bad
    wrong = set(map(id, others))
    bad = bad + [BadRow(row.number, _two_groups(row, first[row.fact], counted_in)) for row in others]
    return [row for row in rows if id(row) not in wrong], sorted(bad, key=lambda row: row.number)


def _two_groups(row: Row, first: Row, counted_in: str) -> str:
    task, other = _quoted(row.group), _quoted(first.group)
    return f"fact {row.fact} is in task {task}, but in task {other} at {counted_in} {first.number}"


def _quoted_list(names: Iterable[str]) -> str:
    return ", ".join(_quoted(name) for name in names)


def _quoted(value: object) -> str:
    """A value for an error message: quoted, escaped and shortened."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
