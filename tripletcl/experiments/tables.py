"""The tables of facts that a config names."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from tripletcl.config import FactConfig
from tripletcl.data import FactSetSpec, FactTable, read_fact_set, read_table
from tripletcl.errors import UserError
from tripletcl.experiments.inputs import cache_folder
from tripletcl.files import locked
from tripletcl.scenes import write_scenes


def load_table(config: FactConfig) -> FactTable:
    """Read all tables of a config as one."""
    first, *follow_ups = load_tables(config)
    return first.join(follow_ups)


def load_tables(config: FactConfig) -> list[FactTable]:
    """Read the first table, whose facts are partitioned into tasks, and the follow-up tables, each of one task.

    Raises:
        UserError: one is missing or damaged.
    """
    tables = [_first_table(config)]
    for entry in config.data.further:
        known = dict.fromkeys(fact for table in tables for fact in table.facts)
        tables.append(read_table(Path(entry.table), absolute=True, fold=config.data.fold, known=known))
    return tables


def _first_table(config: FactConfig) -> FactTable:
    """Read `data.table`; scenes are drawn unless the cache has them."""
    data = config.data
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
        return read_fact_set(data.table, scratch=cache_folder() / "fact_sets")
    root = Path(data.root) if data.root is not None else None
    return read_table(Path(data.table), root=root, task_column=data.task_column, absolute=True, fold=data.fold)


def count_first_tasks(config: FactConfig) -> int:
    """Count the tasks that the facts of `data.table` are partitioned into."""
    return config.data.tasks or len(set(_first_table(config).groups or ()))


def split_name(config: FactConfig) -> str:
    """Return the name of the partition into tasks, such as `random-0`."""
    return config.data.split if config.data.split == "column" else f"{config.data.split}-{config.data.split_seed}"
