"""Split the facts of a table into tasks, and sample images and facts."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Literal, get_args

import numpy as np

from tripletcl.data.fact_table import SPLITS, FactTable
from tripletcl.errors import UserError

SplitWay = Literal["random", "predicate", "column", "semantic"]
WAYS = get_args(SplitWay)


def split_facts(
    table: FactTable,
    tasks: int | None,
    by: SplitWay = "random",
    seed: int = 0,
    vectors: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Partition the facts into tasks; every task has training and test rows.

    - "random": sizes differ by at most one. Depends only on the seed and the facts' words: not on their order in the
      file, the platform or a library's version.
    - "predicate": the facts of a predicate stay together, and the predicates are partitioned as "random" partitions
      facts: their numbers differ by at most one. Having no predicate counts as one.
    - "column": by the user's own task names (`FactTable.groups`), in order of first appearance.
    - "semantic": facts of similar meaning together, by `bisect`. Every task has between half and twice the equal share
      F / T (rounded); tasks are in order of their first fact. Depends on the seed and the vectors.

    Args:
        table: The facts and their rows.
        tasks: The number of tasks; for "column" None, or the number of distinct names.
        by: The way to split.
        seed: Any integer.
        vectors: `[F, K]`, the meaning of each fact (its units' text vectors, concatenated); for "semantic" only.

    Returns:
        The fact ids of each task, ascending.

    Raises:
        UserError: An unknown way, more tasks than facts, or a task without training or test rows (with one of its
            facts).
    """
    if by not in WAYS:
        raise UserError(f"facts cannot be split by {by!r}, allowed are {', '.join(WAYS)}")
    if by == "column":
        split, names = _by_column(table, tasks)
    else:
        count = _checked_count(table, tasks, by)
        names = [str(task) for task in range(1, count + 1)]
        if by == "semantic":
            split = _by_meaning(table, count, seed, vectors)
        else:
            split = _at_random(table, count, seed) if by == "random" else _by_predicate(table, count, seed)
    for name, facts in zip(names, split, strict=True):
        _check_rows(table, name, facts)
    return split


def held_out_facts(table: FactTable, share: float, seed: int) -> np.ndarray:
    """Sample facts that no task teaches, while another fact teaches each of their units in the same place.

    They are sampled from the facts of order 2 and 3 that have test rows; the sample depends only on the seed and the
    facts' words.

    Args:
        table: The facts and their rows.
        share: The share of the facts of order 2 and 3.
        seed: Any integer.

    Returns:
        Their ids, ascending.

    Raises:
        UserError: Fewer facts can be held out.
    """
    composed = [number for number, fact in enumerate(table.facts) if fact.order > 1]
    trained, tested = (set(table.rows_of(split)[:, 1].tolist()) for split in SPLITS)
    teachers = Counter(unit for number in trained for unit in enumerate(table.facts[number].units))
    count = round(share * len(composed))
    held_out: list[int] = []
    for number in sorted(composed, key=lambda number: _rank(seed, "unseen", *table.facts[number].units)):
        units = [(place, text) for place, text in enumerate(table.facts[number].units) if text is not None]
        own = int(number in trained)  # the fact itself is among the teachers of its units
        if len(held_out) < count and number in tested and all(teachers[unit] > own for unit in units):
            held_out.append(number)
            teachers.subtract(units if own else [])
    if len(held_out) < count:
        raise UserError(
            f"{count} facts cannot be held out: only {len(held_out)} have units that other facts all teach as well"
        )
    return np.array(sorted(held_out), dtype=np.int64)


def sample(items: np.ndarray, count: int | None, seed: int | np.random.Generator) -> np.ndarray:
    """Draw at most `count` of the items at random, without replacement and in their order; None takes all."""
    if count is None or count >= len(items):
        return items
    return items[np.sort(np.random.default_rng(seed).choice(len(items), count, replace=False))]


