"""What becomes of each task of a sequence, as bars (Aljundi et al., ECCV 2018, figure 5): its score, and its drop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tripletcl.evaluation.result import RunResult, Spread
from tripletcl.report.drawing import INK, MUTED, WIDE, Style, method_styles, number_ticks, styled, titled_figure
from tripletcl.report.formatting import counted, method_label, shortened
from tripletcl.report.grouping import CONTROLS, Groups, check_one_sequence, group_by_method, task_names
from tripletcl.report.metric import METRICS, Metric

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AVERAGE = "average"

NAME_WIDTH = 16
"""Characters of a task's name, and of a method's in the legend."""

WIDEST, BAR, GAP = 11.0, 0.36, 0.2
"""Inches: the widest figure, a bar where there is room, and from one group of bars to the next."""

LEFT, RIGHT, HEIGHT, TALL = 0.62, 0.15, 1.9, 2.3
"""Inches left and right of the axes, and their height, also that of a wide figure's."""

UPRIGHT, TURNED = 0.3, 0.085
"""Inches of a bar that bears its number; and of one that bears it turned by a quarter, above the average alone."""

CHARACTER, LINE = 0.08, 0.2
"""Inches of a character, and of a line of text, below the axes."""

Values = dict[str, list[Spread | None]]
"""Each method's numbers: of the tasks shown, then of their average."""


@dataclass(frozen=True)
class Layout:
    """Where bars stand: groups one unit of the x axis apart, in inches `group` wide, with `bar` for each bar."""

    width: float
    group: float
    bar: float

    @classmethod
    def of(cls, names: Sequence[str], bars: int) -> Layout:
        """As wide as its bars and the groups' names need, between a figure's usual width and the widest."""
        margins, groups = LEFT + RIGHT, len(names)
        needed = max(bars * BAR + GAP, CHARACTER * (1 + max(map(len, names))))
        width = min(max(groups * needed + margins, WIDE), WIDEST)
        group = (width - margins) / groups
        return cls(width, group, min((group - min(GAP, 0.3 * group)) / bars, 1.6 * BAR))

    @property
    def height(self) -> float:
        """Inches."""
        return HEIGHT if self.width < 1.5 * WIDE else TALL

    def bears(self, turned: bool) -> bool:
        """Is a bar wide enough for its number, or for its number turned by a quarter?"""
        return self.bar >= (TURNED if turned else UPRIGHT)

    def place(self, group: int, bar: int, bars: int) -> float:
        """The middle of a bar on the x axis."""
        return group + (bar - (bars - 1) / 2) * self.bar / self.group


@styled()
def scores_figure(runs: Sequence[RunResult]) -> Figure | None:
    """The score of every task at the end, and their average: a bar a method, joint training an outline.

    Args:
        runs: Of one sequence; error bars are one standard deviation over a method's runs.

    Returns:
        The figure, wider than others where there are many bars; None where there is one task, or where no method
        learned in sequence.

    Raises:
        UserError: no runs, or runs of several sequences.
    """
    if (groups := _groups(runs)) is None:
        return None
    names, metric = task_names(runs), METRICS[runs[0].metric]
    values: Values = {
        method: [
            *(Spread.of([run.scores[task] for run in group]) for task in range(len(names))),
            Spread.of([run.mean_score for run in group]),
        ]
        for method, group in groups.items()
    }
    figure, axes = _bars(_scores_title(values, len(names), metric), values, [*names, AVERAGE], metric)
    axes.set_ylabel(f"{metric.name},{metric.unit}" if metric.unit else metric.name)
    return figure


