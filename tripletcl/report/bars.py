"""Where the methods end: the overall score and forgetting as bars, and the share of the facts that reach an AP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.evaluation.result import UPPER_BOUND, RunResult, Spread
from tripletcl.report.comparison import Row, comparison_rows
from tripletcl.report.drawing import (
    INK,
    MUTED,
    NARROW,
    Style,
    fraction_ticks,
    left_margin,
    method_styles,
    number_ticks,
    styled,
    titled_figure,
)
from tripletcl.report.formatting import method_label, shortened
from tripletcl.report.grouping import ap_by_fact, group_by_method
from tripletcl.report.metric import Metric, metric_of
from tripletcl.report.sentences import ap_title, featured, final_title, forgetting_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@styled()
def final_figure(runs: Sequence[RunResult]) -> Figure:
    """The overall score at the end by method as bars, with error bars over runs."""
    metric, title = metric_of(runs), final_title(group_by_method(runs))
    return _bars(comparison_rows(runs), "overall", title, metric.overall, metric)


@styled()
def forgetting_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Mean forgetting by method as bars, with error bars over runs; None where no method has a forgetting."""
    rows, metric = comparison_rows(runs), metric_of(runs)
    if not any(row["forgetting"] for row in rows):
        return None
    return _bars(rows, "forgetting", forgetting_title(rows), metric.lost, metric)


def _bars(rows: Sequence[Row], measure: str, title: str, label: str, metric: Metric) -> Figure:
    styles = method_styles([row["method"] for row in rows])
    rows = [row for row in rows if row[measure]]
    names = [shortened(method_label(row["method"]), 14) for row in rows]
    size = (NARROW, _bars_height(len(rows)))
    figure, axes = titled_figure(title, size, left=left_margin(names), bottom=0.45, right=0.5)
    for index, row in enumerate(rows):
        _bar(axes, index, row[measure], styles[row["method"]], metric)
    axes.set_yticks(range(len(rows)), names, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(label)
    number_ticks(axes.xaxis, metric.tick)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _bars_height(bars: int) -> float:
    return 1.05 + 0.34 * max(bars, 3)


def _bar(axes: Axes, index: int, value: Spread, style: Style, metric: Metric) -> None:
    std = value.std or 0.0
    axes.barh(index, value.mean, height=0.62, color=style.color, alpha=0.55 if style.dash != "-" else 1.0)
    if std:
        axes.errorbar(value.mean, index, xerr=std, color=INK, linewidth=1.2, capsize=3)
    end = max(value.mean + std, 0.0)
    axes.annotate(
        metric.text(value.mean),
        (end, index),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        weight="bold",
        annotation_clip=False,
    )


@styled()
def ap_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Share of the facts that reach an AP or more (last stage, all test images); None without APs.

    Lines of the two featured methods and of joint training only: more would hide each other.
    """
    groups = group_by_method(runs)
    aps = {method: np.sort(list(ap_by_fact(group).values())) for method, group in groups.items()}
    shown = [method for method in groups if method in (*featured(groups), UPPER_BOUND) and len(aps[method])]
    if not shown:
        return None
    figure, axes = titled_figure(
        ap_title(groups), (NARROW, max(2.6, _bars_height(len(groups)))), left=0.45, bottom=0.45, right=0.2
    )
    styles = method_styles(list(groups))
    for method in shown:
        _reaching(axes, aps[method], styles[method], shortened(method_label(method), 14))
    axes.axhline(0.5, color=MUTED, linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("AP, and the share of facts that reach it")
    axes.grid(linewidth=0.6)
    axes.legend(frameon=False, loc="best", labelcolor=INK, fontsize=9.5)
    fraction_ticks(axes.xaxis)
    fraction_ticks(axes.yaxis)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _reaching(axes: Axes, aps: np.ndarray, style: Style, label: str) -> None:
    """The share of the sorted APs that are at least x, for each x."""
    share = 1 - np.arange(len(aps) + 1) / len(aps)
    reached = np.concatenate([[0.0], aps])
    axes.step(reached, share, where="post", color=style.color, linestyle=style.dash, linewidth=style.width, label=label)
