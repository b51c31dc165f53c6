"""Runs grouped by method or by sequence of tasks, and the means over a group."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np

from tripletcl.errors import UserError
from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, RunResult, Spread
from tripletcl.report.metric import metric_of

CONTROLS = (UPPER_BOUND, "frozen")
"""Methods that the others are compared with: one learns all tasks at once, the other only the first."""

FREQUENCIES = {"more than 100": 101, "20 to 100": 20, "fewer than 20": 0}
"""Head, middle and tail of the facts by number of training images, and the least number of each: the division of
Liu et al., "Large-scale long-tailed recognition in an open world", CVPR 2019."""

EXEMPLARS = 5
"""Most methods that are shown where each takes a row of photos."""

Groups = dict[str, list[RunResult]]
"""The runs of each method."""

Tasks = tuple[str, ...]
"""The names of a sequence's tasks in the order learned, which identify the sequence."""


def mean(values: Iterable[float | None]) -> float | None:
    """Mean over runs; None where a run lacks the number."""
    spread = Spread.of(list(values))
    return spread.mean if spread and math.isfinite(spread.mean) else None


def spread_of(group: Sequence[RunResult], name: str) -> Spread | None:
    """Mean and deviation of a number of the runs, by the name of its field or property."""
    return Spread.of([getattr(run, name) for run in group])


def exactly(value: float | None) -> Spread | None:
    """A number that is no mean over runs, for tables and figures that have means."""
    return None if value is None else Spread(value, None)


def method_order(methods: Iterable[str]) -> list[str]:
    """Each method once: finetune first, joint last, the others in the order given."""
    return sorted(dict.fromkeys(methods), key=lambda method: {LOWER_BOUND: 0, UPPER_BOUND: 2}.get(method, 1))


def group_by_method(runs: Sequence[RunResult]) -> Groups:
    """The runs of each method, in the order of `method_order`.

    Raises:
        UserError: no runs, or runs that cannot be averaged: their metrics differ, or the numbers of their tasks or
            stages.
    """
    metric_of(runs)
    groups = {m: [run for run in runs if run.method == m] for m in method_order(run.method for run in runs)}
    tasks = {len(run.tasks) for run in runs}
    if len(tasks) > 1:
        raise UserError(f"runs of {' and '.join(map(str, sorted(tasks)))} tasks cannot be in one table")
    for method, group in groups.items():
        if len({len(run.matrix) for run in group}) > 1:
            raise UserError(f"the runs of method {method} have different numbers of stages")
    return groups


def group_by_sequence(runs: Sequence[RunResult]) -> dict[Tasks, list[RunResult]]:
    """The runs of each sequence: those that learned the same tasks in the same order.

    Raises:
        UserError: no runs, or runs of different metrics.
    """
    metric_of(runs)
    groups: dict[Tasks, list[RunResult]] = {}
    for run in runs:
        groups.setdefault(tuple(run.tasks), []).append(run)
    return groups


def check_one_sequence(runs: Sequence[RunResult]) -> None:
    """Refuse runs whose tasks must not be averaged.

    Raises:
        UserError: the tasks of the runs differ, or their order.
    """
    if len(sequences := group_by_sequence(runs)) > 1:
        raise UserError(f"runs of different sequences cannot be in one figure: {'; '.join(map(arrows, sequences))}")


def arrows(tasks: Tasks) -> str:
    """The title of a sequence: `flowers → scenes`."""
    return " \N{RIGHTWARDS ARROW} ".join(tasks)


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
    return np.asarray(matrices(group).mean(axis=0))


def highest_score(groups: Groups) -> float:
    """The highest value in any matrix, for a scale that all figures share; 1 where all are zero or missing."""
    values = np.concatenate([matrices(group).ravel() for group in groups.values()])
    return float(max(values[np.isfinite(values)], default=0.0)) or 1.0


def lowest_score(groups: Groups) -> float:
    """A round number below every score in any matrix, for a scale that all figures share; 0 where all are missing."""
    values = np.concatenate([matrices(group).ravel() for group in groups.values()])
    known = values[np.isfinite(values)]
    if not len(known) or known.min() == known.max():
        return 0.0
    low, margin = float(known.min()), 0.08 * float(known.max() - known.min())
    step = 10.0 ** np.floor(np.log10(2 * margin))
    return max(0.0, float(step * np.floor((low - margin) / step)))


def learned_and_final(group: Sequence[RunResult], task: int) -> tuple[float | None, float | None]:
    """Mean score of a task (from 0) just after it was learned and after the last task, on its own test images."""
    learned = mean(run.scores_when_learned[task] for run in group if run.in_sequence)
    return learned, mean(run.scores[task] for run in group)


def ap_by_fact(group: Sequence[RunResult]) -> dict[str, float]:
    """AP of each fact at the last stage (all test images), the mean over the method's runs."""
    values: dict[str, list[float]] = {}
    for run in group:
        for fact, ap in run.ap:
            values.setdefault(fact, []).append(ap)
    return {fact: statistics.fmean(aps) for fact, aps in values.items()}


def map_by_frequency(group: Sequence[RunResult]) -> dict[str, tuple[int, float]]:
    """Number of facts and MAP at the last stage of each of the FREQUENCIES; empty for runs that did not record it."""
    images = {fact: count for run in group for (fact, _), count in zip(run.ap, run.training_images, strict=False)}
    aps: dict[str, list[float]] = {name: [] for name in FREQUENCIES}
    for fact, ap in ap_by_fact(group).items():
        name = next((name for name, least in FREQUENCIES.items() if images.get(fact, -1) >= least), None)
        if name is not None:
            aps[name].append(ap)
    return {name: (len(values), statistics.fmean(values)) for name, values in aps.items() if values}


def mean_final(group: Sequence[RunResult]) -> float | None:
    """The mean overall score of a method's runs at the end."""
    return mean(run.final for run in group)


def _rank(group: Sequence[RunResult]) -> float:
    """A key to rank methods by; the lowest for one without an overall score."""
    score = mean_final(group)
    return -math.inf if score is None else score


def featured(groups: Groups) -> list[str]:
    """The methods that a headline compares: finetune, or else the lowest, and the best other one in sequence."""
    candidates = [method for method, group in groups.items() if group[0].in_sequence]
    learners = [method for method in candidates if method not in CONTROLS] or candidates
    ranked = sorted(learners, key=lambda method: _rank(groups[method]))
    plain = [LOWER_BOUND] if LOWER_BOUND in learners else ranked[:1]
    return [*plain, *[method for method in ranked if method not in plain][-1:]]


def best_method(groups: Groups) -> str:
    """The method with the highest overall score of those that learn in sequence; joint where there is none."""
    methods = featured(groups) or list(groups)[:1]
    return max(methods, key=lambda method: _rank(groups[method]))


def exemplars(groups: Groups) -> list[str]:
    """The methods whose results of single queries are shown: all of a few; of many finetune, the best, and joint.

    Rows of photos of a dozen methods would make an endless page.
    """
    if len(groups) <= EXEMPLARS:
        return list(groups)
    plain = featured(groups)[:1]
    ranked = sorted(groups, key=lambda method: -_rank(groups[method]))
    others = [m for m in ranked if groups[m][0].in_sequence and m not in (*CONTROLS, *plain)]
    selected = [*plain, *others[: EXEMPLARS - 2], UPPER_BOUND]
    return [method for method in groups if method in selected]
