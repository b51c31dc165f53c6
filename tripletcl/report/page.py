"""The report as one HTML file: scores, forgetting, memory, and the results of searches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tripletcl.data.images import Photo
from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, RunResult
from tripletcl.files import write_text
from tripletcl.report import figures
from tripletcl.report.chart_style import MANY, method_styles, palette
from tripletcl.report.comparison import comparison_rows, comparison_table
from tripletcl.report.drift import Drifts, comparable, drift_sentence, gallery_figures, upgrade_figures
from tripletcl.report.formatting import counted, fraction, method_label
from tripletcl.report.grouping import (
    FREQUENCIES,
    Groups,
    ap_by_fact,
    arrows,
    best_method,
    exemplars,
    featured,
    group_by_method,
    group_by_sequence,
    map_by_frequency,
    method_order,
)
from tripletcl.report.html import render
from tripletcl.report.metric import metric_of
from tripletcl.report.pictures import Picture, thumbnail_uri
from tripletcl.report.properties import MethodProperties, properties_table
from tripletcl.report.sentences import findings, headline, sequences_findings, sequences_headline
from tripletcl.report.sequences import sequence_rows, sequence_table
from tripletcl.report.sweep import sweep_figures
from tripletcl.report.table import Cell, Column, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LISTED_FACTS = 8
"""The number of best and of worst facts that are listed."""

TASK_COLUMNS = 6
"""Of more tasks than this the table has only the mean; the figures below it show each."""

SWEPT = 3
"""With this many values of lam there is a figure over them."""

OPEN_SEQUENCES, PICTURED_SEQUENCES = 4, 8
"""Of more sequences than this each is folded; of more than that each has only its table."""

Sweeps = Mapping[str, Mapping[str, float]]
"""Methods whose runs differ only in lam: by the method's name the lam of each label."""

Values = dict[str, Any]
"""What a template prints, by the names that it uses."""


@dataclass(frozen=True)
class ExampleHit:
    """An image that a method found.

    Attributes:
        path: Its file, or the region of it.
        score: Its score.
        relevant: True if it is labelled with the query.
    """

    path: Photo
    score: float
    relevant: bool


@dataclass(frozen=True)
class ExampleQuery:
    """A query and the results of each method.

    Attributes:
        query: The query as one types it, `person riding horse`.
        task: The name of the task in which the query's fact was learned.
        results: Method name to its hits, best first.
    """

    query: str
    task: str
    results: Mapping[str, Sequence[ExampleHit]]


def write_report(
    path: Path | str,
    runs: Sequence[RunResult],
    *,
    title: str,
    settings: Mapping[str, Any] | str,
    environment: Mapping[str, Any],
    properties: MethodProperties | None = None,
    examples: Sequence[ExampleQuery] = (),
    scenes: Sequence[tuple[str, Path]] = (),
    command: str | None = None,
    drifts: Drifts | None = None,
    sweeps: Sweeps | None = None,
) -> Path:
    """Write the report of a comparison as one self-contained HTML file.

    The file has no scripts and loads nothing: figures and thumbnails are inside it. It replaces an older file in one
    step, so that a reader never sees half of it.

    Runs that learned other tasks, or the same in another order, belong to another sequence. Of several sequences, a
    table over all comes first, then a part for each.

    Args:
        path: The file; missing folders are made.
        runs: The runs to compare, several seeds or splits of a method where there are.
        title: What was measured, in a few words.
        settings: The resolved settings, as a mapping or as text.
        environment: Names and versions that the numbers depend on.
        properties: The properties of each method, for their table.
        examples: Queries and their results; of many methods, those of finetune, of the best and of joint are shown.
        scenes: (caption, image) pairs of training images; those of one caption are shown in one strip.
        command: The command line that repeats the runs.
        drifts: For each method what `tripletcl drift` measured on its runs.
        sweeps: Methods that were run with several lam, for a figure over lam.

    Returns:
        The path written.

    Raises:
        UserError: no runs, runs that cannot be in one table, or an image that cannot be read.
    """
    sequences = list(group_by_sequence(runs).values())
    selected = exemplars(group_by_method(sequences[0]))  # queries and indexes are those of one sequence
    with palette(method_order(run.method for run in runs)):
        values = {
            "title": title,
            **(_of_one(runs, sweeps or {}) if len(sequences) == 1 else _of_several(sequences, sweeps or {})),
            "properties": properties_table(properties) if properties else None,
            "drift": _drift(drifts or {}, selected),
            "selected": selected,
            "examples": examples,
            "scenes": _by_caption(scenes),
            "thumbnail": cache(thumbnail_uri),
            "settings": settings if isinstance(settings, str) else _as_yaml(settings),
            "environment": _pairs(environment),
            "command": command,
        }
    write_text(Path(path), render("report/templates/page.html.j2", **values))
    return Path(path)


