"""Write the table of a published set to a file of our own."""

from __future__ import annotations

from pathlib import Path

from tripletcl.data.fact_sets.catalogue import read_fact_set
from tripletcl.data.fact_sets.spec import FactSetSpec
from tripletcl.data.fact_table import FactTable
from tripletcl.data.facts import UNITS
from tripletcl.errors import UserError
from tripletcl.files import write_atomically

TASK_COLUMN = "task"
"""The column with each fact's task, for a set with tasks."""


def export_fact_set(spec: FactSetSpec, path: Path) -> tuple[FactTable, Path]:
    """Write the table of a published set to a .csv or .parquet file that `read_table` reads.

    Image paths are relative: to the root of the set or, with `region: union`, to the folder of the file, where the
    regions are written to a folder that is called like the file.

    Returns:
        The table, and the folder that the image paths are relative to.

    Raises:
        UserError: Another suffix; or as `read_fact_set`.
    """
    if path.suffix not in (".csv", ".parquet"):
        raise UserError(f"{path} has the suffix {path.suffix!r}; a table is written to a .csv or a .parquet file")
    table = read_fact_set(spec, scratch=path.parent / f"{path.stem}-regions")
    root = path.parent if spec.region == "union" else table.root
    _write(table, path, root)
    return table, root


def _write(table: FactTable, path: Path, root: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    folder = table.root.relative_to(root)
    images = [(folder / image).as_posix() for image in table.images]
    columns = {
        "image": [images[image] for image in table.rows[:, 0].tolist()],
        **{
            unit: [table.facts[fact].units[place] for fact in table.rows[:, 1].tolist()]
            for place, unit in enumerate(UNITS)
        },
        "split": table.splits.tolist(),
    }
    if table.groups is not None:
        columns[TASK_COLUMN] = [table.groups[fact] for fact in table.rows[:, 1].tolist()]
    written = pa.table({name: pa.array(cells, pa.string()) for name, cells in columns.items()})
    write = csv.write_csv if path.suffix == ".csv" else parquet.write_table
    write_atomically(path, lambda temporary: write(written, temporary))
