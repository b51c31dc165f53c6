"""Read a fact table from a CSV, JSON Lines or Parquet file, and write it to a CSV file."""

from __future__ import annotations

import csv
import io
import logging
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from tripletcl.data.columns import BadRow, Column, TableFile, combine, distinct_rows, quoted, read_columns
from tripletcl.data.fact_table import SPLITS, FactTable
from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.folding import Fold, describe_folds, fold_facts
from tripletcl.data.images import PixelBox, Region
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN
from tripletcl.data.words import PLACEHOLDERS
from tripletcl.errors import UserError
from tripletcl.files import write_text

log = logging.getLogger("tripletcl")

COLUMNS = ("image", *UNITS, "split")
"""The columns of every table; predicate and object may be empty."""

BOX = ("x1", "y1", "x2", "y2")
"""The columns of a table of regions: left, top, right and bottom, in pixels from 0, right and bottom excluded."""

LABEL = "label"
"""The column that says whether the image of a row shows its fact."""

LABELS = {SHOWN: 1, NOT_SHOWN: 0, UNKNOWN: None}
"""The cells of that column; None is an empty one."""

NUMBERS = frozenset((*BOX, LABEL))
"""The columns of numbers; all others are text."""

CONTENT = "photo_digest"
"""A column of the tables that a run stores (`FactTable.contents`)."""

PLAIN_PATH = re.compile(r"([^/.:\\][^/:\\]*/)*[^/.:\\][^/:\\]*")
"""A relative path in normal form, as nearly all are: no part of it begins with a dot."""


class Row(NamedTuple):
    """One valid row; `number` is its line in the file (its row, in Parquet), from 1."""

    number: int
    image: str
    fact: Fact
    split: str
    group: str | None = None
    box: PixelBox | None = None
    label: int = SHOWN


@dataclass(frozen=True)
class Scan:
    """Every row of a file, valid or not.

    Attributes:
        path: The file.
        root: The folder that the image paths are relative to.
        counted_in: The unit of row numbers: "line" of a text file, "row" of a Parquet file.
        numbers: `[R]` the numbers of the valid rows, in file order.
        images: Their images.
        facts: Their facts.
        splits: Their splits.
        groups: The tasks of their facts, if the file has a column for it.
        labels: Their labels, likewise.
        bad: The other rows.
        folds: The texts of units that are read as another one.
        placeholders: Units that seem to stand for a missing value, such as "NaN", with the number of their rows.
    """

    path: Path
    root: Path
    counted_in: str
    numbers: np.ndarray
    images: Column[str | Region]
    facts: Column[Fact]
    splits: Column[str]
    groups: Column[str] | None
    labels: Column[int] | None
    bad: list[BadRow]
    folds: list[Fold] = field(default_factory=list)
    placeholders: dict[str, int] = field(default_factory=dict)

    @cached_property
    def rows(self) -> list[Row]:
        """The valid rows, one by one."""
        groups = [None] * len(self.numbers) if self.groups is None else self.groups.cells()
        images = self.images.cells()
        paths = [image.path.as_posix() if isinstance(image, Region) else image for image in images]
        boxes = [image.box if isinstance(image, Region) else None for image in images]
        labels = [SHOWN] * len(self.numbers) if self.labels is None else self.labels.cells()
        columns = self.numbers.tolist(), paths, self.facts.cells(), self.splits.cells(), groups, boxes, labels
        return [Row(*cells) for cells in zip(*columns, strict=True)]

    def take(self, rows: np.ndarray, bad: list[BadRow]) -> Scan:
        """Keep some of the valid rows, `[R]` bool; the others are added to the bad ones."""
        return replace(
            self,
            numbers=self.numbers[rows],
            images=self.images.take(rows),
            facts=self.facts.take(rows),
            splits=self.splits.take(rows),
            groups=None if self.groups is None else self.groups.take(rows),
            labels=None if self.labels is None else self.labels.take(rows),
            bad=sorted([*self.bad, *bad], key=lambda row: row.number),
        )


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
    followed. With the columns x1, y1, x2, y2 the image of a row is a part of a photo: its box in the pixels as they are
    stored, before any EXIF rotation, from 0, with x2 and y2 excluded; fractions are extended to whole pixels, and where
    all four are empty it is the whole photo. With the column label, a row says that the image shows the fact (1), was
    verified not to show it (0), or that this is not known (an empty cell). `tripletcl.data.check_table` also finds
    missing images, images in both splits, and boxes outside their photo.

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
    table = FactTable.from_columns(scan.root, scan.images, scan.facts, scan.splits, scan.labels)
    if scan.groups is None:
        return table
    rows = np.unique(scan.facts.codes, return_index=True)[1]  # all rows of a fact have one group
    groups = scan.groups.distinct
    return replace(table, groups=tuple([groups[code] for code in scan.groups.codes[rows].tolist()]))


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
    file, counted_in = read_columns(path, [*COLUMNS, *([task_column] if task_column else [])], (*BOX, LABEL))
    _check_box(path, file)
    if not len(file.numbers) and not file.bad:
        raise UserError(f"{path} has a header but no rows")
    if not root.is_dir():
        raise UserError(f"the folder of the images, {root}, does not exist")
    scan = _scan_rows(Scan(path, root, counted_in, file.numbers, *_parse(file, task_column, absolute), file.bad))
    counts = np.bincount(scan.facts.codes, minlength=len(scan.facts.values))
    rows = dict(zip(scan.facts.distinct, counts.tolist(), strict=True))
    readings, folds = fold_facts(rows, known) if fold else ({}, [])
    if readings:
        scan = replace(scan, facts=scan.facts.parse(lambda fact: readings.get(fact, fact)))
    return replace(_without_contradictions(_with_one_group(scan)), folds=folds, placeholders=_placeholders(rows))


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
    columns = table_columns(table, [str(path.absolute()) for path in table.paths], task_column)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def table_columns(table: FactTable, paths: Sequence[str], task_column: str | None) -> dict[str, list[Any]]:
    """The cells of each column of a table, `[R]`, None where a cell is empty.

    Args:
        table: A table of one file, not a joined one.
        paths: `[N]`, the texts of the image paths.
        task_column: The name of the column for `FactTable.groups`, if the table has them.
    """
    images, facts = table.rows.T.tolist()
    units = [table.facts[fact].units for fact in facts]
    columns: dict[str, list[Any]] = {"image": [paths[image] for image in images]}
    columns |= {name: [of_fact[place] for of_fact in units] for place, name in enumerate(UNITS)}
    columns["split"] = table.splits.tolist()
    if table.boxes is not None:
        boxes = [table.boxes[image] or (None,) * len(BOX) for image in images]
        columns |= {name: [box[place] for box in boxes] for place, name in enumerate(BOX)}
    if table.labels is not None:
        columns[LABEL] = [LABELS[label] for label in table.labels.tolist()]
    if task_column is not None and table.groups is not None:
        columns[task_column] = [table.groups[fact] for fact in facts]
    if table.contents is not None:
        columns[CONTENT] = [table.contents[image] for image in images]
    return columns