def _of_one(runs: Sequence[RunResult], sweeps: Sweeps) -> Values:
    """The header and the part of a single sequence."""
    header = {"headline": headline(runs), "findings": findings(runs), "counts": _counts(runs)}
    return {**header, "overall": None, "parts": [_part(runs, sweeps, level=2)]}


def _of_several(sequences: Sequence[Sequence[RunResult]], sweeps: Sweeps) -> Values:
    """The header, the table over all sequences, and the part of each."""
    runs = [run for sequence in sequences for run in sequence]
    rows = sequence_rows(runs)
    pictured = len(sequences) <= PICTURED_SEQUENCES
    return {
        "headline": sequences_headline(rows),
        "findings": sequences_findings(rows),
        "counts": [counted(len(sequences), "sequence"), counted(len(rows), "method"), counted(len(runs), "run")],
        "overall": sequence_table(rows),
        "colors": _colors([row.method for row in rows]),
        "open": len(sequences) <= OPEN_SEQUENCES,
        "parts": [_part(sequence, sweeps, level=3, pictured=pictured) for sequence in sequences],
    }


def _counts(runs: Sequence[RunResult]) -> list[str]:
    splits = list(dict.fromkeys(run.split for run in runs))
    return [
        counted(len(runs[0].tasks), "task"),
        *([counted(len(runs[0].ap), "fact")] if runs[0].ap else []),
        counted(len(group_by_method(runs)), "method"),
        counted(len(runs), "run"),
        f"{metric_of(runs).split}{'s' * (len(splits) > 1)} {', '.join(splits)}",
    ]


def _part(runs: Sequence[RunResult], sweeps: Sweeps, level: int, pictured: bool = True) -> Values:
    """The table and the figures of one sequence."""
    groups, rows = group_by_method(runs), comparison_rows(runs)
    part = {
        "title": arrows(tuple(runs[0].tasks)),
        "text": " ".join([headline(runs), *findings(runs)]),
        "level": level,
        "table": comparison_table(rows, tasks=len(runs[0].tasks) <= TASK_COLUMNS),
        "colors": _colors(list(groups)),
        "selection": _selection(groups),
    }
    return part | (_figures(runs, groups, sweeps) if pictured else {"matrices": []})


def _colors(methods: Sequence[str]) -> list[str]:
    return [style.color for style in method_styles(methods).values()]


def _figures(runs: Sequence[RunResult], groups: Groups, sweeps: Sweeps) -> Values:
    """The figures of one sequence, and the tables of its best and worst facts."""
    metric, tasks = metric_of(runs), len(runs[0].tasks)
    in_sequence = tasks > 1 and any(run.in_sequence for run in runs)
    subset = figures.subset_figure(runs) if in_sequence else None
    return {
        "metric": metric,
        "sweeps": _pictures(_sweeps(groups, sweeps)),
        "matrices": _pictures(figures.matrix_figures(runs).values()),
        "matrix_grid": "small" if len(groups) > MANY else "narrow" if tasks <= 5 else "wide",
        "curves": _pictures([*figures.curve_figures(runs).values(), subset]) if in_sequence else [],
        "subset": subset is not None,
        "several_runs": any(len(group) > 1 for group in groups.values()),
        "shaded": f" of {' and '.join(map(method_label, featured(groups)))}" if len(groups) > MANY else "",
        "has_joint": UPPER_BOUND in groups,
        "ends": _pictures([figures.final_figure(runs), figures.forgetting_figure(runs), figures.ap_figure(runs)]),
        "task_bars": _pictures([figures.scores_figure(runs), figures.drops_figure(runs)]) if metric.task_bars else [],
        "memory": next(iter(_pictures([figures.memory_figure(runs)])), None),
        "facts": _facts(groups),
    }