@styled()
def drops_figure(runs: Sequence[RunResult]) -> Figure | None:
    """What every task but the last lost since just after it was learned, and the average: a bar a method.

    Arguments, what is returned and what is raised are those of `scores_figure`.
    """
    if (groups := _groups(runs)) is None:
        return None
    names, metric = task_names(runs)[:-1], METRICS[runs[0].metric]
    values: Values = {
        method: [
            *(Spread.of([run.drops[task] for run in group]) for task in range(len(names))),
            Spread.of([None if (gain := run.backward_transfer) is None else -gain for run in group]),
        ]
        for method, group in groups.items()
        if group[0].in_sequence
    }
    shown = [*names, AVERAGE] if len(names) > 1 else names  # the average of one task is its own drop
    figure, axes = _bars(_drops_title(values, names, metric), values, shown, metric)
    axes.set_ylabel(f"{metric.points.strip() or metric.name} lost")
    return figure


def _groups(runs: Sequence[RunResult]) -> Groups | None:
    """The runs by method; None where nothing can be forgotten."""
    groups = group_by_method(runs)
    check_one_sequence(runs)
    learned = any(run.in_sequence for run in runs)
    return groups if learned and len(runs[0].tasks) > 1 else None


def _scores_title(values: Mapping[str, list[Spread | None]], tasks: int, metric: Metric) -> str:
    """`After 8 tasks, MAS has 62.1 % on average, finetune 45.0 %`: the best and the worst that go on learning."""
    known = _averages(values)
    if not known:
        return f"After {counted(tasks, 'task')}"
    best, worst = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    title = f"After {counted(tasks, 'task')}, {method_label(best)} has {_level(known[best], metric)} on average"
    return title if best == worst else f"{title}, {method_label(worst)} {metric.short(known[worst])}{metric.unit}"


def _drops_title(values: Mapping[str, list[Spread | None]], names: Sequence[str], metric: Metric) -> str:
    """`finetune loses 9.6 points on flowers, MAS 0.8`: the most and the least of those that go on learning."""
    known = _averages(values)
    if not known:
        return "What each task lost"
    most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    where = f"on {shortened(names[0], 24)}" if len(names) == 1 else "a task"
    if known[most] <= 0:
        return f"No method forgets; {method_label(least)} gains most, {_amount(-known[least], metric)} {where}"
    title = f"{method_label(most)} loses {_amount(known[most], metric)} {where}"
    return title if most == least else f"{title}, {method_label(least)} {metric.brief(known[least])}"


def _level(score: float, metric: Metric) -> str:
    """`62.1 %`, or `MAP .62`."""
    return f"{'' if metric.unit else 'MAP '}{metric.short(score)}{metric.unit}"


def _amount(drop: float, metric: Metric) -> str:
    """`9.6 points`, or `.096`."""
    return metric.brief(drop) + metric.points


def _averages(values: Mapping[str, list[Spread | None]]) -> dict[str, float]:
    """The methods' averages, those of the controls only where there are no others."""
    known = {method: bars[-1].mean for method, bars in values.items() if bars[-1]}
    return {method: value for method, value in known.items() if method not in CONTROLS} or known


def _bars(title: str, values: Values, names: Sequence[str], metric: Metric) -> tuple[Figure, Axes]:
    """Groups of bars under the names, the methods in a legend below; the methods' values begin with those named."""
    names = [shortened(name, NAME_WIDTH) for name in names]
    styles, layout = method_styles(list(values)), Layout.of(names, len(values))
    figure, axes = _axes(title, names, list(values), layout)
    for group, name in enumerate(names):
        for index, (method, heights) in enumerate(values.items()):
            if (value := heights[group]) is not None:
                place = layout.place(group, index, len(values))
                _bar(axes, place, value, styles[method], layout)
                _number(axes, place, value, layout, metric, turned=name == AVERAGE)
    _limits(axes, values, names, layout)
    number_ticks(axes.yaxis, metric.tick)
    axes.yaxis.get_major_locator().set_params(nbins=7)
    _legend(figure, styles, layout)
    return figure, axes