def write_table(path: Path, table: FactTable, task_column: str | None = None) -> None:
    """Write `table_text` atomically."""
    write_text(path, table_text(table, task_column))


# --- rows ------------------------------------------------------------------------------------------------------------


def _check_box(path: Path, file: TableFile) -> None:
    """Refuse a file with some of the columns of a box."""
    given = [name for name in BOX if name in file.columns]
    if given and len(given) < len(BOX):
        missing = ", ".join(name for name in BOX if name not in given)
        raise UserError(f"{path} has the column {', '.join(given)} but not {missing}; a box is {', '.join(BOX)}")


def _parse(
    file: TableFile, task_column: str | None, absolute: bool
) -> tuple[Column[str | Region], Column[Fact], Column[str], Column[str] | None, Column[int] | None]:
    """The images, facts, splits, groups and labels of a file's rows, valid or not."""
    texts = {name: column for name, column in file.columns.items() if name not in NUMBERS}
    cells = {name: column.parse(partial(_cell, column=name)) for name, column in texts.items()}
    groups = None if task_column is None else cells[task_column].parse(partial(_group, task_column=task_column))
    facts = combine([cells[unit] for unit in UNITS]).parse(lambda units: Fact(*units))
    images: Column[str | Region] = cells["image"].parse(partial(_image, absolute=absolute))
    if BOX[0] in file.columns:
        boxes = combine([file.columns[name].parse(partial(_side, column=name)) for name in BOX]).parse(_box)
        images = combine([images, boxes]).parse(_region)
    labels = file.columns[LABEL].parse(_label) if LABEL in file.columns else None
    return images, facts, cells["split"].parse(_split), groups, labels


def _scan_rows(scan: Scan) -> Scan:
    """The scan whose invalid rows are among the bad ones, each with its first reason."""
    reasons: dict[int, str] = {}
    for column in (scan.splits, scan.groups, scan.images, scan.facts, scan.labels):
        if column is not None:
            for row in np.flatnonzero(column.refused()).tolist():
                reasons.setdefault(row, str(column.values[column.codes[row]]))
    valid = np.ones(len(scan.numbers), dtype=bool)
    valid[list(reasons)] = False
    return scan.take(valid, [BadRow(int(scan.numbers[row]), reason) for row, reason in reasons.items()])


def _split(text: str) -> str:
    if text not in SPLITS:
        raise UserError(f"split is {quoted(text)}, allowed are 'train' and 'test'")
    return text


