"""Bars, lines and heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tripletcl.evaluation.result import Spread
from tripletcl.report.chart_style import (
    FILL,
    INK,
    MUTED,
    NARROW,
    PAPER,
    TITLE_POINTS,
    WIDE,
    WIDEST,
    Style,
    left_margin,
    method_styles,
    new_chart,
    number_ticks,
    short_name,
)
from tripletcl.report.formatting import shortened
from tripletcl.report.metric import Number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

CHARACTER, LABEL_HEIGHT = 0.08, 0.165
"""Inches of a character, and from one label at the end of a line to the next."""

PALE = 0.62
"""The opacity of a cell above which its number is pale."""


# --- bars ---


def bar_chart(title: str, label: str, values: Mapping[str, Spread], number: Number, tick: Number) -> Figure:
    """A horizontal bar for each method's mean, with its number and an error bar.

    Args:
        title: The figure's title.
        label: The x axis.
        values: By method.
        number: Writes a mean.
        tick: Writes a tick.
    """
    names = [short_name(method) for method in values]
    styles = method_styles(list(values))
    figure, axes = new_chart(title, (NARROW, bars_height(len(names))), left_margin(names), bottom=0.45, right=0.5)
    for row, (method, value) in enumerate(values.items()):
        std = value.std or 0.0
        alpha = 0.55 if styles[method].dash != "-" else 1.0
        axes.barh(row, value.mean, height=0.62, color=styles[method].color, alpha=alpha)
        if std:
            axes.errorbar(value.mean, row, xerr=std, color=INK, linewidth=1.2, capsize=3)
        _annotate(axes, number(value.mean), (max(value.mean + std, 0.0), row), (5, 0), va="center", weight="bold")
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set(ylim=(len(names) - 0.4, -0.6), xlabel=label)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.grid(axis="x")
    number_ticks(axes.xaxis, tick)
    return figure


def bars_height(bars: int) -> float:
    """Inches of a figure with this many horizontal bars."""
    return 1.05 + 0.34 * max(bars, 3)


def _annotate(axes: Axes, text: str, place: tuple[float, float], points: tuple[float, float], **look: Any) -> None:
    axes.annotate(text, place, xytext=points, textcoords="offset points", annotation_clip=False, **look)


@dataclass(frozen=True)
class Layout:
    """Measures of grouped bars in inches; groups are one unit of the x axis apart.

    Attributes:
        width: Of the figure.
        group: From one group to the next.
        bar: Of a bar.
        bars: The number of bars in a group.
    """

    width: float
    group: float
    bar: float
    bars: int

    LEFT, RIGHT, GAP, WIDTH, NUMBER, TURNED = 0.62, 0.15, 0.2, 0.36, 0.3, 0.085
    """The margins, the gap between groups, a bar where there is room, and the narrowest bars with a number above."""

    @classmethod
    def of(cls, names: Sequence[str], bars: int) -> Layout:
        """As wide as the bars and the groups' names need, between a figure's usual width and the widest."""
        margins, groups = cls.LEFT + cls.RIGHT, len(names)
        needed = max(bars * cls.WIDTH + cls.GAP, CHARACTER * (1 + max(map(len, names))))
        width = min(max(groups * needed + margins, WIDE), WIDEST)
        group = (width - margins) / groups
        return cls(width, group, min((group - min(cls.GAP, 0.3 * group)) / bars, 1.6 * cls.WIDTH), bars)

    @property
    def height(self) -> float:
        """Height of the axes."""
        return 1.9 if self.width < 1.5 * WIDE else 2.3

    @property
    def upright(self) -> bool:
        """True if a number fits above a bar; where not, it is turned by a quarter."""
        return self.bar >= self.NUMBER

    def place(self, group: int, bar: int) -> float:
        """The middle of a bar on the x axis."""
        return group + (bar - (self.bars - 1) / 2) * self.bar / self.group


def grouped_bars(
    title: str,
    label: str,
    values: Mapping[str, Sequence[Spread | None]],
    groups: Sequence[str],
    styles: Mapping[str, Style],
    number: Number,
    tick: Number,
) -> Figure:
    """Groups of vertical bars with error bars, and a legend below.

    Where the bars are too thin for numbers, only those of the last group have them, turned by a quarter.

    Args:
        title: The figure's title.
        label: The y axis.
        values: By method, or by another name in the legend, a value for each group; None has no bar.
        groups: The names of the groups.
        styles: The styles of the bars; a dashed style is an outline.
        number: Writes a mean.
        tick: Writes a tick.
    """
    groups = [shortened(name, 16) for name in groups]
    layout = Layout.of(groups, len(values))
    figure, axes = _grouped_axes(title, groups, list(values), layout)
    for bar, (name, heights) in enumerate(values.items()):
        for group, value in enumerate(heights):
            if value is not None:
                _bar(axes, layout.place(group, bar), value, styles[name], layout)
                if layout.upright or (group == len(groups) - 1 and layout.bar >= Layout.TURNED):
                    _bar_number(axes, layout.place(group, bar), value, number, layout)
    _limits(axes, values, len(groups) - 1, layout)
    axes.set_ylabel(label)
    number_ticks(axes.yaxis, tick, most=7)
    _legend(figure, styles, layout)
    return figure


def _grouped_axes(title: str, groups: Sequence[str], names: Sequence[str], layout: Layout) -> tuple[Figure, Axes]:
    fitting = int(layout.group / CHARACTER)
    slanted = max(map(len, groups)) > fitting
    below = 0.2 * (1.6 + _legend_shape(names, layout)[0]) + (0.75 if slanted else 0)
    size = (layout.width, layout.height + below + 0.55)
    figure, axes = new_chart(title, size, Layout.LEFT, below, Layout.RIGHT)
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    labels = [shortened(name, 14 if slanted else fitting) for name in groups]
    axes.set_xticks(range(len(groups)), labels, color=INK, **turned)
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.grid(axis="y")
    return figure, axes


def _bar(axes: Axes, place: float, value: Spread, style: Style, layout: Layout) -> None:
    axes.bar(place, value.mean, width=0.88 * layout.bar / layout.group, **_paint(style))
    if value.std:
        wide = layout.upright
        axes.errorbar(place, value.mean, yerr=value.std, color=INK, linewidth=1.2 if wide else 0.8, capsize=3 * wide)


def _bar_number(axes: Axes, place: float, value: Spread, number: Number, layout: Layout) -> None:
    look = {"fontsize": 8.5} if layout.upright else {"fontsize": min(8.5, 72 * layout.bar), "rotation": 90}
    top = max(value.mean + (value.std or 0.0), 0.0)
    _annotate(axes, number(value.mean), (place, top), (0, 3), ha="center", va="bottom", **look)


def _limits(axes: Axes, values: Mapping[str, Sequence[Spread | None]], last: int, layout: Layout) -> None:
    """From zero, or the lowest bar below, to the highest bar and the highest number."""
    known = [(group, v) for heights in values.values() for group, v in enumerate(heights) if v]
    low = min(0.0, *(value.mean - (value.std or 0.0) for _, value in known))
    tops = {group: max(v.mean + (v.std or 0.0) for g, v in known if g == group) for group, _ in known}
    numbered = max((top for group, top in tops.items() if layout.upright or group == last), default=0.0)
    room = (0.2 if layout.upright else 0.42) / layout.height
    span = max(max(0.0, *tops.values()) - low, (numbered - low) / (1 - room)) or 1.0
    axes.set_ylim(low - 0.03 * span * (low < 0), low + 1.02 * span)


def _paint(style: Style) -> dict[str, Any]:
    """Filled, or an outline where the style is dashed."""
    if style.dash == "-":
        return {"color": style.color}
    return {"facecolor": "none", "edgecolor": style.color, "linestyle": style.dash, "linewidth": 1.2}


def _legend(figure: Figure, styles: Mapping[str, Style], layout: Layout) -> None:
    from matplotlib.patches import Patch

    columns = _legend_shape(list(styles), layout)[1]
    handles = [Patch(label=short_name(name), **_paint(style)) for name, style in styles.items()]
    by_line = [handles[i] for column in range(columns) for i in range(column, len(handles), columns)]
    place = (Layout.LEFT / layout.width, 0.0)
    look = {"handlelength": 1.2, "borderaxespad": 0.2, "borderpad": 0.2}
    figure.legend(handles=by_line, loc="lower left", bbox_to_anchor=place, ncols=columns, **look)


def _legend_shape(names: Sequence[str], layout: Layout) -> tuple[int, int]:
    """Lines and columns of the legend."""
    longest = max(len(short_name(name)) for name in names)
    columns = min(max(int((layout.width - Layout.LEFT) / (0.5 + CHARACTER * longest)), 1), len(names))
    return -(-len(names) // columns), columns


# --- lines ---


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        mean: `[places]` the values; NaN where there is none.
        style: The method's style.
        std: `[places]` half the height of a shaded band around them.
        since: The line is faint before this place.
        level: True for a method without places: its last value is drawn as a dashed level.
    """

    mean: np.ndarray
    style: Style
    std: np.ndarray | None = None
    since: int = 0
    level: bool = False


