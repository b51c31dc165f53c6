"""What becomes of a photo index when the model learns on: a sentence, the galleries by the queries, and bars.

The measurements are those that `tripletcl.runs.drift` keeps with a run, by method, several runs of one where
there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tripletcl.report.drawing import (
    FILL,
    INK,
    MUTED,
    NAMED,
    NARROW,
    fraction_ticks,
    left_margin,
    styled,
    titled_figure,
)
from tripletcl.report.formatting import counted, fraction, method_label
from tripletcl.report.grouping import mean
from tripletcl.report.heatmaps import heat_cell, heat_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Drift = Mapping[str, Any]
Drifts = Mapping[str, Sequence[Drift]]
"""Of each method its measured runs."""

WAYS = {"stale": "stale", "upgraded": "upgraded", "reembedded": "embedded anew"}
GROUPS = {"all": "all facts", "old": "known to the index", "new": "learned since"}
COLORS = {"stale": NAMED["frozen"], "upgraded": FILL, "reembedded": MUTED}

NOTE = (
    "An index keeps the vectors of the model that made it, and goes stale when the model learns on. Upgraded, they "
    "follow a map learned from the new tasks' photos, without a look at those indexed; embedding anew takes them all. "
    "MAP by the vectors alone over all test images: first of the newest stale index, then of every model's queries "
    "(across) over every model's gallery (down), of all facts that either of the two was taught."
)


def comparable(runs: Sequence[Drift]) -> list[Drift]:
    """The runs measured on the same stages as the first."""
    first = (runs[0]["stages"], _newest(runs[0])["from"]) if runs else None
    return [run for run in runs if (run["stages"], _newest(run)["from"]) == first]


def drift_sentence(method: str, runs: Sequence[Drift]) -> str:
    """What the newest index but one is worth to the newest model, in one or two sentences."""
    new, old = (_by_way(runs, group) for group in ("new", "old"))
    upgrade = _newest(runs[0])
    name = method_label(method)
    since = f"after {counted(upgrade['to'] - upgrade['from'], 'more task')}"
    return (
        f"{name}: {since}, a stale index finds what was learned since at {fraction(new['stale'], 2)}, upgraded at "
        f"{fraction(new['upgraded'], 2)}, embedded anew at {fraction(new['reembedded'], 2)}; what it knew at "
        f"{fraction(old['stale'], 2)}, {fraction(old['upgraded'], 2)} and {fraction(old['reembedded'], 2)}."
    )


@styled()
def upgrade_figures(drifts: Drifts) -> list[Figure]:
    """MAP of a stale, an upgraded and a re-embedded index by group of facts, a figure a method, on one scale."""
    values = {method: {group: _by_way(runs, group) for group in GROUPS} for method, runs in drifts.items()}
    top = max(
        (v for of in values.values() for bars in of.values() for v in bars.values() if v is not None), default=1.0
    )
    return [_bars(method, _newest(drifts[method][0]), of, top) for method, of in values.items()]


def _bars(method: str, upgrade: Drift, values: Mapping[str, Mapping[str, float | None]], top: float) -> Figure:
    title = f"{method_label(method)}: an index of stage {upgrade['from']} asked by the model of stage {upgrade['to']}"
    figure, axes = titled_figure(title, (NARROW, 2.75), left=left_margin([*GROUPS.values()]), bottom=0.6, right=0.45)
    for row, group in enumerate(GROUPS):
        for place, way in enumerate(WAYS):
            _bar(axes, row + 0.27 * (place - 1), values[group][way], COLORS[way], WAYS[way] if row == 0 else None)
    axes.set_yticks(range(len(GROUPS)), list(GROUPS.values()), color=INK)
    axes.set(xlim=(0, 1.05 * top), ylim=(len(GROUPS) - 0.5, -0.5))
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.legend(
        loc="lower left", frameon=False, ncols=3, labelcolor=INK, fontsize=9, handlelength=1, columnspacing=1.2
    )
    fraction_ticks(axes.xaxis)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _bar(axes: Axes, row: float, value: float | None, color: str, label: str | None) -> None:
    axes.barh(row, value or 0.0, height=0.24, color=color, label=label)
    axes.annotate(
        fraction(value), (value or 0.0, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8.5,
        annotation_clip=False,
    )  # fmt: skip


@styled()
def gallery_figures(drifts: Drifts) -> list[Figure]:
    """MAP of every stage's queries over every stage's gallery as a heat map, a figure a method, on one scale."""
    matrices = {method: _mean_matrix(runs) for method, runs in drifts.items()}
    top = max((float(np.nanmax(matrix)) for matrix in matrices.values()), default=1.0) or 1.0
    return [_heat_map(method, matrix, drifts[method][0]["stages"], top) for method, matrix in matrices.items()]


def _heat_map(method: str, matrix: np.ndarray, stages: Sequence[int], top: float) -> Figure:
    size = (max(NARROW, 1.1 + 0.42 * len(stages)), 1.15 + 0.36 * max(len(stages), 2))
    oldest, own = (fraction(float(matrix[row, -1]), 2) for row in (0, -1))
    title = f"{method_label(method)}: the last model has {oldest} on the oldest index, {own} on its own"
    figure, axes = titled_figure(title, size, left=0.75, bottom=0.5, right=0.1)
    for row in range(len(stages)):
        for column in range(len(stages)):
            heat_cell(axes, column, row, matrix[row, column] / top)
            heat_number(axes, column, row, float(matrix[row, column]), top, 10 if len(stages) <= 6 else 7.5)
    axes.set_xticks(range(len(stages)), list(map(str, stages)))
    axes.set_yticks(range(len(stages)), list(map(str, stages)))
    axes.set_xlabel("queries by the model of stage")
    axes.set_ylabel("index of stage")
    axes.set(xlim=(-0.5, len(stages) - 0.5), ylim=(len(stages) - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _newest(run: Drift) -> Drift:
    return max(run["upgrades"], key=lambda upgrade: upgrade["from"])


def _by_way(runs: Sequence[Drift], group: str) -> dict[str, float | None]:
    """The mean over runs for each way; None where a run lacks it."""
    newest = [_newest(run)["map"] for run in runs]
    return {way: mean(maps.get(way, {}).get(group) for maps in newest) for way in WAYS}


def _mean_matrix(runs: Sequence[Drift]) -> np.ndarray:
    """The mean over runs of all facts' matrix, `[S, S]`; NaN where a run lacks a value."""
    return np.array([run["matrix"]["all"] for run in runs], dtype=float).mean(axis=0)
