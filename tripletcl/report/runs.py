"""Runs put together by method, and the mean and spread of what they measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from tripletcl.errors import UserError
from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, RunResult, Spread

CONTROLS = (UPPER_BOUND, "frozen")
"""Methods that a comparison is held against: they see all tasks at once, or learn only the first."""

Groups = dict[str, list[RunResult]]
"""The runs of each method."""


def mean(values: Iterable[float | None]) -> float | None:
    """Mean over runs; None where a run lacks the number."""
    found = Spread.of(list(values))
    return found.mean if found and math.isfinite(found.mean) else None


def group_by_method(runs: Sequence[RunResult]) -> Groups:
    """The runs of each method: finetune first, joint last, the others in the order given.

    Raises:
        UserError: no runs, or runs that cannot stand in one table: their tasks or stages differ in number.
    """
    if not runs:
        raise UserError("a report needs at least one run, and none was given")
    groups: Groups = {}
    for run in runs:
        groups.setdefault(run.method, []).append(run)
    _check(groups)
    return {method: groups[method] for method in sorted(groups, key=_rank)}


def _rank(method: str) -> int:
    return {LOWER_BOUND: 0, UPPER_BOUND: 2}.get(method, 1)


def _check(groups: Groups) -> None:
    tasks = {len(run.tasks) for group in groups.values() for run in group}
    if len(tasks) > 1:
        raise UserError(f"runs of {' and '.join(map(str, sorted(tasks)))} tasks cannot stand in one report")
    for method, group in groups.items():
        if len({len(run.map_matrix) for run in group}) > 1:
            raise UserError(f"the runs of method {method} have different numbers of stages")


def in_sequence(run: RunResult) -> bool:
    """Did the run learn task after task, with a stage after each? Joint training did not."""
    return run.method != UPPER_BOUND and len(run.map_matrix) == len(run.tasks) + 1


def task_names(runs: Sequence[RunResult]) -> list[str]:
    """The tasks' names where all runs agree on them and no two are the same, otherwise `task 1`, `task 2`, ..."""
    names = list(runs[0].tasks)
    agreed = all(list(run.tasks) == names for run in runs) and len(set(names)) == len(names)
    return names if agreed else [f"task {number + 1}" for number in range(len(names))]


def matrices(group: Sequence[RunResult]) -> np.ndarray:
    """The MAP matrices of a method's runs, `[runs, stages, tasks]`; NaN where a value is missing."""
    return np.array([run.map_matrix for run in group], dtype=float)


def mean_matrix(group: Sequence[RunResult]) -> np.ndarray:
    """The mean MAP matrix of a method's runs, `[stages, tasks]`; NaN where a run lacks a value."""
    return matrices(group).mean(axis=0)


def highest_map(groups: Groups) -> float:
    """The highest value in any matrix, for a scale that all pictures share; 1 where all are zero or missing."""
    values = np.concatenate([matrices(group).ravel() for group in groups.values()])
    return float(max(values[np.isfinite(values)], default=0.0)) or 1.0


def learned_and_final(group: Sequence[RunResult], task: int) -> tuple[float | None, float | None]:
    """Mean MAP of a task (from 0) just after it was learned and after the last task, on its own gallery."""
    learned = mean(run.map_matrix[task + 1][task] for run in group if in_sequence(run))
    return learned, mean(run.map_matrix[-1][task] for run in group)


def ap_by_fact(group: Sequence[RunResult]) -> dict[str, float]:
    """AP of each fact at the last stage (all test images), the mean over the method's runs."""
    values: dict[str, list[float]] = {}
    for run in group:
        for fact, ap in run.ap:
            values.setdefault(fact, []).append(ap)
    return {fact: statistics.fmean(aps) for fact, aps in values.items()}