def line_chart(
    title: str,
    lines: Mapping[str, Line],
    places: Sequence[float],
    ticks: Sequence[str],
    limits: tuple[float, float],
    number: Number,
) -> tuple[Figure, Axes]:
    """Lines over the places of the x axis, with their last values and names at their ends.

    Args:
        title: The figure's title.
        lines: By method.
        places: Where each value is on the x axis, ascending.
        ticks: What is written there.
        limits: The lowest and the highest value.
        number: Writes a value.
    """
    labels = {method: f"{number(line.mean[-1])} {short_name(method)}" for method, line in lines.items()}
    low, top = limits
    left = 0.42 if len(number(top)) <= 4 else 0.66  # room for the numbers of the ticks
    size = (WIDE, max(2.9, 1.2 + LABEL_HEIGHT * len(lines)))
    figure, axes = new_chart(title, size, left, bottom=0.48, right=0.45 + 0.078 * max(map(len, labels.values())))
    span = (places[-1] - places[0]) or 1.0
    axes.set(xlim=(places[0] - 0.07 * span, places[-1] + 0.025 * span), ylim=(low, low + 1.06 * (top - low)))
    for line in lines.values():
        _draw(axes, line, np.array(places))
    _label_ends(axes, lines, labels, places[-1])
    axes.set_xticks(places, ticks)
    axes.grid(axis="y")
    axes.spines["bottom"].set_visible(True)
    return figure, axes