def _pictures(charts: Iterable[Figure | None]) -> list[Picture]:
    return [Picture.of(chart) for chart in charts if chart is not None]


def _sweeps(groups: Groups, sweeps: Sweeps) -> list[Figure]:
    """Figures of each method that was run with several lam, compared with methods without it."""
    levels = {method: groups[method] for method in (LOWER_BOUND, UPPER_BOUND) if method in groups}
    by_lam = {
        name: {lam: groups[label] for label, lam in sorted(lams.items(), key=itemgetter(1)) if label in groups}
        for name, lams in sweeps.items()
    }
    swept = {name: runs for name, runs in by_lam.items() if len(runs) >= SWEPT}
    return [figure for name, runs in swept.items() for figure in sweep_figures(name, runs, levels)]


def _facts(groups: Groups) -> list[Table]:
    """The best and the worst facts of the best method with every method's AP, and MAP by number of training images."""
    return [*_best_and_worst(groups), *_by_frequency(groups)]


def _by_frequency(groups: Groups) -> list[Table]:
    """The MAP of facts of many and of few training images; none where all facts are alike."""
    maps = {method: map_by_frequency(groups[method]) for method in exemplars(groups)}
    names = [name for name in FREQUENCIES if all(name in own for own in maps.values())]
    if len(names) < 2:
        return []
    counts = next(iter(maps.values()))
    return [
        Table(
            [Column("MAP by training images"), Column("facts"), *(Column(method_label(method)) for method in maps)],
            [
                [Cell(name), Cell(f"{counts[name][0]:,}"), *(Cell(fraction(own[name][1])) for own in maps.values())]
                for name in names
            ],
        )
    ]


def _best_and_worst(groups: Groups) -> list[Table]:
    aps = {method: ap_by_fact(groups[method]) for method in exemplars(groups)}
    best = best_method(groups)
    ranked = sorted(aps[best], key=aps[best].__getitem__, reverse=True)
    half = min(LISTED_FACTS, (len(ranked) + 1) // 2)
    named = {"highest": ranked[:half], "lowest": ranked[half:][-half:][::-1] if half else []}
    return [
        Table(
            [Column(f"{end} AP of {method_label(best)}"), *(Column(method_label(method)) for method in aps)],
            [[Cell(fact), *(Cell(fraction(values.get(fact))) for values in aps.values())] for fact in facts],
        )
        for end, facts in named.items()
        if facts
    ]


def _selection(groups: Groups) -> str:
    """The sentence on which methods are shown, where it is not all of them."""
    selected = exemplars(groups)
    if len(selected) == len(groups):
        return ""
    return f"Of {counted(len(groups), 'method')} only {', '.join(map(method_label, selected))}."


def _drift(drifts: Drifts, methods: Sequence[str]) -> Values | None:
    """The search results of photo indexes after more was learned."""
    measured = {method: comparable(drifts[method]) for method in methods if drifts.get(method)}
    if not measured:
        return None
    sentences = [drift_sentence(method, runs) for method, runs in measured.items()]
    by_method = zip(upgrade_figures(measured), gallery_figures(measured), strict=True)
    return {"sentences": sentences, "figures": _pictures(figure for pair in by_method for figure in pair)}


def _by_caption(scenes: Sequence[tuple[str, Path]]) -> dict[str, list[Path]]:
    strips: dict[str, list[Path]] = {}
    for caption, path in scenes:
        strips.setdefault(caption, []).append(path)
    return strips


def _pairs(values: Mapping[str, Any]) -> Table:
    """A table of names and values without titles."""
    return Table([Column(""), Column("")], [[Cell(str(name)), Cell(str(value))] for name, value in values.items()])


def _as_yaml(settings: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(settings, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True) if plain else ""
