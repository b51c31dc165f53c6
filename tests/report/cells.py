"""The cells of a table by the name of their row and the title of their column."""

from __future__ import annotations

import csv
import io

from tripletcl.report.table import Cell, Table, csv_table


def cells(table: Table) -> dict[str, dict[str, Cell]]:
    """Row to title to cell, without the first column, which names the rows."""
    return {row[0].text: dict(zip(table.titles[1:], row[1:], strict=True)) for row in table.rows}


def texts(table: Table) -> dict[str, list[str]]:
    """Row to the printed texts of its cells, without deviations."""
    return {name: [cell.plain for cell in row.values()] for name, row in cells(table).items()}


def best(table: Table) -> dict[str, list[str]]:
    """Title to the rows whose cell is marked as the best."""
    return {title: [name for name, row in cells(table).items() if row[title].best] for title in table.titles[1:]}


def fields(table: Table) -> dict[str, dict[str, str]]:
    """Row to title to text, as a reader of the table's CSV finds them."""
    return {line["method"]: line for line in csv.DictReader(io.StringIO(csv_table(table)))}
