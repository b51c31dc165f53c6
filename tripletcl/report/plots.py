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
from tripletcl.report.sentences import ap_title, curve_title, featured, final_title, forgetting_title, matrix_title
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
    ("#2f9e6b", "#5fd69e"),
    ("#5b1f8c", "#7a50e8"),
    ("#c99e00", "#ffd20f"),
    ("#75102a", "#b8504f"),
    ("#4ba5f0", "#87f4ff"),
    ("#434a00", "#f4f0d8"),
)
"""(light, dark) pairs that stay apart, by lightness too, for readers who confuse red and green."""

DARK |= dict([*NAMED.values(), *OTHERS])
MARKERS = "osD^vPX*"

NARROW, WIDE = 3.6, 4.2
"""Widths of a figure in inches: three or two stand abreast on a page, and a phone shows them at about full size."""

NAME_WIDTH = 12
"""Characters of a method's name beside its line."""

TITLE_DENSITY = 11.9
"""Characters of a title that fit in an inch, in a wide font."""

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


def _figure(title: str, size: tuple[float, float], left: float, bottom: float, right: float) -> tuple[Figure, Axes]:
    """A figure and its axes, size and margins in inches, with a left-aligned title of up to two lines above."""
    from matplotlib.figure import Figure

    width, height = size
    lines = textwrap.wrap(title, int(TITLE_DENSITY * (width - 0.2)))[:2]
    top = 0.26 + 0.19 * len(lines)
    figure = Figure(figsize=size, facecolor="none", label=title)
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes = figure.add_axes(box, facecolor="none")
    place = (0.1 / width, 1 - 0.08 / height)
    figure.text(*place, "\n".join(lines), fontsize=10.5, weight="bold", va="top", linespacing=1.25)
    return figure, axes


def _left_margin(labels: Sequence[str]) -> float:
    """Inches that the longest label left of the axes takes."""
    return 0.3 + 0.082 * max(map(len, labels))


@_styled()
def matrix_figures(runs: Sequence[RunResult]) -> dict[str, Figure]:
    """MAP of each task (own test images) at each stage as a heat map, one figure a method, one colour scale for all."""
    groups = group_by_method(runs)
    top, names = highest_map(groups), task_names(runs)
    return {method: _heat_map(method, group, mean_matrix(group), top, names) for method, group in groups.items()}


def _heat_map(method: str, group: Sequence[RunResult], matrix: np.ndarray, top: float, names: list[str]) -> Figure:
    stages, tasks = matrix.shape
    rows = [shortened(name, 14) for name in names]
    left = _left_margin(rows)
    size = (max(NARROW, left + 0.1 + 0.42 * (tasks + 1)), 1.05 + 0.36 * max(tasks, 2))
    figure, axes = _figure(matrix_title(method, group), size, left=left, bottom=0.45, right=0.1)
    for stage in range(stages):
        for task in range(tasks):
            _heat_cell(axes, stage, task, matrix[stage, task] / top, fraction(matrix[stage, task], 2), tasks)
    if in_sequence(group[0]):
        for task in range(tasks):
            axes.add_patch(_square(task + 1, task, facecolor="none", edgecolor=INK, linewidth=1.6))
    labels = _stage_labels(tasks) if in_sequence(group[0]) else ["before", "after all tasks"]
    axes.set_xticks(range(stages), labels)
    axes.set_yticks(range(tasks), rows)
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


def _stage_labels(tasks: int, start: str = "before") -> list[str]:
    return [start, *(str(task + 1) for task in range(tasks))]


@_styled()
def curve_figures(runs: Sequence[RunResult]) -> dict[str, Figure]:
    """MAP of one task (own test images) over the stages, a line a method: one figure a task, one scale for all."""
    groups = group_by_method(runs)
    top, names = highest_map(groups), task_names(runs)
    return {name: _curves(groups, task, names, top) for task, name in enumerate(names)}


