"""Write the table of a published set to a file of our own."""

from __future__ import annotations

from pathlib import Path

from tripletcl.data.fact_sets.catalogue import read_fact_set
from tripletcl.data.fact_sets.spec import FactSetSpec
from tripletcl.data.fact_table import FactTable
from tripletcl.data.tables import NUMBERS, table_columns
from tripletcl.errors import UserError
from tripletcl.files import write_atomically

TASK_COLUMN = "task"
"""The column with each fact's task, for a set with tasks."""


def export_fact_set(spec: FactSetSpec, path: Path) -> FactTable:
    """Write the table of a published set to a .csv or .parquet file that `read_table` reads.

    Image paths are relative to the root of the set.

    Returns:
        The table.

    Raises:
        UserError: Another suffix; or as `read_fact_set`.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path} has the suffix {path.suffix!r}; a table is written to a .csv or a .parquet file")
    table = read_fact_set(spec)
    _write(table, path)
    return table


def _write(table: FactTable, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    columns = table_columns(table, table.images, TASK_COLUMN)
    kinds = {name: pa.int64() if name in NUMBERS else pa.string() for name in columns}
    written = pa.table({name: pa.array(cells, kinds[name]) for name, cells in columns.items()})
    write = csv.write_csv if path.suffix == ".csv" else parquet.write_table
    write_atomically(path, lambda temporary: write(written, temporary))
