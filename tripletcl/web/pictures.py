"""Photos and charts as data URIs inside the page: no file is ever served by its path."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.data.images import Photo
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.report.chart_style import INK, Style, styled
from tripletcl.report.charts import Line
from tripletcl.report.figures import curve_figures, stage_chart
from tripletcl.report.formatting import short_fraction
from tripletcl.report.pictures import Picture, thumbnail_uri

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL, LARGE = 176, 640
"""Pixels of a photo in a grid and of one in the dialog."""

THUMBNAILS_HELD = 4000
"""Small pictures in memory, some 8 kB each."""

EMPTY = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='8' height='8'%3E%3C/svg%3E"

_drawing = threading.Lock()
"""matplotlib's settings are one for all threads."""


# --- photos ----------------------------------------------------------------------------------------------------------


@lru_cache(THUMBNAILS_HELD)
def thumbnail(path: Photo) -> str:
    """A photo for a grid, as a data URI; an empty picture where it cannot be read."""
    return _photo(path, SMALL)


def large_photo(path: Photo) -> str:
    """A photo for the dialog, as a data URI; an empty picture where it cannot be read."""
    return _photo(path, LARGE)


def _photo(path: Photo, size: int) -> str:
    try:
        return thumbnail_uri(path, size)
    except UserError:
        return EMPTY


# --- charts ----------------------------------------------------------------------------------------------------------


def task_charts(results: Sequence[RunResult], stage: int) -> list[Picture]:
    """The MAP of each task over the stages, a line per method, the stage shown marked."""
    with _drawing:
        figures = list(curve_figures(padded(results)).values())
        for figure in figures:
            _mark(figure.axes[0], stage)
        return [Picture.of(figure) for figure in figures]


def query_chart(title: str, aps: Mapping[str, Sequence[float]], styles: Mapping[str, Style], stage: int) -> Picture:
    """A query's AP over the stages, a line per method; a method with two stages is drawn as a level."""
    stages = max(map(len, aps.values()))
    lines = {
        method: Line(np.array(values), styles[method], level=len(values) < stages) for method, values in aps.items()
    }
    with _drawing, styled():
        figure, axes = stage_chart(title, lines, stages - 1, (0.0, 1.0), short_fraction)
        _mark(axes, stage)
        return Picture.of(figure)


def _mark(axes: Axes, stage: int) -> None:
    axes.axvline(stage, color=INK, linewidth=1, linestyle=(0, (2, 2)), zorder=0.5)


def padded(results: Sequence[RunResult]) -> list[RunResult]:
    """Results of equally many tasks and stages, where one run was taught more than another.

    The other one's last figures are repeated for the new stages; those of the new tasks are NaN.
    """
    tasks = max((result.tasks for result in results), key=len)
    stages = max(len(result.matrix) for result in results)
    return [_padded(result, tasks, stages) for result in results]


def _padded(result: RunResult, tasks: list[str], stages: int) -> RunResult:
    rows = [[*row, *[float("nan")] * (len(tasks) - len(row))] for row in result.matrix]
    if result.in_sequence and len(result.tasks) > 1:
        rows += [rows[-1]] * (stages - len(rows))
    return replace(result, tasks=tasks, matrix=rows)
