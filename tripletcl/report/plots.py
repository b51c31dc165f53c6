"""The report's pictures, as matplotlib figures: matrices, curves over the stages, bars and the facts' AP."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tripletcl.evaluation.result import UPPER_BOUND, RunResult, Spread
from tripletcl.report.formatting import fraction, method_label, shortened
from tripletcl.report.runs import (
    Groups,
    ap_by_fact,
    group_by_method,
    highest_map,
    in_sequence,
    matrices,
    mean_matrix,
    task_names,
)
from tripletcl.report.sentences import ap_title, curve_title, final_title, forgetting_title, matrix_title
from tripletcl.report.tables import Row, comparison_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

INK, MUTED, GRID, PAPER, FILL = "#1f2431", "#5b6473", "#dde1e8", "#fffffe", "#0b4fb5"
DARK = {INK: "#e8ebf1", MUTED: "#a4adbb", GRID: "#353c49", PAPER: "#10141b", FILL: "#67a6ff"}
"""Each colour's twin on a dark page; `figure_uri` hands both to the browser."""

NAMED = {"finetune": ("#d1500f", "#ff8f52"), "mas": ("#1257c9", "#5ea2ff")}
NAMED |= {"joint": ("#717a88", "#98a3b1"), "frozen": ("#b0b7c2", "#667080")}
OTHERS = (
    ("#00876c", "#35c9a4"),
    ("#9a4cc4", "#c793ee"),
    ("#a88200", "#dcbc3c"),
    ("#c9327f", "#f784bb"),
    ("#1f9bcf", "#62cdf7"),
    ("#7a4f35", "#c79a7c"),
)
DARK |= dict([*NAMED.values(), *OTHERS])
MARKERS = "osD^vPX*"

WIDTH, HEIGHT, TITLE_WIDTH = 4.7, 3.1, 52
"""Inches of a figure and characters of a title's line: read one to one on a phone, two abreast on a page."""