def _group(text: str, task_column: str) -> str:
    if not text:
        raise UserError(f"the task column {quoted(task_column)} is empty")
    return text


def _cell(value: object, column: str) -> str:
    """A cell's stripped text, "" if it is missing (None, or the NaN of a data frame)."""
    if value is None or value != value:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{column} is {quoted(value)}, which is not text")
    if "\0" in value:
        raise UserError(f"{column} {quoted(value)} holds a NUL character")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise UserError(f"{column} {quoted(value)} is not UTF-8 text")
    return value.strip()


def _image(text: str, absolute: bool) -> str:
    """An image path in normal form, so that `./a.jpg` and `a.jpg` are the same image."""
    if PLAIN_PATH.fullmatch(text):
        return text
    if not text:
        raise UserError("image is empty")
    path = PurePath(text)
    if (path.is_absolute() or path.drive) and not absolute:
        raise UserError(f"image {quoted(text)} is absolute; image paths are relative to the root folder")
    if ".." in path.parts:
        raise UserError(f"image {quoted(text)} has a '..'; image paths stay below the root folder")
    if not path.parts:
        raise UserError(f"image {quoted(text)} names no file")
    return path.as_posix()


def _label(value: object) -> int:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return UNKNOWN
    text = value.strip() if isinstance(value, str) else value
    if text in (1, "1", "1.0"):
        return SHOWN
    if text in (0, "0", "0.0"):
        return NOT_SHOWN
    raise UserError(
        f"label is {quoted(value)}; allowed are 1 (shown), 0 (verified not to be shown) and an empty cell (not known)"
    )


def _side(value: object, column: str) -> float | None:
    """A side of a box; None if the cell is empty."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    try:
        side = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        side = math.nan
    if not math.isfinite(side):
        raise UserError(f"{column} is {quoted(value)}, which is no number of pixels")
    return side


def _box(sides: tuple[float | None, ...]) -> PixelBox | None:
    """A box in whole pixels; None if no side is given."""
    missing = [name for name, side in zip(BOX, sides, strict=True) if side is None]
    if missing:
        if len(missing) == len(BOX):
            return None
        raise UserError(f"its box lacks {', '.join(missing)}")
    left, top, right, bottom = (side for side in sides if side is not None)
    box = math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
    if not (left < right and top < bottom):
        raise UserError(f"its box {list(box)} is empty: x1 must be less than x2, and y1 less than y2")
    return box


def _region(image: tuple[str, PixelBox | None]) -> str | Region:
    path, box = image
    return path if box is None else Region(Path(path), box)


def _placeholders(facts: Mapping[Fact, int]) -> dict[str, int]:
    texts = {text for fact in facts for text in fact.units if text is not None}
    wanted = {text for text in texts if text.casefold() in PLACEHOLDERS}
    found: Counter[str] = Counter()
    for fact, count in facts.items() if wanted else ():
        for text in dict.fromkeys(fact.units):
            if text in wanted:
                found[text] += count
    return dict(found)


def _with_one_group(scan: Scan) -> Scan:
    """The scan whose rows with another task than the first row of their fact are among the bad ones."""
    if scan.groups is None:
        return scan
    first = np.unique(scan.facts.codes, return_index=True)[1][scan.facts.codes]  # [R] the first row of each row's fact
    wrong = scan.groups.codes != scan.groups.codes[first]
    groups, facts = scan.groups, scan.facts
    bad = [
        BadRow(
            int(scan.numbers[row]),
            f"fact {facts.values[facts.codes[row]]} is in task {quoted(groups.values[groups.codes[row]])}, but in task "
            f"{quoted(groups.values[groups.codes[first[row]]])} at {scan.counted_in} {scan.numbers[first[row]]}",
        )
        for row in np.flatnonzero(wrong).tolist()
    ]
    return scan.take(~wrong, bad) if bad else scan


def _without_contradictions(scan: Scan) -> Scan:
    """The scan whose rows that say 0 of what another row says 1 of are among the bad ones."""
    if scan.labels is None:
        return scan
    labels = np.array(scan.labels.cells(), dtype=np.int8)
    _, pairs = distinct_rows([scan.images, scan.facts])  # [R] the same number for the same image and fact
    shown = np.flatnonzero(labels == SHOWN)
    said, first = np.unique(pairs[shown], return_index=True)
    wrong = (labels == NOT_SHOWN) & np.isin(pairs, said)
    bad = []
    for row in np.flatnonzero(wrong).tolist():
        other = scan.numbers[shown[first[np.searchsorted(said, pairs[row])]]]
        fact = scan.facts.values[scan.facts.codes[row]]
        reason = f"label of {fact} is 0, but 1 at {scan.counted_in} {other} for the same image"
        bad.append(BadRow(int(scan.numbers[row]), reason))
    return scan.take(~wrong, bad) if bad else scan
