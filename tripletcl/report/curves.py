"""What becomes of each method by stage: the score of a task, MAP of the chosen subset, and the memory it keeps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.evaluation.result import RunResult
from tripletcl.report.drawing import (
    GRID,
    MANY,
    MUTED,
    WIDE,
    Style,
    fraction_ticks,
    method_styles,
    number_ticks,
    spaced,
    styled,
    titled_figure,
)
from tripletcl.report.formatting import megabytes, method_label, short_fraction, shortened
from tripletcl.report.grouping import Groups, group_by_method, highest_score, lowest_score, matrices, task_names
from tripletcl.report.heatmaps import first_known, stage_labels
from tripletcl.report.metric import Metric, metric_of
from tripletcl.report.sentences import curve_title, featured, memory_title, subset_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME_WIDTH = 14
"""Characters of a method's name beside its line."""

LABEL_INCHES = 0.165
"""From one label to the next."""

BELOW = 0.48
"""Inches below the axes."""


@dataclass(frozen=True)
class Line:
    """A method's values `[runs, stages]`, faint before stage `since`; where it has no stages, the last as a level."""

    values: np.ndarray
    style: Style
    since: int = 0
    level: bool = False
    shaded: bool = True

    @property
    def mean(self) -> np.ndarray:
        """`[stages]`; NaN where a run lacks the value."""
        return np.asarray(self.values.mean(axis=0))


@styled()
def curve_figures(runs: Sequence[RunResult]) -> dict[str, Figure]:
    """The score of one task (own test images) over the stages, a line a method: a figure a task, one scale for all."""
    groups, metric, names = group_by_method(runs), metric_of(runs), task_names(runs)
    low, top = 0.0 if metric.from_zero else lowest_score(groups), highest_score(groups)
    return {name: _task_curves(groups, task, names, (low, top), metric) for task, name in enumerate(names)}


def _task_curves(groups: Groups, task: int, names: list[str], scale: tuple[float, float], metric: Metric) -> Figure:
    values = {method: matrices(group)[:, :, task] for method, group in groups.items()}
    lines = _lines(groups, values, since=task + 1)
    first = min(first_known(matrices(group)[0]) for group in groups.values())
    figure, axes = stage_chart(
        curve_title(groups, task), lines, len(names), scale[1], metric.short, first=first, low=scale[0]
    )
    axes.axvline(task + 1, color=GRID, linewidth=5, zorder=0)
    axes.set_xlabel(f"after task (band: {shortened(names[task], 20)} is learned)")
    number_ticks(axes.yaxis, metric.tick)
    return figure


@styled()
def subset_figure(runs: Sequence[RunResult]) -> Figure | None:
    """MAP of the chosen subset of facts (all test images) over the stages; None where no subset was chosen.

    The adaptation test of Aljundi et al. (ECCV 2018), figure 7.
    """
    groups = group_by_method(runs)
    shown = {m: group for m, group in groups.items() if all(run.map_subset for run in group)}
    if not any(group[0].in_sequence for group in shown.values()):
        return None
    values = {m: np.array([run.map_subset for run in group], dtype=float) for m, group in shown.items()}
    top = max(float(np.nanmax(found)) for found in values.values()) or 1.0
    lines = _lines(groups, values)
    figure, axes = stage_chart(subset_title(shown), lines, len(runs[0].tasks), top, short_fraction)
    axes.set_xlabel("after task")
    fraction_ticks(axes.yaxis)
    return figure


