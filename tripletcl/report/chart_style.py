"""Colours and marks of the methods, and the look of every figure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tripletcl.evaluation.result import UPPER_BOUND
from tripletcl.report.formatting import method_label, shortened
from tripletcl.report.metric import Number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, MUTED, GRID, PAPER, FILL = "#1f2431", "#5b6473", "#dde1e8", "#fffffe", "#0b4fb5"
"""Colours of a light page; the style sheet inverts the figures in dark mode."""

NAMED = {"finetune": "#d1500f", "mas": "#1257c9", "joint": "#717a88", "frozen": "#b0b7c2"}
OTHERS = (
    *("#3ab388", "#30058b", "#dba205", "#4a2305", "#76adfa", "#466312"),
    *("#ad62fa", "#eb91e8", "#055848", "#de445b", "#83c857", "#882881"),
)
"""Colours that differ in lightness too, for readers who confuse red and green; also when they are inverted."""

MARKERS = "osD^vPX*"

NARROW, WIDE, WIDEST = 3.6, 4.2, 11.0
"""Widths of figures in inches: three or two fit in the width of a page, and a phone shows them at about full size."""

MANY = 6
"""The lines of more methods than this are thinner, their heat maps smaller."""

TITLE_POINTS, TITLE_DENSITY = 10.5, 11.9
"""The size of a title, and how many of its characters fit in an inch, in a wide font."""

NAME_WIDTH = 16
"""Most characters of a name in a figure."""

STYLE = {
    "font.size": 10,
    "text.parse_math": False,  # a method or task may be called `$x$`
    "text.color": INK,
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.5,
    **{f"axes.spines.{side}": False for side in ("top", "right", "bottom", "left")},
    **{f"{axis}tick.{key}": value for axis in "xy" for key, value in (("color", MUTED), ("labelsize", 9.5))},
    **{f"{axis}tick.major.size": 0 for axis in "xy"},
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "legend.labelcolor": INK,
}


@dataclass(frozen=True)
class Style:
    """The look of a method, the same in every figure."""

    color: str
    marker: str
    dash: str = "-"
    width: float = 1.8


_palette: ContextVar[tuple[str, ...]] = ContextVar("palette", default=())


@contextmanager
def palette(methods: Sequence[str]) -> Iterator[None]:
    """Give methods the colours that they have among all of these, also where a figure shows only a few of them."""
    token = _palette.set(tuple(methods))
    try:
        yield
    finally:
        _palette.reset(token)


def method_styles(methods: Sequence[str]) -> dict[str, Style]:
    """Styles of the methods: finetune warm, MAS strong blue, joint grey and dashed, frozen light, others in order."""
    known = [*_palette.get(), *(method for method in methods if method not in _palette.get())]
    unnamed = [method for method in known if method not in NAMED]
    colors = {method: OTHERS[index % len(OTHERS)] for index, method in enumerate(unnamed)} | NAMED
    width = 1.8 if len(known) <= MANY else 1.3
    return {
        method: Style(
            colors[method],
            MARKERS[index % len(MARKERS)],
            dash="--" if method == UPPER_BOUND else "-",
            width=2.6 if method == "mas" else width,
        )
        for index, method in enumerate(known)
        if method in methods
    }


@contextmanager
def styled() -> Iterator[None]:
    """Set the style that every figure is drawn in; also a decorator."""
    import matplotlib

    with matplotlib.rc_context(STYLE):
        yield


def new_chart(
    title: str, size: tuple[float, float], left: float, bottom: float, right: float, points: float = TITLE_POINTS
) -> tuple[Figure, Axes]:
    """A figure and its axes, size and margins in inches, with a left-aligned title of at most two lines above."""
    from matplotlib.figure import Figure

    width, height = size
    lines = textwrap.wrap(title, int(TITLE_DENSITY * (width - 0.2) * TITLE_POINTS / points))[:2]
    top = 0.26 + 0.018 * points * len(lines)
    figure = Figure(figsize=size, facecolor="none", label=" ".join(title.split()))
    box = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    axes = figure.add_axes(box, facecolor="none")
    place = (0.1 / width, 1 - 0.08 / height)
    figure.text(*place, "\n".join(lines), fontsize=points, weight="bold", va="top", linespacing=1.25)
    return figure, axes


def left_margin(labels: Sequence[str]) -> float:
    """Inches that the longest label left of the axes takes."""
    return 0.3 + 0.082 * max(map(len, labels))


def number_ticks(axis: Axis, text: Number, most: int = 5) -> None:
    """A few round ticks, written by `text`."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(lambda value, _: text(value))


def short_name(method: str) -> str:
    """A method's name as figures write it."""
    return shortened(method_label(method), NAME_WIDTH)
