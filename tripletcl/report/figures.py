"""The figures of a comparison on one sequence of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.evaluation.result import UPPER_BOUND, RunResult, Spread
from tripletcl.report.chart_style import (
    GRID,
    INK,
    MANY,
    MUTED,
    NARROW,
    method_styles,
    new_chart,
    number_ticks,
    short_name,
    styled,
)
from tripletcl.report.charts import Line, bar_chart, bars_height, grouped_bars, heat_cell, heat_map, line_chart
from tripletcl.report.comparison import comparison_rows
from tripletcl.report.formatting import fraction_tick, megabytes, short_fraction, shortened
from tripletcl.report.grouping import (
    Groups,
    ap_by_fact,
    check_one_sequence,
    featured,
    group_by_method,
    highest_score,
    lowest_score,
    matrices,
    mean_matrix,
    spread_of,
    task_names,
)
from tripletcl.report.metric import Metric, Number, metric_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled()
def matrix_figures(runs: Sequence[RunResult]) -> dict[str, Figure]:
    """The score of each task (own test images) at each stage as a heat map, a figure a method, one scale for all."""
    groups, metric = group_by_method(runs), metric_of(runs)
    top, names = highest_score(groups), task_names(runs)
    return {method: _matrix(method, group, top, names, metric, len(groups) > MANY) for method, group in groups.items()}


def _matrix(
    method: str, group: Sequence[RunResult], top: float, names: list[str], metric: Metric, small: bool
) -> Figure:
    matrix, first = mean_matrix(group), _first_known(matrices(group))
    in_sequence = group[0].in_sequence
    after = stage_labels(len(names), "0" if small else "before") if in_sequence else ["before", "after all tasks"]
    rows = [str(task + 1) for task in range(len(names))] if small else names
    title = short_name(method) if small else f"{metric.title} per task and stage: {short_name(method)}"
    figure, axes = heat_map(title, matrix[first:].T, rows, after[first : len(matrix)], top, metric.short, small)
    if in_sequence:
        for task in range(len(names)):
            axes.add_patch(
                heat_cell(task, task + 1 - first, facecolor="none", edgecolor=INK, linewidth=1.25 if small else 1.65)
            )
        axes.set_xlabel("" if small else "after task (outlined: just learned)")
    return figure


def _first_known(values: np.ndarray) -> int:
    """The first stage of `[runs, stages, tasks]` with a number: with several heads there is none before training."""
    return 0 if np.isfinite(values[:, 0]).any() or values.shape[1] == 1 else 1


def stage_labels(tasks: int, start: str = "before") -> list[str]:
    """The names of the stages on an axis."""
    return [start, *(str(task + 1) for task in range(tasks))]


@styled()
def curve_figures(runs: Sequence[RunResult]) -> dict[str, Figure]:
    """The score of one task (own test images) over the stages, a line a method: a figure a task, one scale for all."""
    groups, metric, names = group_by_method(runs), metric_of(runs), task_names(runs)
    low, top = 0.0 if metric.from_zero else lowest_score(groups), highest_score(groups)
    return {name: _curves(groups, task, names, (low, top), metric) for task, name in enumerate(names)}


def _curves(groups: Groups, task: int, names: list[str], limits: tuple[float, float], metric: Metric) -> Figure:
    first = min(_first_known(matrices(group)) for group in groups.values())
    values = {method: matrices(group)[:, first:, task] for method, group in groups.items()}
    lines = _lines(groups, values, since=task + 1 - first)
    title = f"{metric.title} of {shortened(names[task], 24)}"
    figure, axes = stage_chart(title, lines, len(names), limits, metric.short, first)
    axes.axvline(task + 1, color=GRID, linewidth=5, zorder=0)
    axes.set_xlabel(f"after task (band: {shortened(names[task], 20)} is learned)")
    number_ticks(axes.yaxis, metric.tick)
    return figure


def _lines(groups: Groups, values: Mapping[str, np.ndarray], since: int = 0) -> dict[str, Line]:
    """A line for each method that has values `[runs, stages]`; of many methods only the featured ones have bands."""
    banded = list(groups) if len(groups) <= MANY else featured(groups)
    styles = method_styles(list(groups))
    return {
        method: Line(
            runs.mean(axis=0),
            styles[method],
            runs.std(axis=0, ddof=1) if method in banded and len(runs) > 1 else None,
            since,
            level=not groups[method][0].in_sequence,
        )
        for method, runs in values.items()
    }


def stage_chart(
    title: str, lines: Mapping[str, Line], tasks: int, limits: tuple[float, float], number: Number, first: int = 0
) -> tuple[Figure, Axes]:
    """A line chart over the stages from the first, see `line_chart`."""
    labels = stage_labels(tasks, start="before" if tasks <= 6 else "0")
    figure, axes = line_chart(title, lines, range(first, tasks + 1), labels[first:], limits, number)
    axes.set_xlabel("after task")
    number_ticks(axes.yaxis, fraction_tick)
    return figure, axes


@styled()
def subset_figure(runs: Sequence[RunResult]) -> Figure | None:
    """MAP of the chosen subset of facts (all test images) over the stages; None where no subset was chosen.

    The adaptation test of Aljundi et al. (ECCV 2018), figure 7.
    """
    groups = group_by_method(runs)
    measured = {method: group for method, group in groups.items() if all(run.map_subset for run in group)}
    if not any(group[0].in_sequence for group in measured.values()):
        return None
    values = {m: np.array([run.map_subset for run in group], dtype=float) for m, group in measured.items()}
    top = max(float(np.nanmax(scores)) for scores in values.values()) or 1.0
    lines = _lines(groups, values)
    return stage_chart("MAP of the subset of facts", lines, len(runs[0].tasks), (0.0, top), short_fraction)[0]


@styled()
def memory_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Megabytes that each method keeps over the stages; None where all keep nothing.

    Figure 4 of Aljundi et al. (ECCV 2018), measured. Methods that keep nothing are left out.
    """
    groups = group_by_method(runs)
    keeping = {m: g for m, g in groups.items() if g[0].in_sequence and all(any(run.method_bytes) for run in g)}
    if not keeping:
        return None
    values = {m: np.array([run.method_bytes[1:] for run in group], dtype=float) for m, group in keeping.items()}
    limits = (0.0, max(float(np.nanmax(sizes)) for sizes in values.values()))
    lines = _lines(groups, values)
    figure, axes = stage_chart("Memory of each method", lines, len(runs[0].tasks), limits, megabytes, first=1)
    number_ticks(axes.yaxis, lambda value: megabytes(value) if value else "0")
    return figure