def _axes(title: str, names: Sequence[str], methods: Sequence[str], layout: Layout) -> tuple[Figure, Axes]:
    fitting = int(layout.group / CHARACTER)
    slanted = max(map(len, names)) > fitting
    below = LINE * (1.6 + _legend_shape(methods, layout)[0]) + (0.75 if slanted else 0)
    size = (layout.width, layout.height + below + 0.55)
    figure, axes = titled_figure(title, size, left=LEFT, bottom=below, right=RIGHT)
    axes.set_xlim(-0.5, len(names) - 0.5)
    labels = [shortened(name, 14 if slanted else fitting) for name in names]
    axes.set_xticks(range(len(names)), labels, color=INK)
    if slanted:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.axhline(0, color=MUTED, linewidth=0.8)
    axes.grid(axis="y", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure, axes


def _limits(axes: Axes, values: Values, names: Sequence[str], layout: Layout) -> None:
    """From zero, or the deepest gain, to the highest bar and the highest number."""
    known = [(name, value) for heights in values.values() for name, value in zip(names, heights, strict=False) if value]
    tops = [(name, value.mean + (value.std or 0.0)) for name, value in known]
    low = min(0.0, *(value.mean - (value.std or 0.0) for _, value in known))
    high = max(0.0, *(top for _, top in tops))
    numbered = max((top for name, top in tops if layout.bears(name == AVERAGE)), default=0.0)
    room = (0.2 if layout.bar >= UPRIGHT else 0.42) / layout.height
    span = max(high - low, (numbered - low) / (1 - room)) or 1.0
    axes.set_ylim(low - 0.03 * span * (low < 0), low + 1.02 * span)


def _bar(axes: Axes, place: float, value: Spread, style: Style, layout: Layout) -> None:
    axes.bar(place, value.mean, width=0.88 * layout.bar / layout.group, **_paint(style))
    if value.std:
        wide = layout.bar >= UPRIGHT
        axes.errorbar(place, value.mean, yerr=value.std, color=INK, linewidth=1.2 if wide else 0.8, capsize=3 * wide)


def _paint(style: Style) -> dict[str, Any]:
    """Full, but for the upper bound, of which there is a dashed outline."""
    if style.dash == "-":
        return {"color": style.color}
    return {"facecolor": "none", "edgecolor": style.color, "linestyle": style.dash, "linewidth": 1.2}


def _number(axes: Axes, place: float, value: Spread, layout: Layout, metric: Metric, turned: bool) -> None:
    """The number above its bar, where there is room."""
    if not layout.bears(turned):
        return
    upright = layout.bar >= UPRIGHT
    axes.annotate(
        metric.brief(value.mean),
        (place, max(value.mean + (value.std or 0.0), 0.0)),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        va="bottom",
        rotation=0 if upright else 90,
        fontsize=8.5 if upright else min(8.5, 72 * layout.bar),
    )


def _legend(figure: Figure, styles: Mapping[str, Style], layout: Layout) -> None:
    from matplotlib.patches import Patch

    columns = _legend_shape(list(styles), layout)[1]
    handles = [Patch(**_paint(style)) for style in styles.values()]
    labels = [shortened(method_label(method), NAME_WIDTH) for method in styles]
    order = [index for column in range(columns) for index in range(column, len(labels), columns)]  # read line by line
    figure.legend(
        [handles[index] for index in order],
        [labels[index] for index in order],
        loc="lower left",
        bbox_to_anchor=(LEFT / layout.width, 0.0),
        ncols=columns,
        frameon=False,
        labelcolor=INK,
        fontsize=9.5,
        handlelength=1.2,
        borderaxespad=0.2,
        borderpad=0.2,
    )


def _legend_shape(methods: Sequence[str], layout: Layout) -> tuple[int, int]:
    """Lines and columns of the legend."""
    longest = max(len(shortened(method_label(method), NAME_WIDTH)) for method in methods)
    columns = min(max(int((layout.width - LEFT) / (0.5 + CHARACTER * longest)), 1), len(methods))
    return -(-len(methods) // columns), columns