RC = {
    "font.size": 10,
    "text.parse_math": False,  # a method or task may be called `$x$`
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "grid.color": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Style:
    """How a method is drawn, the same in every picture."""

    color: str
    marker: str
    dash: str = "-"
    width: float = 1.8


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """Colours of the methods: finetune warm, MAS strong blue, joint grey and dashed, frozen light, others in order."""
    unnamed = [method for method in methods if method not in NAMED]
    colors = {method: OTHERS[index % len(OTHERS)][0] for index, method in enumerate(unnamed)}
    colors |= {method: light for method, (light, _) in NAMED.items()}
    return {
        method: Style(
            colors[method],
            MARKERS[index % len(MARKERS)],
            dash="--" if method == UPPER_BOUND else "-",
            width=2.6 if method == "mas" else 1.8,
        )
        for index, method in enumerate(methods)
    }


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(RC):
        yield


def _figure(title: str, left: float, bottom: float, right: float, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure and its axes, the margins given in inches, a left-aligned title of up to two lines above."""
    from matplotlib.figure import Figure

    lines = textwrap.wrap(title, TITLE_WIDTH)[:2]
    top = 0.26 + 0.19 * len(lines)
    figure = Figure(figsize=(WIDTH, height), facecolor="none")
    box = (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (bottom + top) / height)
    figure.set_label(title)
    axes = figure.add_axes(box, facecolor="none")
    figure.text(
        0.1 / WIDTH, 1 - 0.08 / height, "\n".join(lines), fontsize=11, weight="bold", va="top", linespacing=1.25
    )
    return figure, axes


@_styled()
def matrix_figures(runs: Sequence[RunResult]) -> dict[str, Figure]:
    """MAP of each task (own test images) at each stage as a heat map, one figure a method, one colour scale for all."""
    groups = group_by_method(runs)
    top, names = highest_map(groups), task_names(runs)
    return {method: _heat_map(method, group, mean_matrix(group), top, names) for method, group in groups.items()}


def _heat_map(method: str, group: Sequence[RunResult], matrix: np.ndarray, top: float, names: list[str]) -> Figure:
    stages, tasks = matrix.shape
    figure, axes = _figure(
        matrix_title(method, group), left=1.15, bottom=0.5, right=0.1, height=1.15 + 0.36 * max(tasks, 2)
    )
    for stage in range(stages):
        for task in range(tasks):
            _heat_cell(axes, stage, task, matrix[stage, task] / top, fraction(matrix[stage, task], 2), tasks)
    if in_sequence(group[0]):
        for task in range(tasks):
            axes.add_patch(_square(task + 1, task, facecolor="none", edgecolor=INK, linewidth=1.6))
    labels = _stage_labels(tasks) if in_sequence(group[0]) else ["before", "after all tasks"]
    axes.set_xticks(range(stages), labels)
    axes.set_yticks(range(tasks), [shortened(name, 14) for name in names])
    axes.set_xlabel("after task (outlined: just learned)" if in_sequence(group[0]) else "")
    axes.set(xlim=(-0.5, stages - 0.5), ylim=(tasks - 0.5, -0.5))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _square(stage: int, task: int, **look: Any) -> Rectangle:
    from matplotlib.patches import Rectangle

    return Rectangle((stage - 0.47, task - 0.45), 0.94, 0.9, **look)


def _heat_cell(axes: Axes, stage: int, task: int, share: float, text: str, tasks: int) -> None:
    """One colour, more opaque where MAP is higher, so that the picture reads on light and on dark paper."""
    strength = 0.05 + 0.95 * min(max(float(np.nan_to_num(share)), 0.0), 1.0)
    axes.add_patch(_square(stage, task, facecolor=FILL, alpha=strength, linewidth=0))
    if tasks <= 12:
        size = 10 if tasks <= 6 else 7.5
        axes.text(stage, task, text, ha="center", va="center", fontsize=size, color=PAPER if strength > 0.62 else INK)


def _stage_labels(tasks: int) -> list[str]:
    return ["before", *(str(task + 1) for task in range(tasks))]


@_styled()
def curve_figures(runs: Sequence[RunResult]) -> dict[str, Figure]:
    """MAP of one task (own test images) over the stages, a line a method: one figure a task, one scale for all."""
    groups = group_by_method(runs)
    top, names = highest_map(groups), task_names(runs)
    return {name: _curves(groups, task, names, top) for task, name in enumerate(names)}


def _curves(groups: Groups, task: int, names: list[str], top: float) -> Figure:
    tasks = len(names)
    figure, axes = _figure(curve_title(groups, task), left=0.5, bottom=0.55, right=1.25)
    axes.set(xlim=(-0.3, tasks + 0.1), ylim=(0, 1.06 * top))
    axes.axvline(task + 1, color=GRID, linewidth=5, zorder=0)
    ends = {}
    for method, style in method_styles(list(groups)).items():
        ends[method] = _curve(axes, groups[method], task, style)
    _end_labels(axes, ends, method_styles(list(groups)), tasks, 1.06 * top)
    axes.set_xticks(range(tasks + 1), _stage_labels(tasks))
    axes.set_xlabel(f"after task (band: {shortened(names[task], 20)} is learned)")
    axes.grid(axis="y", linewidth=0.6)
    _fraction_ticks(axes.yaxis)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    return figure


def _curve(axes: Axes, group: Sequence[RunResult], task: int, style: Style) -> float:
    """Draw a method's line, faint until the task is learned; returns where it ends."""
    values = matrices(group)[:, :, task]  # [runs, stages]
    mean = mean_matrix(group)[:, task]
    if not in_sequence(group[0]):
        axes.axhline(mean[-1], color=style.color, linestyle="--", linewidth=style.width)
        return float(mean[-1])
    stages, since = np.arange(len(mean)), task + 1
    axes.plot(stages[: since + 1], mean[: since + 1], color=style.color, linewidth=1, alpha=0.45)
    axes.plot(
        stages[since:],
        mean[since:],
        color=style.color,
        linewidth=style.width,
        marker=style.marker,
        markersize=5,
        zorder=3,
    )
    if len(values) > 1:
        std = values.std(axis=0, ddof=1)[since:]
        axes.fill_between(
            stages[since:], mean[since:] - std, mean[since:] + std, color=style.color, alpha=0.16, linewidth=0
        )
    return float(mean[-1])


def _end_labels(axes: Axes, ends: dict[str, float], styles: dict[str, Style], stage: int, top: float) -> None:
    """Names and last values beside the lines' ends, moved apart where they would touch."""
    methods = sorted((method for method in ends if np.isfinite(ends[method])), key=ends.__getitem__)
    heights = spaced([ends[method] for method in methods], gap=min(0.085 * top, top / max(len(methods), 1)), top=top)
    for method, height in zip(methods, heights, strict=True):
        text = f"{fraction(ends[method], 2)} {shortened(method_label(method), 12)}"
        axes.annotate(
            text,
            (stage, height),
            xytext=(10, 0),
            textcoords="offset points",
            color=styles[method].color,
            va="center",
            weight="bold",
            fontsize=9.5,
            annotation_clip=False,
        )


def spaced(values: Sequence[float], gap: float, top: float) -> list[float]:
    """Sorted heights moved up as little as keeps them `gap` apart, then down as far as `top` demands."""
    heights = list(values)
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    for index in reversed(range(len(heights))):
        above = heights[index + 1] - gap if index + 1 < len(heights) else top
        heights[index] = min(heights[index], above)
    return heights


def _fraction_ticks(axis: Axis) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: "0" if abs(value) < 1e-9 else fraction(value, 2).rstrip("0").rstrip("."))


@_styled()
def forgetting_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Mean forgetting by method as bars, with error bars over runs; None where no method has a forgetting."""
    rows = comparison_rows(runs)
    known = [row for row in rows if row["forgetting"]]
    return (
        _bars(known, "forgetting", forgetting_title(rows), "MAP lost a task since its best, lower is better")
        if known
        else None
    )


@_styled()
def final_figure(runs: Sequence[RunResult]) -> Figure:
    """MAP over all facts and all test images at the end by method as bars, with error bars over runs."""
    title = final_title(group_by_method(runs))
    return _bars(comparison_rows(runs), "map_all", title, "MAP over all facts, all test images")


def _bars(rows: Sequence[Row], measure: str, title: str, label: str) -> Figure:
    figure, axes = _figure(title, left=1.2, bottom=0.5, right=0.55, height=1.15 + 0.34 * len(rows))
    for index, style in enumerate(method_styles([row["method"] for row in rows]).values()):
        _bar(axes, index, rows[index][measure], style)
    axes.set_yticks(range(len(rows)), [shortened(method_label(row["method"]), 14) for row in rows], color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(label)
    _fraction_ticks(axes.xaxis)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _bar(axes: Axes, index: int, value: Spread | None, style: Style) -> None:
    if value is None:
        return
    std = value.std or 0.0
    axes.barh(index, value.mean, height=0.62, color=style.color, alpha=0.55 if style.dash != "-" else 1.0)
    if std:
        axes.errorbar(value.mean, index, xerr=std, color=INK, linewidth=1.2, capsize=3)
    end = max(value.mean + std, 0.0)
    axes.annotate(
        fraction(value.mean),
        (end, index),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        weight="bold",
        annotation_clip=False,
    )


@_styled()
def ap_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Share of the facts that reach an AP or more (last stage, all test images), a line a method; None without APs."""
    groups = group_by_method(runs)
    aps = {method: np.sort(list(ap_by_fact(group).values())) for method, group in groups.items()}
    if not any(len(values) for values in aps.values()):
        return None
    figure, axes = _figure(ap_title(groups), left=0.5, bottom=0.5, right=0.2)
    for method, style in method_styles(list(groups)).items():
        if len(values := aps[method]):
            reached = np.concatenate([[0.0], values])
            share = np.concatenate([[1.0], 1 - np.arange(len(values)) / len(values)])
            label = shortened(method_label(method), 16)
            axes.step(
                reached, share, where="pre", color=style.color, linestyle=style.dash, linewidth=style.width, label=label
            )
    axes.axhline(0.5, color=MUTED, linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.set_xlabel("AP of a fact: share of the facts that reach it")
    axes.grid(linewidth=0.6)
    axes.legend(frameon=False, loc="upper right", labelcolor=INK, fontsize=9.5)
    _fraction_ticks(axes.xaxis)
    _fraction_ticks(axes.yaxis)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure
