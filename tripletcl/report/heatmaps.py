"""Each method's matrix of scores, tasks x stages, as a heat map; many methods as small multiples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tripletcl.evaluation.result import RunResult
from tripletcl.report.drawing import FILL, INK, MANY, NARROW, PAPER, TITLE_POINTS, left_margin, styled, titled_figure
from tripletcl.report.formatting import short_fraction, shortened
from tripletcl.report.grouping import group_by_method, highest_score, mean_matrix, task_names
from tripletcl.report.metric import Metric, Number, metric_of
from tripletcl.report.sentences import matrix_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle


@dataclass(frozen=True)
class Size:
    """What a heat map of some size shows; lengths in inches, text in points, numbers in the cells of so many tasks."""

    small: bool
    numbered: int
    width: float
    cell: float
    title: float
    text: float


LARGE = Size(small=False, numbered=12, width=NARROW, cell=0.36, title=TITLE_POINTS, text=10)
PALE = 0.62
"""A number in a cell stronger than this is pale."""

SMALL = Size(small=True, numbered=6, width=2.05, cell=0.22, title=8.5, text=7.5)


@styled()
def matrix_figures(runs: Sequence[RunResult]) -> dict[str, Figure]:
    """The score of each task (own test images) at each stage as a heat map, a figure a method, one scale for all."""
    groups = group_by_method(runs)
    top, names = highest_score(groups), task_names(runs)
    size, metric = LARGE if len(groups) <= MANY else SMALL, metric_of(runs)
    return {method: _heat_map(method, group, top, names, size, metric) for method, group in groups.items()}


def _heat_map(
    method: str, group: Sequence[RunResult], top: float, names: list[str], size: Size, metric: Metric
) -> Figure:
    matrix = mean_matrix(group)
    stages, tasks = matrix.shape
    first = first_known(matrix)
    rows = [str(task + 1) if size.small else shortened(name, 14) for task, name in enumerate(names)]
    left = 0.24 if size.small else left_margin(rows)
    width = size.width if size.small else max(size.width, left + 0.1 + 0.42 * (tasks + 1))
    height = (0.8 if size.small else 1.05) + size.cell * max(tasks, 2)
    title = matrix_title(method, group, short=size.small)
    figure, axes = titled_figure(title, (width, height), left, 0.24 if size.small else 0.45, 0.1, size.title)
    for stage in range(first, stages):
        for task in range(tasks):
            heat_cell(axes, stage, task, matrix[stage, task] / top)
            if tasks <= size.numbered:
                points = size.text if tasks <= 6 else 0.75 * size.text
                heat_number(axes, stage, task, matrix[stage, task], top, points, metric.short)
    _label(axes, rows, range(first, stages), group[0].in_sequence, size)
    return figure


def _label(axes: Axes, rows: list[str], stages: range, sequence: bool, size: Size) -> None:
    tasks = len(rows)
    if sequence:
        for task in range(tasks):
            axes.add_patch(_square(task + 1, task, facecolor="none", edgecolor=INK, linewidth=size.text / 6))
    after = stage_labels(tasks, "0" if size.small else "before") if sequence else ["before", "after all tasks"]
    axes.set_xticks(stages, [after[stage] for stage in stages], fontsize=size.text)
    axes.set_yticks(range(tasks), rows, fontsize=size.text)
    axes.set_xlabel("after task (outlined: just learned)" if sequence and not size.small else "")
    axes.set(xlim=(stages.start - 0.5, stages.stop - 0.5), ylim=(tasks - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def first_known(stages: np.ndarray) -> int:
    """The first of `[stages, ...]` with a number: before training, none of several heads knows a task."""
    return 0 if np.isfinite(stages[0]).any() or len(stages) == 1 else 1


def stage_labels(tasks: int, start: str = "before") -> list[str]:
    """What the stages are called on an axis."""
    return [start, *(str(task + 1) for task in range(tasks))]


def _square(stage: int, task: int, **look: Any) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((stage - 0.47, task - 0.45), 0.94, 0.9, **look)


def heat_strength(share: float) -> float:
    """One colour, more opaque where the score is higher, so that the picture reads on light and on dark paper."""
    return 0.05 + 0.95 * min(max(float(np.nan_to_num(share)), 0.0), 1.0)


def heat_cell(axes: Axes, column: int, row: int, share: float) -> None:
    """A filled cell, the stronger the nearer the share is to 1."""
    axes.add_patch(_square(column, row, facecolor=FILL, alpha=heat_strength(share), linewidth=0))


def heat_number(
    axes: Axes, column: int, row: int, value: float, top: float, points: float, text: Number = short_fraction
) -> None:
    """A cell's value, in a colour that can be read on it."""
    color = PAPER if heat_strength(value / top) > PALE else INK
    axes.text(column, row, text(value), ha="center", va="center", fontsize=points, color=color)