@styled()
def memory_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Megabytes that each method keeps over the stages, those that keep nothing left out; None where all do.

    Figure 4 of Aljundi et al. (ECCV 2018), measured.
    """
    from matplotlib.ticker import MaxNLocator

    groups = group_by_method(runs)
    keeping = {m: g for m, g in groups.items() if g[0].in_sequence and all(any(run.method_bytes) for run in g)}
    if not keeping:
        return None
    values = {m: np.array([[np.nan, *run.method_bytes[1:]] for run in group]) for m, group in keeping.items()}
    top = max(float(np.nanmax(found)) for found in values.values())
    lines = _lines(groups, values)
    figure, axes = stage_chart(memory_title(keeping), lines, len(runs[0].tasks), top, megabytes, first=1)
    axes.set_xlabel("after task")
    axes.yaxis.set_major_formatter(lambda value, _: megabytes(value) if value else "0")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    return figure


def _lines(groups: Groups, values: dict[str, np.ndarray], since: int = 0) -> dict[str, Line]:
    """The lines of the methods that have values, in the styles that they have among all."""
    shaded = list(groups) if len(groups) <= MANY else featured(groups)
    styles = method_styles(list(groups))
    return {
        method: Line(found, styles[method], since, not groups[method][0].in_sequence, method in shaded)
        for method, found in values.items()
    }


def stage_chart(
    title: str,
    lines: dict[str, Line],
    tasks: int,
    top: float,
    number: Callable[[float], str],
    first: int = 0,
    low: float = 0.0,
) -> tuple[Figure, Axes]:
    """All lines over the stages from the first, from low to top; their last values and names beside their ends."""
    labels = {method: f"{number(line.mean[-1])} {_name(method)}" for method, line in lines.items()}
    left = 0.42 if len(number(top)) <= 4 else 0.66  # room for the ticks' labels
    right = 0.45 + 0.078 * max(map(len, labels.values()))
    height = max(2.9, 1.2 + LABEL_INCHES * len(lines))
    figure, axes = titled_figure(title, (WIDE, height), left=left, bottom=BELOW, right=right)
    axes.set(xlim=(first - 0.3, tasks + 0.1), ylim=(low, low + 1.06 * (top - low)))
    for line in lines.values():
        _draw(axes, line)
    _label_ends(axes, lines, labels, tasks)
    axes.set_xticks(range(first, tasks + 1), stage_labels(tasks, start="before" if tasks <= 6 else "0")[first:])
    axes.grid(axis="y", linewidth=0.6)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    return figure, axes


def _name(method: str) -> str:
    return shortened(method_label(method), NAME_WIDTH)


def _draw(axes: Axes, line: Line) -> None:
    mean, style, since = line.mean, line.style, line.since
    if line.level:
        axes.axhline(mean[-1], color=style.color, linestyle="--", linewidth=style.width)
        return
    stages = np.arange(len(mean))
    axes.plot(stages[: since + 1], mean[: since + 1], color=style.color, linewidth=1, alpha=0.45)
    (drawn,) = axes.plot(stages[since:], mean[since:], style.marker, color=style.color, zorder=3)
    drawn.set(linestyle="-", linewidth=style.width, markersize=5 if style.width > 1.5 else 3.5)
    if line.shaded and len(line.values) > 1:
        std = line.values.std(axis=0, ddof=1)
        low, high = (mean - std)[since:], (mean + std)[since:]
        axes.fill_between(stages[since:], low, high, color=style.color, alpha=0.16, linewidth=0)


def _label_ends(axes: Axes, lines: dict[str, Line], labels: dict[str, str], stage: int) -> None:
    """Marks, last values and names beside the lines' ends, moved apart where they would touch."""
    extent, (first, last), (low, top) = axes.get_window_extent(), axes.get_xlim(), axes.get_ylim()
    point = (last - first) / (extent.width / axes.figure.dpi * 72)  # in the units of the x axis
    ends = {method: float(line.mean[-1]) for method, line in lines.items() if np.isfinite(line.mean[-1])}
    methods = sorted(ends, key=ends.__getitem__)
    gap = min(LABEL_INCHES / (extent.height / axes.figure.dpi), 1 / max(len(methods), 1)) * (top - low)
    for method, at in zip(methods, spaced([ends[m] for m in methods], gap=gap, top=top), strict=True):
        style = lines[method].style
        if abs(at - ends[method]) > 0.2 * gap:
            leader = ([stage + 3 * point, stage + 14 * point], [ends[method], at])
            axes.plot(*leader, color=MUTED, linewidth=0.5, alpha=0.7, clip_on=False)
        marker, size = ("_", 9) if style.dash != "-" else (style.marker, 5)
        (mark,) = axes.plot(stage + 19 * point, at, marker, color=style.color, clip_on=False)
        mark.set(markersize=size, markeredgewidth=2)
        axes.text(stage + 26 * point, at, labels[method], fontsize=9.5, va="center")
