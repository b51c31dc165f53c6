"""Runs put together by method, and the mean and spread of what they measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from tripletcl.errors import UserError
from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, RunResult, Spread
from tripletcl.report.metric import metric_of

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
        UserError: no runs, or runs that cannot stand in one table: their metrics differ, or the numbers of their tasks
            or stages.
    """
    metric_of(runs)
    groups: Groups = {method: [] for method in method_order(runs)}
    for run in runs:
        groups[run.method].append(run)
    _check(groups)
    return groups


def method_order(runs: Sequence[RunResult]) -> list[str]:
    """The methods: finetune first, joint last, the others in the order given."""
    return sorted(dict.fromkeys(run.method for run in runs), key=_rank)


def group_by_sequence(runs: Sequence[RunResult]) -> dict[tuple[str, ...], list[RunResult]]:
    """The runs of each sequence: those that learned the same tasks in the same order.

    Raises:
        UserError: no runs, or runs of different metrics.
    """
    metric_of(runs)
    groups: dict[tuple[str, ...], list[RunResult]] = {}
    for run in runs:
        groups.setdefault(tuple(run.tasks), []).append(run)
    return groups


def _rank(method: str) -> int:
    return {LOWER_BOUND: 0, UPPER_BOUND: 2}.get(method, 1)


def _check(groups: Groups) -> None:
    tasks = {len(run.tasks) for group in groups.values() for run in group}
    if len(tasks) > 1:
        raise UserError(f"runs of {' and '.join(map(str, sorted(tasks)))} tasks cannot stand in one table")
    for method, group in groups.items():
        if len({len(run.matrix) for run in group}) > 1:
            raise UserError(f"the runs of method {method} have different numbers of stages")


def task_names(runs: Sequence[RunResult]) -> list[str]:
    """The tasks' names where all runs agree on them and no two are the same, otherwise `task 1`, `task 2`, ..."""
    names = list(runs[0].tasks)
    agreed = all(list(run.tasks) == names for run in runs) and len(set(names)) == len(names)
    return names if agreed else [f"task {number + 1}" for number in range(len(names))]


def matrices(group: Sequence[RunResult]) -> np.ndarray:
    """The matrices of scores of a method's runs, `[runs, stages, tasks]`; NaN where a value is missing."""
    return np.array([run.matrix for run in group], dtype=float)


def mean_matrix(group: Sequence[RunResult]) -> np.ndarray:
    """The mean matrix of scores of a method's runs, `[stages, tasks]`; NaN where a run lacks a value."""
    return matrices(group).mean(axis=0)


def highest_score(groups: Groups) -> float:
    """The highest value in any matrix, for a scale that all pictures share; 1 where all are zero or missing."""
    values = np.concatenate([matrices(group).ravel() for group in groups.values()])
    return float(max(values[np.isfinite(values)], default=0.0)) or 1.0


def lowest_score(groups: Groups) -> float:
    """A round number below every score in any matrix, for a scale that all pictures share; 0 where all are missing."""
    values = np.concatenate([matrices(group).ravel() for group in groups.values()])
    known = values[np.isfinite(values)]
    if not len(known) or known.min() == known.max():
        return 0.0
    low, margin = float(known.min()), 0.08 * float(known.max() - known.min())
    step = 10.0 ** np.floor(np.log10(2 * margin))
    return max(0.0, float(step * np.floor((low - margin) / step)))


def learned_and_final(group: Sequence[RunResult], task: int) -> tuple[float | None, float | None]:
    """Mean score of a task (from 0) just after it was learned and after the last task, on its own test images."""
    learned = mean(run.learned[task] for run in group if run.in_sequence)
    return learned, mean(run.scores[task] for run in group)


def ap_by_fact(group: Sequence[RunResult]) -> dict[str, float]:
    """AP of each fact at the last stage (all test images), the mean over the method's runs."""
    values: dict[str, list[float]] = {}
    for run in group:
        for fact, ap in run.ap:
            values.setdefault(fact, []).append(ap)
    return {fact: statistics.fmean(aps) for fact, aps in values.items()}
