"""From tables of facts to the tasks that are learned one after another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tripletcl.config import FactConfig
from tripletcl.config.facts import LABELLED, NO_TABLE
from tripletcl.continual import Task
from tripletcl.continual.task import derived_seed
from tripletcl.data import FactTable, held_out_facts, list_images, split_facts
from tripletcl.data.fact_table import SPLITS
from tripletcl.data.facts import parse_query
from tripletcl.data.splits import sample
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError

FACTS_NAMED = 8
"""Facts named in a message about a subset that matches none."""

VALIDATION, IMPORTANCE = 1, 2
"""Distinguish the seeds of what is sampled: images for validation, and images that importance is measured on."""


# --- groups of facts -------------------------------------------------------------------------------------------------


def partition_facts(
    config: FactConfig, table: FactTable, embedder: FactEmbedder, subset: np.ndarray | None = None
) -> list[np.ndarray]:
    """Partition the facts of the first table into tasks; the semantic split clusters the facts read as phrases.

    Args:
        subset: Ids of the facts of `data.subset`.

    Returns:
        The fact ids of each task.
    """
    data, vectors = config.data, None
    if data.table == NO_TABLE:
        return []
    if data.split == "semantic":
        phrases = [" ".join(unit for unit in fact.units if unit is not None) for fact in table.facts]
        vectors = embedder.text.encode(phrases).cpu().numpy()
    groups = split_facts(table, data.tasks, by=data.split, seed=data.split_seed, vectors=vectors)
    if data.unseen:
        unseen = held_out_facts(table, data.unseen, data.split_seed)
        groups = [np.setdiff1d(facts, unseen) for facts in groups]
        _check_groups(table, groups, "data.unseen")
    if subset is not None and data.subset_first:
        groups = move_first(table, groups, subset[subset < len(table.facts)])
    return groups


def move_first(table: FactTable, groups: Sequence[np.ndarray], subset: np.ndarray) -> list[np.ndarray]:
    """Move the facts of the subset to the first task; the others stay in their tasks."""
    moved = [np.union1d(groups[0], subset), *(np.setdiff1d(facts, subset) for facts in groups[1:])]
    _check_groups(table, moved, "data.subset_first")
    return moved


def _check_groups(table: FactTable, groups: Sequence[np.ndarray], setting: str) -> None:
    """Check that the setting leaves each task facts with training and test images."""
    for number, facts in enumerate(groups, 1):
        if not all(len(table.rows_of(split, facts)) for split in SPLITS):
            raise UserError(f"{setting} leaves task {number} no facts with training and test images")


def subset_facts(config: FactConfig, table: FactTable) -> np.ndarray | None:
    """Return the ids of the facts of `data.subset`; None if it is not set.

    It is read like a query: `?` matches any unit and a missing one, so "person playing ?" includes <person, playing>.

    Raises:
        UserError: it is no query, or matches no fact with training and test images.
    """
    if config.data.subset is None:
        return None
    subset = parse_query(config.data.subset)
    ids = [number for number, fact in enumerate(table.facts) if subset.matches(fact)]
    if not ids:
        some = ", ".join(map(str, table.facts[:FACTS_NAMED]))
        raise UserError(f"data.subset {config.data.subset!r} matches no fact; there are {some} and others")
    for split, kind in zip(SPLITS, ("training", "test"), strict=True):
        if not len(table.rows_of(split, ids)):
            raise UserError(f"data.subset {config.data.subset!r} matches no fact with {kind} images")
    return np.array(ids, dtype=np.int64)


def follow_up_facts(table: FactTable, follow_up: FactTable) -> np.ndarray:
    """Return the ids, in all tables as one, of the facts of one of them."""
    ids = {fact: number for number, fact in enumerate(table.facts)}
    return np.sort(np.array([ids[fact] for fact in follow_up.facts], dtype=np.int64))


# --- images of the tasks ---------------------------------------------------------------------------------------------


def validation_images(config: FactConfig, table: FactTable) -> np.ndarray:
    """Sample the training images that no method trains on: the same for every task, split and method.

    Each table is sampled by itself, so that a later one changes nothing; of a lesson's few photos none is.

    Returns:
        Their ids.
    """
    parts = []
    for number in range(len(table.starts)):
        images = np.unique(table.rows_of("train", table=number)[:, 0])
        count = 0 if _is_lesson(config, number) else round(config.data.validation * len(images))
        parts.append(sample(images, count, derived_seed(config.seed, VALIDATION, *([number] if number else []))))
    return np.concatenate(parts)


def _is_lesson(config: FactConfig, table: int | None) -> bool:
    """True if the table of this number is a handful of photos that a fact was taught by."""
    return table is not None and table > 0 and config.data.further[table - 1].taught is not None


def unlabelled_images(config: FactConfig) -> list[Path]:
    """List the unlabelled images that importance is measured on, if `data.importance` names a folder.

    Raises:
        UserError: the folder has no images.
    """
    if config.data.importance in LABELLED:
        return []
    folder = Path(config.data.importance)
    images = list_images(folder) if folder.is_dir() else []
    if not images:
        raise UserError(f"data.importance is {str(folder)!r}; allowed are train, test, both, or a folder with images")
    return images


def fact_tasks(
    config: FactConfig,
    table: FactTable,
    groups: Sequence[np.ndarray],
    names: Sequence[str],
    unlabelled: np.ndarray,
    subset: np.ndarray | None = None,
    origins: Sequence[int] | None = None,
) -> list[Task]:
    """Make a task of each group of facts: its training images, each with all facts of the group that it shows.

    Args:
        table: All tables as one.
        unlabelled: Ids of the images of no task, if `data.importance` is a folder.
        subset: Ids of the facts on whose images importance is measured; None for all facts.
        origins: The number of the table that each task takes its images from; None for all tables.

    Raises:
        UserError: a task has no image to train on.
    """
    validation_set, tasks = validation_images(config, table), []
    for number, (name, facts) in enumerate(zip(names, groups, strict=True)):
        origin = None if origins is None else origins[number]
        images = np.unique(table.rows_of("train", facts, origin)[:, 0])
        items, validation = np.setdiff1d(images, validation_set), np.intersect1d(images, validation_set)
        if not len(images):
            raise UserError(f"{name} has no training images")
        if not len(items):
            raise UserError(f"data.validation {config.data.validation:g} leaves {name} no image to train on")
        relevant = facts if subset is None else np.intersect1d(facts, subset)
        labelled = importance_images(config, table, relevant, validation_set, origin)
        seed = derived_seed(config.seed, IMPORTANCE, number)
        task = Task(
            name,
            items,
            table.relevance("train", items, facts),
            facts,
            earlier_classes=np.concatenate([np.empty(0, np.int64), *groups[:number]]),
            earlier_unknown=origin is not None and origin > 0 and not config.data.further[origin - 1].complete,
            importance_items=sample(np.union1d(unlabelled, labelled), config.data.importance_images, seed),
            importance_subset=subset is not None,
            validation_items=validation,
            validation_targets=table.relevance("train", validation, facts),
            chooses_weight=not _is_lesson(config, origin),
        )
        tasks.append(task)
    return tasks


def importance_images(
    config: FactConfig, table: FactTable, facts: np.ndarray, validation_set: np.ndarray, origin: int | None = None
) -> np.ndarray:
    """Return the ids of the images of some facts that importance is measured on: trained on, test images, or both."""
    splits = {"train": ["train"], "test": ["test"], "both": ["train", "test"]}.get(config.data.importance, [])
    images = {split: table.rows_of(split, facts, origin)[:, 0] for split in splits}
    if "train" in images:
        images["train"] = np.setdiff1d(images["train"], validation_set)
    return np.unique(np.concatenate([np.empty(0, np.int64), *images.values()]))
