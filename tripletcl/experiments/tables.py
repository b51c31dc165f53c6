"""The tables of facts that a config names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from tripletcl.config import FactConfig
from tripletcl.config.facts import NO_TABLE
from tripletcl.data import FactSetSpec, FactTable, read_fact_set, read_table
from tripletcl.data.contents import with_contents, with_stored_contents
from tripletcl.errors import UserError
from tripletcl.experiments.inputs import table_cache
from tripletcl.files import locked
from tripletcl.files.places import cache_folder
from tripletcl.scenes import write_scenes


def load_table(config: FactConfig) -> FactTable:
    """Read all tables of a config as one."""
    first, *follow_ups = load_tables(config)
    return first.join(follow_ups)


def load_tables(config: FactConfig, stored: bool = False) -> list[FactTable]:
    """Read the first table, whose facts are partitioned into tasks, and the follow-up tables, each of one task.

    Args:
        config: Names the tables.
        stored: They are those that a run has stored, and tell the contents of their photos; otherwise the photos do.

    Raises:
        UserError: one is missing or damaged.
    """
    tables: list[FactTable] = []
    for number in range(1 + len(config.data.further)):
        tables.append(load_numbered(config, number, tables, stored))
    return tables


def load_numbered(
    config: FactConfig, number: int, earlier: Sequence[FactTable] = (), stored: bool = False
) -> FactTable:
    """Read one of the tables, 0 being the first.

    Args:
        config: Names the tables.
        number: The table's number.
        earlier: The tables before it, onto whose facts the spellings of this one are folded.
        stored: See `load_tables`.
    """
    file = table_file(config, number)
    if number:
        known = dict.fromkeys(fact for table in earlier for fact in table.facts)
        table = read_table(file, absolute=True, fold=config.data.fold, known=known)
    else:
        table = _first_table(config)
    if stored and file.suffix == ".csv":
        table = with_stored_contents(table, file)
    return with_contents(table, config.model.image_size, table_cache(number, table.paths))


def table_file(config: FactConfig, number: int) -> Path:
    """Return the file of one of the tables, 0 being the first; of a published set its folder."""
    table = config.data.further[number - 1].table if number else config.data.table
    return Path(table.root if isinstance(table, FactSetSpec) else table)


def _first_table(config: FactConfig) -> FactTable:
    """Read `data.table`; scenes are drawn unless the cache has them."""
    data = config.data
    if data.table == NO_TABLE:
        return FactTable.from_rows(Path(), [])
    if data.table == "scenes":
        settings, size = data.scenes.model_dump(), config.model.image_size
        name = "-".join(f"{key}{value}" for key, value in settings.items())
        folder = cache_folder() / "scenes" / f"{name}-size{size}"
        with nullcontext() if folder.exists() else locked(folder.with_suffix(".lock")):  # one process draws them
            return read_table(write_scenes(folder, size=size, **settings))
    if "${" in data.table_name:
        raise UserError(
            f"data.table is {data.table_name}: set that environment variable, or give data.table=FILE or "
            "data.table.root=FOLDER"
        )
    if isinstance(data.table, FactSetSpec):
        return read_fact_set(data.table)
    root = Path(data.root) if data.root is not None else None
    return read_table(Path(data.table), root=root, task_column=data.task_column, absolute=True, fold=data.fold)


def count_first_tasks(config: FactConfig) -> int:
    """Count the tasks that the facts of `data.table` are partitioned into."""
    if config.data.table == NO_TABLE:
        return 0
    return config.data.tasks or len(set(_first_table(config).groups or ()))


def split_name(config: FactConfig) -> str:
    """Return the name of the partition into tasks, such as `random-0`."""
    return config.data.split if config.data.split == "column" else f"{config.data.split}-{config.data.split_seed}"
