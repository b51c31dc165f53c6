"""What all pictures share: the methods' colours and marks, titles, margins and ticks."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tripletcl.evaluation.result import UPPER_BOUND
from tripletcl.report.formatting import fraction_tick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER, FILL = "#1f2431", "#5b6473", "#dde1e8", "#fffffe", "#0b4fb5"
"""Of a light page; the style sheet inverts the figures in dark mode."""

NAMED = {"finetune": "#d1500f", "mas": "#1257c9", "joint": "#717a88", "frozen": "#b0b7c2"}
OTHERS = (
    *("#3ab388", "#30058b", "#dba205", "#4a2305", "#76adfa", "#466312"),
    *("#ad62fa", "#eb91e8", "#055848", "#de445b", "#83c857", "#882881"),
)
"""Colours that differ in lightness too, for readers who confuse red and green; also when they are inverted."""

MARKERS = "osD^vPX*"

NARROW, WIDE = 3.6, 4.2
"""Widths of a figure in inches: three or two stand abreast on a page, and a phone shows them at about full size."""

MANY = 6
"""More methods than this are drawn smaller and thinner."""

TITLE_POINTS, TITLE_DENSITY = 10.5, 11.9
"""A title's size, and how many of its characters fit in an inch, in a wide font."""

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


_palette: ContextVar[tuple[str, ...]] = ContextVar("palette", default=())


@contextmanager
def palette(methods: Sequence[str]) -> Iterator[None]:
    """Inside it methods have the colours that they have among all of these, also where a picture shows but a few."""
    token = _palette.set(tuple(methods))
    try:
        yield
    finally:
        _palette.reset(token)


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """Colours of the methods: finetune warm, MAS strong blue, joint grey and dashed, frozen light, others in order."""
    everything = [*_palette.get(), *(method for method in methods if method not in _palette.get())]
    return {method: style for method, style in _styles(everything).items() if method in methods}


def _styles(methods: Sequence[str]) -> dict[str, Style]:
    unnamed = [method for method in methods if method not in NAMED]
    colors = {method: OTHERS[index % len(OTHERS)] for index, method in enumerate(unnamed)} | NAMED
    width = 1.8 if len(methods) <= MANY else 1.3
    return {
        method: Style(
            colors[method],
            MARKERS[index % len(MARKERS)],
            dash="--" if method == UPPER_BOUND else "-",
            width=2.6 if method == "mas" else width,
        )
        for index, method in enumerate(methods)
    }


@contextmanager
def styled() -> Iterator[None]:
    """Everything is drawn inside it; also a decorator."""
    import matplotlib

    with matplotlib.rc_context(RC):
        yield


def titled_figure(
    title: str, size: tuple[float, float], left: float, bottom: float, right: float, points: float = TITLE_POINTS
) -> tuple[Figure, Axes]:
    """A figure and its axes, size and margins in inches, with a left-aligned title of up to two lines above."""
    from matplotlib.figure import Figure

    width, height = size
    lines = title_lines(title, width, points)
    top = 0.26 + 0.018 * points * len(lines)
    figure = Figure(figsize=size, facecolor="none", label=" ".join(title.split()))
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes = figure.add_axes(box, facecolor="none")
    place = (0.1 / width, 1 - 0.08 / height)
    figure.text(*place, "\n".join(lines), fontsize=points, weight="bold", va="top", linespacing=1.25)
    return figure, axes


def title_lines(title: str, width: float, points: float = TITLE_POINTS) -> list[str]:
    """The title in at most two lines of about the same length; a line break in it is kept, `61.9 → 58.2 %` unparted."""
    fits = int(TITLE_DENSITY * (width - 0.2) * TITLE_POINTS / points)
    if "\n" in title:
        return [line[:fits] for line in title.split("\n")[:2]]
    title = re.sub(r" (?=%)|(?<=\d) (?=→)|(?<=→) (?=\.?\d)", "\N{NO-BREAK SPACE}", title)
    lines = textwrap.wrap(title, fits)
    while len(lines) == 2 and len(narrower := textwrap.wrap(title, max(map(len, lines)) - 1)) == 2:
        lines = narrower
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines[:2]]


def left_margin(labels: Sequence[str]) -> float:
    """Inches that the longest label left of the axes takes."""
    return 0.3 + 0.082 * max(map(len, labels))


def spaced(values: Sequence[float], gap: float, top: float) -> list[float]:
    """Sorted heights moved up as little as keeps them `gap` apart, then down as far as `top` demands."""
    heights = list(values)
    for index in range(1, len(heights)):
        heights[index] = max(heights[index], heights[index - 1] + gap)
    for index in reversed(range(len(heights))):
        above = heights[index + 1] - gap if index + 1 < len(heights) else top
        heights[index] = min(heights[index], above)
    return heights


def fraction_ticks(axis: Axis) -> None:
    """A few round ticks, without leading zeros."""
    number_ticks(axis, fraction_tick)


def number_ticks(axis: Axis, text: Callable[[float], str]) -> None:
    """A few round ticks, written as told."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: text(value))