def _draw(axes: Axes, line: Line, places: np.ndarray) -> None:
    mean, style, since = line.mean, line.style, line.since
    if line.level:
        axes.axhline(mean[-1], color=style.color, linestyle="--", linewidth=style.width)
        return
    axes.plot(places[: since + 1], mean[: since + 1], color=style.color, linewidth=1, alpha=0.45)
    size = 5 if style.width > 1.5 else 3.5
    look = {"marker": style.marker, "linewidth": style.width, "markersize": size, "zorder": 3}
    axes.plot(places[since:], mean[since:], color=style.color, **look)
    if line.std is not None:
        low, high = (mean - line.std)[since:], (mean + line.std)[since:]
        axes.fill_between(places[since:], low, high, color=style.color, alpha=0.16, linewidth=0)


def _label_ends(axes: Axes, lines: Mapping[str, Line], labels: Mapping[str, str], end: float) -> None:
    """Marks, last values and names right of the lines' ends, moved apart where they would touch."""
    extent, (first, last), (low, top) = axes.get_window_extent(), axes.get_xlim(), axes.get_ylim()
    point = (last - first) / (extent.width / axes.figure.dpi * 72)  # in the units of the x axis
    ends = {method: float(line.mean[-1]) for method, line in lines.items() if np.isfinite(line.mean[-1])}
    methods = sorted(ends, key=ends.__getitem__)
    gap = min(LABEL_HEIGHT / (extent.height / axes.figure.dpi), 1 / max(len(methods), 1)) * (top - low)
    for method, height in zip(methods, spaced([ends[m] for m in methods], gap=gap, top=top), strict=True):
        style = lines[method].style
        if abs(height - ends[method]) > 0.2 * gap:
            leader = ([end + 3 * point, end + 14 * point], [ends[method], height])
            axes.plot(*leader, color=MUTED, linewidth=0.5, alpha=0.7, clip_on=False)
        marker, size = ("_", 9) if lines[method].level else (style.marker, 5)
        look = {"marker": marker, "markersize": size, "markeredgewidth": 2, "clip_on": False}
        axes.plot(end + 19 * point, height, color=style.color, **look)
        axes.text(end + 26 * point, height, labels[method], fontsize=9.5, va="center")


