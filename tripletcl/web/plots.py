"""The report's pictures, following the page's slider."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.evaluation import RunResult
from tripletcl.report.curves import Line, curve_figures, stage_chart
from tripletcl.report.drawing import INK, Style, fraction_ticks, styled
from tripletcl.report.formatting import fraction
from tripletcl.report.pictures import figure_uri

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_drawing = threading.Lock()
"""matplotlib's settings are one for all threads."""


@dataclass(frozen=True)
class Picture:
    """A figure as a data URI; the style sheet inverts it on a dark page."""

    title: str
    uri: str

    @classmethod
    def of(cls, figure: Figure) -> Picture:
        """Draw a figure."""
        return cls(str(figure.get_label()), figure_uri(figure))


def task_curves(results: Sequence[RunResult], stage: int) -> list[Picture]:
    """Of each task its MAP over the stages, a line a method, the stage shown marked."""
    with _drawing:
        figures = list(curve_figures(alike(results)).values())
        for figure in figures:
            _mark(figure.axes[0], stage)
        return [Picture.of(figure) for figure in figures]


def query_curve(title: str, values: Mapping[str, Sequence[float]], styles: Mapping[str, Style], stage: int) -> Picture:
    """A picture of one query's AP over the stages, a line a method; one with two stages is drawn as a level."""
    stages = max(map(len, values.values()))
    lines = {
        method: Line(np.array([found]), styles[method], level=len(found) < stages) for method, found in values.items()
    }
    with _drawing, styled():
        figure, axes = stage_chart(title, lines, stages - 1, 1.0, lambda value: fraction(value, 2))
        axes.set_xlabel("after task")
        fraction_ticks(axes.yaxis)
        _mark(axes, stage)
        return Picture.of(figure)


def _mark(axes: Axes, stage: int) -> None:
    axes.axvline(stage, color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=0.5)


def alike(results: Sequence[RunResult]) -> list[RunResult]:
    """Results of as many tasks and stages, where one run was taught more than the other.

    The other one's last model goes on beside the new stages; of the new tasks it knows no numbers.
    """
    tasks = max((result.tasks for result in results), key=len)
    stages = max(len(result.matrix) for result in results)
    return [_padded(result, tasks, stages) for result in results]


def _padded(result: RunResult, tasks: list[str], stages: int) -> RunResult:
    nothing = float("nan")
    rows = [[*row, *[nothing] * (len(tasks) - len(row))] for row in result.matrix]
    if result.in_sequence and len(result.tasks) > 1:
        rows += [rows[-1]] * (stages - len(rows))
    return replace(result, tasks=tasks, matrix=rows)