def bisect(vectors: np.ndarray, tasks: int, seed: int) -> list[np.ndarray]:
    """Partition points into clusters by bisecting k-means.

    The points are ordered along the line between two k-means centres, and cut where k-means cuts them. Each side gets a
    share of the tasks as close as possible to its share of the points. The cut is moved if necessary, so that every
    task gets at least `F // (2 * tasks)` points (at least one) and at most `ceil(2 * F / tasks)`, F the number of
    points.

    Args:
        vectors: `[F, K]`, F at least `tasks`.
        tasks: The number of clusters.
        seed: The seed of k-means' starting points.

    Returns:
        The point numbers of each cluster, ascending; clusters in order of their first point.
    """
    least = max(1, len(vectors) // (2 * tasks))
    most = -(-2 * len(vectors) // tasks)

    def parts(points: np.ndarray, tasks: int) -> list[np.ndarray]:
        if tasks == 1:
            return [np.sort(points)]
        points, cut = _cut_in_two(points, vectors, seed)
        left = min(max(round(tasks * cut / len(points)), 1), tasks - 1)
        right = tasks - left
        cut = max(cut, left * least, len(points) - right * most)
        cut = min(cut, left * most, len(points) - right * least)
        return parts(points[:cut], left) + parts(points[cut:], right)

    return sorted(parts(np.arange(len(vectors)), tasks), key=lambda points: points[0])


def _cut_in_two(points: np.ndarray, vectors: np.ndarray, seed: int) -> tuple[np.ndarray, int]:
    """The points in order along the line between two k-means centres, and the number that belong to the first."""
    from sklearn.cluster import KMeans

    rows = vectors[points]  # [n, K]
    if (rows == rows[0]).all():
        return points, len(points) // 2
    means = KMeans(2, n_init=10, random_state=seed).fit(rows)
    first, second = means.cluster_centers_
    along = rows @ (second - first)  # [n]
    return points[np.argsort(along, kind="stable")], int(np.sum(along <= (first + second) @ (second - first) / 2))


def _checked_count(table: FactTable, tasks: int | None, by: str) -> int:
    if tasks is None or tasks < 1:
        raise UserError(f"to split facts by {by!r}, say how many tasks: 1 at least, not {tasks}")
    if tasks > len(table.facts):
        raise UserError(f"{len(table.facts)} facts cannot be split into {tasks} tasks")
    return tasks


def _at_random(table: FactTable, tasks: int, seed: int) -> list[np.ndarray]:
    """Partition the facts in the order of a hash of seed and words, which no library's random stream changes."""
    order = sorted(range(len(table.facts)), key=lambda fact: _rank(seed, *table.facts[fact].units))
    return [np.sort(part) for part in np.array_split(np.array(order, dtype=np.int64), tasks)]


def _by_predicate(table: FactTable, tasks: int, seed: int) -> list[np.ndarray]:
    predicates = sorted({fact.predicate for fact in table.facts}, key=lambda predicate: _rank(seed, predicate))
    if tasks > len(predicates):
        raise UserError(f"{len(predicates)} predicates cannot be split into {tasks} tasks")
    parts = np.array_split(np.arange(len(predicates)), tasks)
    task_of = {predicates[place]: task for task, part in enumerate(parts) for place in part.tolist()}
    tasks_of_facts = np.array([task_of[fact.predicate] for fact in table.facts])
    return [np.flatnonzero(tasks_of_facts == task) for task in range(tasks)]


def _rank(*key: object) -> bytes:
    """The sort key of a random order."""
    return hashlib.sha256(repr(key).encode()).digest()


def _by_column(table: FactTable, tasks: int | None) -> tuple[list[np.ndarray], list[str]]:
    if table.groups is None:
        raise UserError("facts are to be split by column, but the table was read without a task column")
    names = list(dict.fromkeys(table.groups))
    if tasks is not None and tasks != len(names):
        raise UserError(f"the task column has {len(names)} different names, but {tasks} tasks are asked for")
    groups = np.array(table.groups)
    return [np.flatnonzero(groups == name) for name in names], names


def _by_meaning(table: FactTable, tasks: int, seed: int, vectors: np.ndarray | None) -> list[np.ndarray]:
    if vectors is None or vectors.ndim != 2 or len(vectors) != len(table.facts):
        shape = None if vectors is None else list(vectors.shape)
        raise UserError(f"to split by meaning, each of the {len(table.facts)} facts needs a vector, not {shape}")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return bisect(vectors / np.where(lengths > 0, lengths, 1), tasks, seed)  # of one length: only directions matter


def _check_rows(table: FactTable, name: str, facts: np.ndarray) -> None:
    for split in SPLITS:
        if not len(table.rows_of(split, facts)):
            kind = "training" if split == "train" else "test"
            raise UserError(f"task {name} has no {kind} rows, though it has facts such as {table.facts[facts[0]]}")
