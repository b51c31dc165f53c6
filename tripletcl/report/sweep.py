"""One method over its weight lam: what it ends with and what it forgets, between finetune and joint training."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.errors import UserError
from tripletcl.evaluation.result import LOWER_BOUND, RunResult, Spread
from tripletcl.report.drawing import (
    GRID,
    WIDE,
    Style,
    method_styles,
    number_ticks,
    spaced,
    styled,
    titled_figure,
)
from tripletcl.report.formatting import method_label, shortened
from tripletcl.report.grouping import check_one_sequence
from tripletcl.report.metric import Metric, metric_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOLERANCE = 0.01
"""A lam is as good as the best where its score is no further below: one point of accuracy, .01 of MAP."""

UPPER, LOWER, BETWEEN = 1.75, 1.05, 0.14
"""Inches: heights of the two panels and from one to the other."""

LEFT, BELOW = 0.62, 0.5
"""Inches left of and below the panels."""

LABEL_INCHES, NAME_WIDTH = 0.165, 10
"""From one label to the next, and the characters of a name in it."""

TICKS = 8
"""At most so many values of lam are written below the axis."""

Values = dict[float, Spread]
"""Of each lam, ascending, or of its place on the axis, what its runs measured; without those that lack it."""


def flat_range(means: Mapping[float, float], tolerance: float) -> tuple[float, float]:
    """The widest stretch of neighbouring values around the best whose means are within the tolerance of its mean.

    Args:
        means: Of each value tried its mean score; higher is better. Of equal bests the lowest value counts.
        tolerance: How far below the best a mean may be; one just that far below counts.

    Returns:
        The lowest and the highest value of the stretch; the best twice where its neighbours are worse.

    Raises:
        UserError: no values.
    """
    if not means:
        raise UserError("a range of values needs at least one value, and none was given")
    values = sorted(means)
    best = max(values, key=means.__getitem__)
    enough = means[best] - tolerance - 1e-12  # differences of fractions are not exact
    at = values.index(best)
    below = list(itertools.takewhile(lambda value: means[value] >= enough, reversed(values[:at])))
    above = list(itertools.takewhile(lambda value: means[value] >= enough, values[at + 1 :]))
    return (below or [best])[-1], (above or [best])[-1]


@styled()
def sweep_figure(
    method: str, runs: Mapping[float, Sequence[RunResult]], levels: Mapping[str, Sequence[RunResult]]
) -> Figure:
    """The overall score at the end, and below it the mean drop of the earlier tasks, over lam; the best is ringed.

    Shaded are the lams around the best whose score is within a point of its own (`TOLERANCE`). Lam 0, where it was
    tried, stands apart on the left, for it has no place on a logarithmic axis; it is a level where finetune is none.

    Args:
        method: The method's name.
        runs: Of each lam its runs, seeds or splits; the band is one standard deviation over them.
        levels: The runs of methods without a lam, such as finetune and joint, drawn as dashed levels.

    Raises:
        UserError: no runs, none with a score, a negative lam, or runs of several sequences or metrics.
    """
    metric = _check(method, runs, levels)
    if LOWER_BOUND not in levels and 0 in runs:
        levels = {"lam 0": runs[0], **levels}
    scores, drops = _by_lam(runs, _score), _by_lam(runs, _drop)
    if not scores:
        raise UserError(f"no run of the sweep of {method} has a score at its end")
    means = {lam: spread.mean for lam, spread in scores.items()}
    best, flat = max(means, key=means.__getitem__), flat_range(means, TOLERANCE)
    longest = max(len(_name(method)), *(len(_name(name)) + len(" 64.5") for name in levels), 0)
    figure, panels = _panels(_title(method, means, flat, metric), 2 if drops else 1, right=0.35 + 0.08 * longest)
    styles = method_styles([*levels, method])
    places = _places(scores)
    for axes, values, measure in zip(panels, (scores, drops), (_score, _drop), strict=False):
        _draw(axes, values, places, styles[method])
        axes.axvspan(places[flat[0]] / 1.15, places[flat[1]] * 1.15, color=GRID, alpha=0.6, linewidth=0, zorder=0)
        ends = {name: spread.mean for name, group in levels.items() if (spread := measure(group)) is not None}
        _finish(axes, places, metric)
        _label(axes, method, list(values.values())[-1].mean, ends, styles, metric)
    _ring(panels[0], places[best], means[best], styles[method])
    panels[0].set_ylabel(f"{metric.name},{metric.unit}" if metric.unit else metric.name)
    panels[-1].set_xlabel("lam")
    if drops:
        panels[1].set_ylabel(f"{metric.points.strip() or metric.name} lost")
    return figure


def _check(method: str, runs: Mapping[float, Sequence[RunResult]], levels: Mapping[str, Sequence[RunResult]]) -> Metric:
    """What the runs were measured in; their tasks are the same."""
    if wrong := [lam for lam, group in runs.items() if lam < 0 or not math.isfinite(lam) or not group]:
        raise UserError(f"lam {wrong[0]:g} of the sweep of {method} is negative, infinite or without runs")
    if not runs:
        raise UserError(f"a sweep of {method} needs the runs of at least one lam, and none were given")
    everything = [run for group in (*runs.values(), *levels.values()) for run in group]
    check_one_sequence(everything)
    return metric_of(everything)


def _by_lam(
    runs: Mapping[float, Sequence[RunResult]], measure: Callable[[Sequence[RunResult]], Spread | None]
) -> Values:
    return {lam: spread for lam in sorted(runs) if (spread := measure(runs[lam])) is not None}


def _score(group: Sequence[RunResult]) -> Spread | None:
    return Spread.of([run.final for run in group])


def _drop(group: Sequence[RunResult]) -> Spread | None:
    """Mean over the earlier tasks of what each lost since it was learned."""
    return Spread.of([None if (gain := run.backward_transfer) is None else -gain for run in group])


def _title(method: str, means: Mapping[float, float], flat: tuple[float, float], metric: Metric) -> str:
    """`MAS is flat from lam 1 to 30: within 1 point of its best, 94.1 %`."""
    best = max(means, key=means.__getitem__)
    name, value = shortened(method_label(method), 30), metric.brief(means[best]) + metric.unit
    near = "1 point" if metric.points else metric.short(TOLERANCE)
    if flat[0] < flat[1]:
        return f"{name} is flat from lam {flat[0]:g} to {flat[1]:g}: within {near} of its best, {value}"
    if len(means) == 1:
        return f"{name} with lam {best:g}: {value}"
    return f"{name} is best at lam {best:g}, {value}: its neighbours are more than {near} below"


CROWDED, CROWDED_SIZE = 16, 7.5
"""Characters of all labels of the x axis from which on they are set smaller, and the size."""


def _name(method: str) -> str:
    return shortened(method_label(method), NAME_WIDTH)


def _panels(title: str, count: int, right: float) -> tuple[Figure, list[Axes]]:
    """One panel, or two with one x axis."""
    from matplotlib.ticker import NullLocator

    panels = UPPER + (BETWEEN + LOWER) * (count - 1)
    figure, upper = titled_figure(title, (WIDE, BELOW + panels + 0.62), left=LEFT, bottom=BELOW, right=right)
    axes = [upper]
    if count > 1:
        left, bottom, width, height = upper.get_position().bounds
        lower = height * LOWER / panels
        upper.set_position((left, bottom + height * (LOWER + BETWEEN) / panels, width, height * UPPER / panels))
        axes.append(figure.add_axes((left, bottom, width, lower), facecolor="none", sharex=upper))
        upper.tick_params(labelbottom=False)
    upper.set_xscale("log")
    upper.xaxis.set_minor_locator(NullLocator())
    return figure, axes


def _places(lams: Collection[float]) -> dict[float, float]:
    """Where each lam stands on the logarithmic axis: at itself, and 0 as far below the others as is plainly apart."""
    known = sorted(lam for lam in lams if lam > 0) or [1.0]
    apart = max((known[-1] / known[0]) ** 0.15, 2.0)
    return {lam: lam or known[0] / apart for lam in sorted(lams)}


def _draw(axes: Axes, values: Values, places: Mapping[float, float], style: Style) -> None:
    """The line and its band; lam 0 is a point of its own."""
    points = [(places[lam], spread.mean, spread.std or 0.0) for lam, spread in values.items()]
    line = np.array([point for lam, point in zip(values, points, strict=True) if lam > 0]).reshape(-1, 3).T
    axes.plot(line[0], line[1], style.marker, color=style.color, linestyle="-", linewidth=style.width, zorder=3)
    axes.fill_between(line[0], line[1] - line[2], line[1] + line[2], color=style.color, alpha=0.16, linewidth=0)
    if 0 in values:
        place, mean, std = points[0]
        axes.errorbar(place, mean, yerr=std or None, fmt=style.marker, color=style.color, linewidth=1.2, capsize=3)


def _finish(axes: Axes, places: Mapping[float, float], metric: Metric) -> None:
    step = -(-len(places) // TICKS)
    shown = list(places)[::step]
    labels = [f"{lam:g}".removeprefix("0") or "0" for lam in shown]  # as fractions are written everywhere here
    small = {"fontsize": CROWDED_SIZE} if sum(map(len, labels)) > CROWDED else {}
    axes.set_xticks([places[lam] for lam in shown], labels, **small)
    axes.grid(axis="y", linewidth=0.6)
    number_ticks(axes.yaxis, metric.tick)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _label(
    axes: Axes, method: str, last: float, levels: Mapping[str, float], styles: Mapping[str, Style], metric: Metric
) -> None:
    """Dashed levels, with names and numbers right of the panel, and the method's name at its line's end."""
    for name, value in levels.items():
        axes.axhline(value, color=styles[name].color, linestyle="--", linewidth=1.8)
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.04 * (high - low), high + 0.1 * (high - low))
    low, high = axes.get_ylim()
    ends = sorted([(value, name) for name, value in levels.items()] + [(last, method)])
    inches = axes.get_window_extent().height / axes.figure.dpi
    heights = spaced([value - low for value, _ in ends], gap=LABEL_INCHES / inches * (high - low), top=high - low)
    right = axes.get_yaxis_transform()  # x in parts of the panel, y in scores
    for (value, name), height in zip(ends, heights, strict=True):
        style, text = styles[name], _name(name)
        mark = {"marker": style.marker if name == method else "_", "color": style.color, "markeredgewidth": 2}
        axes.plot(1.05, low + height, transform=right, markersize=5 if name == method else 9, clip_on=False, **mark)
        text = text if name == method else f"{metric.brief(value)} {text}"
        axes.text(1.1, low + height, text, transform=right, fontsize=9.5, va="center")


def _ring(axes: Axes, place: float, value: float, style: Style) -> None:
    ring = {"markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.6}
    axes.plot(place, value, "o", color=style.color, zorder=4, **ring)