def spaced(values: Sequence[float], gap: float, top: float) -> list[float]:
    """Sorted heights moved up as little as keeps them `gap` apart, then down as far as `top` demands."""
    heights = list(values)
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    for index in reversed(range(len(heights))):
        above = heights[index + 1] - gap if index + 1 < len(heights) else top
        heights[index] = min(heights[index], above)
    return heights


# --- heat maps ---


def heat_map(
    title: str,
    matrix: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    top: float,
    number: Number,
    small: bool = False,
) -> tuple[Figure, Axes]:
    """A matrix as cells of one colour, more opaque where the value is higher, with the values in them.

    Args:
        title: The figure's title.
        matrix: `[rows, columns]`, NaN where there is no value.
        rows: The names of the rows.
        columns: The names of the columns.
        top: The value of the strongest colour, so that figures have one scale.
        number: Writes a value; not written in the cells of many rows.
        small: True for one of many figures.
    """
    rows = [shortened(name, 14) for name in rows]
    points, cell, written = (7.5, 0.22, 6) if small else (10, 0.36, 12)
    left = 0.24 if small else left_margin(rows)
    width = 2.05 if small else max(NARROW, left + 0.1 + 0.42 * max(len(columns), len(rows) + 1))
    size = (width, (0.8 if small else 1.05) + cell * max(len(rows), 2))
    figure, axes = new_chart(title, size, left, 0.24 if small else 0.45, 0.1, 8.5 if small else TITLE_POINTS)
    for (row, column), value in np.ndenumerate(matrix):
        strength = heat_strength(value / top)
        axes.add_patch(heat_cell(row, column, facecolor=FILL, alpha=strength, linewidth=0))
        if len(rows) <= written:
            look = {"color": PAPER if strength > PALE else INK, "fontsize": points if len(rows) <= 6 else 0.75 * points}
            axes.text(column, row, number(value), ha="center", va="center", **look)
    axes.set_xticks(range(len(columns)), columns, fontsize=points)
    axes.set_yticks(range(len(rows)), rows, fontsize=points)
    axes.set(xlim=(-0.5, len(columns) - 0.5), ylim=(len(rows) - 0.5, -0.5))
    return figure, axes


def heat_strength(share: float) -> float:
    """The opacity of a cell, stronger where the share of the highest value is higher."""
    return 0.05 + 0.95 * min(max(float(np.nan_to_num(share)), 0.0), 1.0)


def heat_cell(row: int, column: int, **look: Any) -> Rectangle:
    """The rectangle of a cell of a heat map."""
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.47, row - 0.45), 0.94, 0.9, **look)