@styled()
def final_figure(runs: Sequence[RunResult]) -> Figure:
    """The overall score at the end, a bar a method."""
    metric, rows = metric_of(runs), comparison_rows(runs)
    values = {row["method"]: row["overall"] for row in rows if row["overall"]}
    return bar_chart(f"{metric.title} at the end", metric.overall_axis, values, metric.text, metric.tick)


@styled()
def forgetting_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Mean forgetting, a bar a method; None where no method has a forgetting."""
    metric, rows = metric_of(runs), comparison_rows(runs)
    values = {row["method"]: row["forgetting"] for row in rows if row["forgetting"]}
    return bar_chart("Forgetting", metric.forgetting_axis, values, metric.text, metric.tick) if values else None


STEPS = 1000
"""Steps of a curve of facts; more could not be told apart."""


@styled()
def ap_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Share of the facts that reach an AP or more (last stage, all test images); None without APs.

    Lines of the two featured methods and of joint training only: more would hide each other.
    """
    groups = group_by_method(runs)
    aps = {method: np.sort(list(ap_by_fact(group).values())) for method, group in groups.items()}
    visible = [method for method in groups if method in (*featured(groups), UPPER_BOUND) and len(aps[method])]
    if not visible:
        return None
    size = (NARROW, max(2.6, bars_height(len(groups))))
    figure, axes = new_chart("Facts by average precision", size, left=0.45, bottom=0.45, right=0.2)
    for method, style in method_styles(list(groups)).items():
        if method in visible:
            facts = len(aps[method])
            below = np.unique(
                np.linspace(0, facts, min(facts, STEPS) + 1).round().astype(int)
            )  # facts to the left of x
            look = {"color": style.color, "linestyle": style.dash, "linewidth": style.width}
            axes.step(
                np.append(0.0, aps[method])[below], 1 - below / facts, where="post", label=short_name(method), **look
            )
    axes.axhline(0.5, color=MUTED, linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="AP, and the share of facts that reach it")
    axes.grid()
    axes.legend(loc="best")
    number_ticks(axes.xaxis, fraction_tick)
    number_ticks(axes.yaxis, fraction_tick)
    return figure


@styled()
def scores_figure(runs: Sequence[RunResult]) -> Figure | None:
    """The score of every task at the end, and their average: a bar a method, joint training an outline.

    Figure 5 of Aljundi et al. (ECCV 2018).

    Args:
        runs: Of one sequence; error bars are one standard deviation over a method's runs.

    Returns:
        The figure, wider than others where there are many bars; None where there is one task, or where no method
        learned in sequence.

    Raises:
        UserError: no runs, or runs of several sequences.
    """
    groups = _sequence_groups(runs)
    if not groups:
        return None
    values = {
        method: [*map(Spread.of, zip(*(run.scores for run in group), strict=True)), spread_of(group, "mean_score")]
        for method, group in groups.items()
    }
    metric = metric_of(runs)
    names, styles = [*task_names(runs), "average"], method_styles(list(groups))
    title = f"{metric.title} of each task at the end"
    return grouped_bars(title, metric.axis, values, names, styles, metric.brief, metric.tick)


@styled()
def drops_figure(runs: Sequence[RunResult]) -> Figure | None:
    """The drop of every task but the last since it was learned, and the average: a bar a method.

    Arguments, returned value and errors are those of `scores_figure`.
    """
    groups = {method: group for method, group in _sequence_groups(runs).items() if group[0].in_sequence}
    if not groups:
        return None
    several = len(runs[0].tasks) > 2  # the average of one task is its own drop
    values = {
        method: [
            *(Spread.of(drops) for drops in list(zip(*(run.drops for run in group), strict=True))[:-1]),
            *([spread_of(group, "drop")] if several else []),
        ]
        for method, group in groups.items()
    }
    metric = metric_of(runs)
    names, styles = [*task_names(runs)[:-1], *(["average"] if several else [])], method_styles(list(groups))
    title = f"{metric.title} lost by each task since it was learned"
    return grouped_bars(title, metric.drop_axis, values, names, styles, metric.brief, metric.tick)


def _sequence_groups(runs: Sequence[RunResult]) -> Groups:
    """The runs by method; none where nothing can be forgotten."""
    check_one_sequence(runs)
    in_sequence = any(run.in_sequence for run in runs)
    return group_by_method(runs) if in_sequence and len(runs[0].tasks) > 1 else {}
