"""Write a fact table to a CSV file that says all by itself: image paths are absolute."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from tripletcl.data.facts import FactTable
from tripletcl.data.readers import COLUMNS
from tripletcl.files import write_text


def table_text(table: FactTable, task_column: str | None = None) -> str:
    """The table as CSV: read with `absolute`, it has the same images, facts and rows in the same order.

    Args:
        table: Of one file, not put together.
        task_column: What the column of `FactTable.groups` is called, where the table has them.
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
    """Write `table_text`, whole or not at all."""
    write_text(path, table_text(table, task_column))
