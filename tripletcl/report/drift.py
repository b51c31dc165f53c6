"""The use of a photo index after its model has learned more tasks: a sentence, bars, and a heat map.

The measurements are those that `tripletcl.runs.drift` stores with a run, by method, of several runs where there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tripletcl.report.chart_style import FILL, MUTED, NAMED, Style, short_name, styled
from tripletcl.report.charts import grouped_bars, heat_map
from tripletcl.report.formatting import counted, fraction, fraction_tick, method_label, short_fraction
from tripletcl.report.grouping import exactly, mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Drift = Mapping[str, Any]
Drifts = Mapping[str, Sequence[Drift]]
"""The measured runs of each method."""

KINDS = {"stale": "stale", "upgraded": "upgraded", "reembedded": "re-embedded"}
FACTS = {"all": "all facts", "old": "known before", "new": "learned since"}
STYLES = {name: Style(color, "o") for name, color in zip(KINDS.values(), (NAMED["frozen"], FILL, MUTED), strict=True)}


def comparable(runs: Sequence[Drift]) -> list[Drift]:
    """The runs measured on the same stages as the first."""
    stages = [(run["stages"], _latest(run)["from"]) for run in runs]
    return [run for run, measured in zip(runs, stages, strict=True) if measured == stages[0]]


def _latest(run: Drift) -> Drift:
    """The upgrade of the latest index."""
    return max(run["upgrades"], key=lambda upgrade: upgrade["from"])


def _by_kind(runs: Sequence[Drift], facts: str) -> dict[str, float | None]:
    """MAP of each kind of index, the mean over runs; None where a run lacks it."""
    maps = [_latest(run)["map"] for run in runs]
    return {kind: mean(of.get(kind, {}).get(facts) for of in maps) for kind in KINDS}


def drift_sentence(method: str, runs: Sequence[Drift]) -> str:
    """The results of the latest model on the latest older index."""
    upgrade = _latest(runs[0])
    learned = counted(upgrade["to"] - upgrade["from"], "more task")
    new, old = ([fraction(value, 2) for value in _by_kind(runs, facts).values()] for facts in ("new", "old"))
    return (
        f"{method_label(method)}, after {learned}: on facts learned since, MAP {new[0]} with a stale index, {new[1]} "
        f"upgraded, {new[2]} re-embedded; on facts known to the index {old[0]}, {old[1]} and {old[2]}."
    )


@styled()
def upgrade_figures(drifts: Drifts) -> list[Figure]:
    """MAP of a stale, an upgraded and a re-embedded index by group of facts, a figure a method, on one scale."""
    values = {method: [_by_kind(runs, facts) for facts in FACTS] for method, runs in drifts.items()}
    top = max((v for groups in values.values() for of in groups for v in of.values() if v is not None), default=1.0)
    figures = [_bars(method, _latest(drifts[method][0]), groups) for method, groups in values.items()]
    for figure in figures:
        figure.axes[0].set_ylim(0, 1.15 * top)
    return figures


def _bars(method: str, upgrade: Drift, groups: Sequence[Mapping[str, float | None]]) -> Figure:
    bars = {name: [exactly(of[kind]) for of in groups] for kind, name in KINDS.items()}
    title = f"Index of stage {upgrade['from']}, queries of stage {upgrade['to']}: {short_name(method)}"
    return grouped_bars(title, "MAP", bars, list(FACTS.values()), STYLES, fraction, fraction_tick)


@styled()
def gallery_figures(drifts: Drifts) -> list[Figure]:
    """MAP of every stage's queries over every stage's gallery as a heat map, a figure a method, on one scale."""
    matrices = {method: np.array([run["matrix"]["all"] for run in runs], float) for method, runs in drifts.items()}
    top = max((float(np.nanmax(matrix.mean(axis=0))) for matrix in matrices.values()), default=1.0) or 1.0
    figures = []
    for method, matrix in matrices.items():
        stages = list(map(str, drifts[method][0]["stages"]))
        title = f"MAP of queries over indexes: {short_name(method)}"
        figure, axes = heat_map(title, matrix.mean(axis=0), stages, stages, top, short_fraction)
        axes.set(xlabel="queries by the model of stage", ylabel="index of stage")
        figures.append(figure)
    return figures