def _curves(groups: Groups, task: int, names: list[str], top: float) -> Figure:
    tasks = len(names)
    longest = max(len(shortened(method_label(method), NAME_WIDTH)) for method in groups)
    right = 0.6 + 0.078 * longest  # mark, value and name beside the lines
    figure, axes = _figure(curve_title(groups, task), (WIDE, 2.9), left=0.42, bottom=0.48, right=right)
    axes.set(xlim=(-0.3, tasks + 0.1), ylim=(0, 1.06 * top))
    axes.axvline(task + 1, color=GRID, linewidth=5, zorder=0)
    ends = {}
    for method, style in method_styles(list(groups)).items():
        ends[method] = _curve(axes, groups[method], task, style)
    _end_labels(figure, axes, ends, method_styles(list(groups)), tasks, 1.06 * top)
    axes.set_xticks(range(tasks + 1), _stage_labels(tasks, start="before" if tasks <= 6 else "0"))
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


def _end_labels(
    figure: Figure, axes: Axes, ends: dict[str, float], styles: dict[str, Style], stage: int, top: float
) -> None:
    """Marks, last values and names beside the lines' ends, moved apart where they would touch."""
    from matplotlib.transforms import ScaledTranslation

    def moved(points: float) -> Any:
        return axes.transData + ScaledTranslation(points / 72, 0, figure.dpi_scale_trans)

    methods = sorted((method for method in ends if np.isfinite(ends[method])), key=ends.__getitem__)
    heights = spaced([ends[method] for method in methods], gap=min(0.085 * top, top / max(len(methods), 1)), top=top)
    for method, height in zip(methods, heights, strict=True):
        text = f"{fraction(ends[method], 2)} {shortened(method_label(method), NAME_WIDTH)}"
        axes.text(stage, height, text, fontsize=9.5, va="center", transform=moved(20))
        style = styles[method]
        marker, size = ("_", 9) if style.dash != "-" else (style.marker, 5)
        (mark,) = axes.plot(stage, height, marker, transform=moved(12), color=style.color, clip_on=False)
        mark.set(markersize=size, markeredgewidth=2)


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
def final_figure(runs: Sequence[RunResult]) -> Figure:
    """MAP over all facts and all test images at the end by method as bars, with error bars over runs."""
    title = final_title(group_by_method(runs))
    return _bars(comparison_rows(runs), "map_all", title, "MAP over all facts, all test images")


@_styled()
def forgetting_figure(runs: Sequence[RunResult]) -> Figure | None:
    """Mean forgetting by method as bars, with error bars over runs; None where no method has a forgetting."""
    rows = comparison_rows(runs)
    if not any(row["forgetting"] for row in rows):
        return None
    return _bars(rows, "forgetting", forgetting_title(rows), "MAP lost a task since its best")


def _bars(rows: Sequence[Row], measure: str, title: str, label: str) -> Figure:
    styles = method_styles([row["method"] for row in rows])
    rows = [row for row in rows if row[measure]]
    names = [shortened(method_label(row["method"]), 14) for row in rows]
    size = (NARROW, _bars_height(len(rows)))
    figure, axes = _figure(title, size, left=_left_margin(names), bottom=0.45, right=0.5)
    for index, row in enumerate(rows):
        _bar(axes, index, row[measure], styles[row["method"]])
    axes.set_yticks(range(len(rows)), names, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.grid(axis="x", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(label)
    _fraction_ticks(axes.xaxis)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _bars_height(bars: int) -> float:
    return 1.05 + 0.34 * max(bars, 3)


def _bar(axes: Axes, index: int, value: Spread, style: Style) -> None:
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
    """Share of the facts that reach an AP or more (last stage, all test images); None without APs.

    Lines of the two featured methods and of joint training only: more would hide each other.
    """
    groups = group_by_method(runs)
    aps = {method: np.sort(list(ap_by_fact(group).values())) for method, group in groups.items()}
    shown = [method for method in groups if method in (*featured(groups), UPPER_BOUND) and len(aps[method])]
    if not shown:
        return None
    figure, axes = _figure(
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
    _fraction_ticks(axes.xaxis)
    _fraction_ticks(axes.yaxis)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _reaching(axes: Axes, aps: np.ndarray, style: Style, label: str) -> None:
    """The share of the sorted APs that are at least x, for each x."""
    share = 1 - np.arange(len(aps) + 1) / len(aps)
    reached = np.concatenate([[0.0], aps])
    axes.step(reached, share, where="post", color=style.color, linestyle=style.dash, linewidth=style.width, label=label)
