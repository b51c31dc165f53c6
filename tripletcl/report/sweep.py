"""One method over its weight lam: its score at the end and what it forgets, compared with finetune and joint."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.errors import UserError
from tripletcl.evaluation.result import LOWER_BOUND, RunResult, Spread
from tripletcl.report.chart_style import GRID, method_styles, number_ticks, short_name, styled
from tripletcl.report.charts import Line, line_chart
from tripletcl.report.grouping import check_one_sequence, spread_of
from tripletcl.report.metric import Metric, metric_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TOLERANCE = 0.01
"""A lam is as good as the best where its score is no further below: one point of accuracy, .01 of MAP."""

TICKS = 8
"""Most values of lam that are written below the axis."""

ByLam = Mapping[float, Sequence[RunResult]]
"""The runs of each lam."""


def flat_range(means: Mapping[float, float], tolerance: float) -> tuple[float, float]:
    """The widest range of neighbouring values around the best whose means are within the tolerance of its mean.

    Args:
        means: The mean score of each value; higher is better. Of equal bests the lowest value counts.
        tolerance: How far below the best a mean may be, inclusive.

    Returns:
        The lowest and the highest value of the range; the best twice where its neighbours are worse.

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
def sweep_figures(method: str, runs: ByLam, levels: Mapping[str, Sequence[RunResult]]) -> list[Figure]:
    """The overall score at the end over lam, and the mean drop of the earlier tasks where there are any.

    The best lam is ringed. Lams around the best whose score is within a point of its own (`TOLERANCE`) are shaded. Lam
    0, where it was tried, is left of the others, for it has no place on a logarithmic axis; the line to it is faint.

    Args:
        method: The method's name.
        runs: The runs of each lam, seeds or splits; the band is one standard deviation over them.
        levels: The runs of methods without a lam, such as finetune and joint, drawn as dashed levels.

    Raises:
        UserError: no runs, none with a score, a negative lam, or runs of several sequences or metrics.
    """
    metric = _check(method, runs, levels)
    if LOWER_BOUND not in levels and 0 in runs:
        levels = {"lam 0": runs[0], **levels}
    scores, drops = _by_lam(runs, "final"), _by_lam(runs, "drop")
    if not scores:
        raise UserError(f"no run of the sweep of {method} has a score at its end")
    means = {lam: spread.mean for lam, spread in scores.items()}
    places, figures = _places(scores), []
    first, last = (places[lam] for lam in flat_range(means, TOLERANCE))
    for title, values, name in ((metric.title, scores, "final"), ("Mean drop", drops, "drop")):
        if values:
            ends = {other: end.mean for other, group in levels.items() if (end := spread_of(group, name))}
            figure, axes = _chart(f"{title} over lam: {short_name(method)}", method, values, places, ends, metric)
            axes.axvspan(first - 0.06, last + 0.06, color=GRID, alpha=0.6, linewidth=0, zorder=0)
            figures.append(figure)
    best = max(means, key=means.__getitem__)
    ring = {"markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.6, "zorder": 4, "clip_on": False}
    color = method_styles([*levels, method])[method].color
    figures[0].axes[0].plot(places[best], means[best], "o", color=color, **ring)
    return figures


def _check(method: str, runs: ByLam, levels: Mapping[str, Sequence[RunResult]]) -> Metric:
    """The metric of the runs; their tasks are the same."""
    if wrong := [lam for lam, group in runs.items() if lam < 0 or not math.isfinite(lam) or not group]:
        raise UserError(f"lam {wrong[0]:g} of the sweep of {method} is negative, infinite or without runs")
    if not runs:
        raise UserError(f"a sweep of {method} needs the runs of at least one lam, and none were given")
    everything = [run for group in (*runs.values(), *levels.values()) for run in group]
    check_one_sequence(everything)
    return metric_of(everything)


def _by_lam(runs: ByLam, name: str) -> dict[float, Spread]:
    """The mean of a number of the runs for each lam, ascending; without those that lack it."""
    return {lam: spread for lam in sorted(runs) if (spread := spread_of(runs[lam], name))}


def _chart(
    title: str,
    method: str,
    values: Mapping[float, Spread],
    places: Mapping[float, float],
    levels: Mapping[str, float],
    metric: Metric,
) -> tuple[Figure, Axes]:
    """A number of a method over lam, and the same number of other methods as levels."""
    styles = method_styles([*levels, method])
    means = np.array([spread.mean for spread in values.values()])
    stds = np.array([spread.std or 0.0 for spread in values.values()])
    lines = {other: Line(np.array([level]), styles[other], level=True) for other, level in levels.items()}
    lines[method] = Line(means, styles[method], stds, since=1 if 0 in values and len(values) > 1 else 0)
    low, top = min([*(means - stds), *levels.values()]), max([*(means + stds), *levels.values()])
    limits = (low - 0.06 * (top - low), top) if top > low else (low - 0.01, low + 0.01)
    step = -(-len(values) // TICKS)
    texts = [f"{lam:g}".removeprefix("0") or "0" for lam in values]  # without leading zeros, as everywhere
    ticks = ["" if index % step else text for index, text in enumerate(texts)]
    figure, axes = line_chart(title, lines, [places[lam] for lam in values], ticks, limits, metric.brief)
    axes.set_xlabel("lam")
    axes.tick_params(axis="x", labelsize=7.5 if sum(map(len, ticks)) > 16 else 9.5)
    number_ticks(axes.yaxis, metric.tick)
    return figure, axes


def _places(lams: Collection[float]) -> dict[float, float]:
    """The position of each lam on the axis: at its logarithm, and 0 left of the others."""
    known = sorted(lam for lam in lams if lam > 0) or [1.0]
    low, high = math.log10(known[0]), math.log10(known[-1])
    return {lam: math.log10(lam) if lam else low - max(0.15 * (high - low), 0.3) for lam in sorted(lams)}
