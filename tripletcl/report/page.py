"""The report as one HTML file: what was forgotten, what was kept, and what the searches find."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, RunResult
from tripletcl.files import write_text
from tripletcl.report.drawing import MANY, WIDE, method_styles, palette
from tripletcl.report.drift import NOTE as DRIFT_NOTE
from tripletcl.report.drift import Drifts, comparable, drift_sentence
from tripletcl.report.formatting import counted, fraction, method_label
from tripletcl.report.metric import metric_of
from tripletcl.report.pictures import figure_uri, thumbnail_uri
from tripletcl.report.properties import CAPTION, TITLES, Promises, property_cells
from tripletcl.report.runs import Groups, ap_by_fact, group_by_method, group_by_sequence, method_order
from tripletcl.report.sentences import (
    best_method,
    exemplars,
    featured,
    findings,
    headline,
    sequences_findings,
    sequences_headline,
)
from tripletcl.report.sequences import SequenceRow, html_sequences, sequence_rows, sequence_title
from tripletcl.report.tables import Cell, Row, comparison_rows, table_caption, table_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CSS = (Path(__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")

SHOWN_FACTS = 8
"""How many of the best and of the worst facts are listed."""

SHOWN_TASKS = 6
"""Of more tasks than this the table has only the mean; the pictures below it show each."""

SWEPT = 3
"""With so many values of lam there is a picture over them."""

SWEEP_NOTE = "The same method with weaker and stronger penalties lam; dashed: methods that have none."

DENSE_COLUMNS = 11
"""A table of more columns than this is set smaller."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{css}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

Sweeps = Mapping[str, Mapping[str, float]]
"""Of a method whose runs differ in lam alone: the lam of each label that the runs go by."""

OPEN_SEQUENCES, PICTURED_SEQUENCES = 4, 8
"""Of more sequences than this each is folded away; of more than that each has its table alone."""


@dataclass(frozen=True)
class ExampleHit:
    """One image that a method found: its file, its score, and is it labelled with the query?"""

    path: Path
    score: float
    relevant: bool


@dataclass(frozen=True)
class ExampleQuery:
    """One query and what each method found for it, best first.

    Attributes:
        query: The query as one writes it, `person riding horse`.
        task: The name of the task the query's fact was learned in.
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
    promises: Promises | None = None,
    examples: Sequence[ExampleQuery] = (),
    scenes: Sequence[tuple[str, Path]] | None = None,
    command: str | None = None,
    drifts: Drifts | None = None,
    sweeps: Sweeps | None = None,
) -> Path:
    """Write the report of a comparison as one self-contained HTML file.

    The file has no scripts and asks for nothing else: pictures and thumbnails are inside it. It replaces an older file
    in one step, so a reader never sees half of it.

    Runs that learned other tasks, or the same in another order, are of another sequence: of several, a table over all
    comes first, then a part for each.

    Args:
        path: Where to write; missing folders are made.
        runs: The runs to compare, several seeds or splits a method where there are.
        title: What was measured, in a few words.
        settings: The resolved settings, as a mapping or as text.
        environment: Names and versions the numbers depend on.
        promises: What each method promises, for the table of properties.
        examples: Queries and what each method found for them; of many methods the plain one, the best and joint.
        scenes: (caption, image) pairs of training images; those of one caption stand in one strip.
        command: The command line that repeats the runs.
        drifts: Of each method what `tripletcl drift` measured on its runs.
        sweeps: Methods that were run with several lam, for a picture over lam.

    Returns:
        The path written.

    Raises:
        UserError: no runs, runs that cannot stand in one table, or an image that cannot be read.
    """
    sequences, methods = list(group_by_sequence(runs).values()), method_order(runs)
    groups = group_by_method(sequences[0])  # queries and the like are of one sequence
    with palette(methods):
        sections = [
            *(_one if len(sequences) == 1 else _several)(title, sequences, promises or {}, sweeps or {}),
            _drift(drifts or {}, groups),
            _examples(examples, groups),
            _scenes(scenes or ()),
            _facts(groups) if len(sequences) == 1 else "",
            _settings(settings, environment, command),
        ]
    body = "\n".join(section for section in sections if section)
    page = PAGE.format(title=escape(title), css=CSS, body=body)
    write_text(Path(path), page)
    return Path(path)


def _one(title: str, sequences: Sequence[Sequence[RunResult]], promises: Promises, sweeps: Sweeps) -> list[str]:
    """What runs of one sequence of tasks show."""
    (runs,) = sequences
    return [_header(title, runs), *_measured(runs, sweeps), _kept(runs, promises)]


def _several(title: str, sequences: Sequence[Sequence[RunResult]], promises: Promises, sweeps: Sweeps) -> list[str]:
    """What runs of several sequences show: a table over all, and each sequence by itself."""
    runs = [run for sequence in sequences for run in sequence]
    rows = sequence_rows(runs)
    blocks = [_block(sequence, sweeps, len(sequences)) for sequence in sequences]
    table = _section("Sequences", "", html_sequences(rows))
    return [_sequences_header(title, rows, runs), table, *blocks, _kept((), promises)]


def _block(runs: Sequence[RunResult], sweeps: Sweeps, sequences: int) -> str:
    """One sequence of several."""
    level = 3
    sections = [_comparison(comparison_rows(runs), level)]
    if sequences <= PICTURED_SEQUENCES:
        facts = _facts(group_by_method(runs), level)
        sections = [*_measured(runs, sweeps, level), _kept(runs, {}, level), facts]
    shown = " open" if sequences <= OPEN_SEQUENCES else ""
    name = escape(sequence_title(tuple(runs[0].tasks)))
    said = escape(" ".join([headline(runs), *findings(runs)]))
    body = "\n".join(section for section in sections if section)
    return f'<details class="sequence"{shown}>\n<summary><h2>{name}</h2></summary>\n<p>{said}</p>\n{body}\n</details>'


def _measured(runs: Sequence[RunResult], sweeps: Sweeps, level: int = 2) -> list[str]:
    """The table and the pictures of one sequence."""
    rows = comparison_rows(runs)
    return [
        _comparison(rows, level),
        _sweep(runs, sweeps, level),
        _matrices(runs, level),
        _curves(runs, level),
        _end(runs, level),
    ]


def _header(title: str, runs: Sequence[RunResult]) -> str:
    splits = list(dict.fromkeys(run.split for run in runs))
    counts = [
        counted(len(runs[0].tasks), "task"),
        *([counted(len(runs[0].ap), "fact")] if runs[0].ap else []),
        counted(len(group_by_method(runs)), "method"),
        counted(len(runs), "run"),
        f"{metric_of(runs).split}{'s' * (len(splits) > 1)} {', '.join(splits)}",
    ]
    return _head(title, headline(runs), findings(runs), counts)


def _sequences_header(title: str, rows: Sequence[SequenceRow], runs: Sequence[RunResult]) -> str:
    counts = [counted(len(rows[0].outcomes), "sequence"), counted(len(rows), "method"), counted(len(runs), "run")]
    return _head(title, sequences_headline(rows), sequences_findings(rows), counts)


def _head(title: str, first: str, sentences: Sequence[str], counts: Sequence[str]) -> str:
    return (
        f'<header>\n<p class="title">{escape(title)}</p>\n<h1>{escape(first)}</h1>\n'
        f"<p>{escape(' '.join(sentences))}</p>\n"
        f'<p class="count">{escape(" · ".join(counts))}</p>\n</header>'
    )


def _section(title: str, note: str, content: str, level: int = 2) -> str:
    """A part of the page; the level is that of its heading."""
    lead = f'<p class="note">{escape(note)}</p>\n' if note else ""
    return f"<section>\n<h{level}>{escape(title)}</h{level}>\n{lead}{content}\n</section>"


def _comparison(rows: Sequence[Row], level: int = 2) -> str:
    styles = method_styles([row["method"] for row in rows])
    titles, lines = table_cells(rows, without=("tasks",) if len(rows[0]["tasks"]) > SHOWN_TASKS else ())
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["method", *titles])
    names = [_swatched(row["method"], styles[row["method"]].color) for row in rows]
    body = "\n".join(
        f"<tr>{name}{''.join(map(_table_cell, line))}</tr>" for name, line in zip(names, lines, strict=True)
    )
    dense = " dense" if len(titles) > DENSE_COLUMNS else ""
    table = f'<table class="compare{dense}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'
    note = f'<p class="note">{escape(table_caption(rows))}</p>'
    return _section("Comparison", "", f'<div class="card scroll">{table}</div>\n{note}', level)


def _swatched(method: str, color: str) -> str:
    return f'<th scope="row"><i class="swatch" style="background:{color}"></i>{escape(method_label(method))}</th>'


def _table_cell(cell: Cell) -> str:
    number = f"<b>{escape(cell.mean)}</b>" if cell.best else escape(cell.mean)
    return f"<td>{number}{f'<small>± {escape(cell.std)}</small>' if cell.std else ''}</td>"


def _sweep(runs: Sequence[RunResult], sweeps: Sweeps, level: int) -> str:
    """What becomes of a method run with several lam, between the methods that have none."""
    from tripletcl.report.sweep import sweep_figure

    groups = group_by_method(runs)
    levels = {method: groups[method] for method in (LOWER_BOUND, UPPER_BOUND) if method in groups}
    found = {
        name: {lam: groups[label] for label, lam in sorted(lams.items(), key=itemgetter(1)) if label in groups}
        for name, lams in sweeps.items()
    }
    figures = [sweep_figure(name, by_lam, levels) for name, by_lam in found.items() if len(by_lam) >= SWEPT]
    return _section("How strongly to remember", SWEEP_NOTE, _grid(figures, "wide"), level) if figures else ""


def _matrices(runs: Sequence[RunResult], level: int) -> str:
    from tripletcl.report.heatmaps import matrix_figures

    figures = list(matrix_figures(runs).values())
    small, few_tasks = len(figures) > MANY, len(runs[0].tasks) <= 5
    note = f"{metric_of(runs).matrix}, the stages from left to right; one colour scale for all methods."
    if small:
        note += " Above each picture: the first task when it was just learned, and at the end."
    kind = "small" if small else "narrow" if few_tasks else "wide"
    return _section("Each task after each stage", note, _grid(figures, kind), level)


def _curves(runs: Sequence[RunResult], level: int) -> str:
    """One picture a task, and one of the subset; nothing where no run learned several tasks in sequence."""
    from tripletcl.report.curves import curve_figures, subset_figure

    if len(runs[0].tasks) == 1 or not any(run.in_sequence for run in runs):
        return ""
    figures = [*curve_figures(runs).values(), subset_figure(runs)]
    shown = [figure for figure in figures if figure is not None]
    note = _curves_note(runs, subset=figures[-1] is not None)
    return _section("Stage by stage", note, _grid(shown, "wide"), level)


def _curves_note(runs: Sequence[RunResult], subset: bool) -> str:
    groups = group_by_method(runs)
    several = any(len(group) > 1 for group in groups.values())
    of = f" of {' and '.join(map(method_label, featured(groups)))}" if len(groups) > MANY else ""
    return (
        f"{metric_of(runs).curve} while others are learned, the newest model on the right."
        + (" The last picture: MAP of the chosen subset of facts on all test images." if subset else "")
        + (f" Shaded: one standard deviation over runs{of}." if several else "")
        + (" Dashed: joint training on all tasks at once." if UPPER_BOUND in groups else "")
    )


def _end(runs: Sequence[RunResult], level: int) -> str:
    from tripletcl.report.bars import ap_figure, final_figure, forgetting_figure
    from tripletcl.report.tasks_bars import drops_figure, scores_figure

    figures = [final_figure(runs), forgetting_figure(runs), ap_figure(runs)]
    by_task = [scores_figure(runs), drops_figure(runs)] if metric_of(runs).task_bars else []
    grids = [_grid([figure for figure in figures if figure is not None], "narrow")]
    grids += [_grid([figure for figure in by_task if figure is not None], "wide")] if any(by_task) else []
    return _section("At the end", "", "\n".join(grids), level)


def _kept(runs: Sequence[RunResult], promises: Promises, level: int = 2) -> str:
    """The measured memory of each method beside what it promises; of no runs the promises alone."""
    from tripletcl.report.curves import memory_figure

    figure = memory_figure(runs) if runs else None
    cards = [*([_card(figure)] if figure is not None else []), *([_properties(promises)] if promises else [])]
    if not cards:
        return ""
    note = (
        "Megabytes that each method keeps after each task, beside the model; a method that keeps nothing is left out."
    )
    notes = [*([note] if figure is not None else []), *([CAPTION] if promises else [])]
    title = (
        "What is kept, and what is promised" if runs and level == 2 else "What is kept" if runs else "What is promised"
    )
    return _section(title, " ".join(notes), f'<div class="grid wide start">{"".join(cards)}</div>', level)


def _drift(drifts: Drifts, groups: Groups) -> str:
    """What an index of photos is worth after more was learned."""
    from tripletcl.report.drift import gallery_figures, upgrade_figures

    shown = {method: comparable(drifts[method]) for method in exemplars(groups) if drifts.get(method)}
    if not shown:
        return ""
    said = "".join(f"<p>{escape(drift_sentence(method, runs))}</p>" for method, runs in shown.items())
    figures = [*upgrade_figures(shown), *gallery_figures(shown)]
    return _section("What becomes of a photo index", DRIFT_NOTE, said + _grid(figures, "narrow"))


def _properties(promises: Promises) -> str:
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in ["method", *TITLES.values()])
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{mark}</td>" for mark in marks)}</tr>'
        for name, *marks in property_cells(promises)
    )
    table = f'<table class="compare dense marks">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'
    return f'<div class="card scroll">{table}</div>'


def _grid(figures: Sequence[Figure], kind: str) -> str:
    return f'<div class="grid {kind}">\n{"".join(map(_card, figures))}\n</div>'


def _card(figure: Figure) -> str:
    wide = " span" if figure.get_figwidth() > 1.5 * WIDE else ""
    alt = escape(str(figure.get_label()))
    return f'<figure class="card{wide}"><img class="chart" src="{figure_uri(figure)}" alt="{alt}"></figure>'


def _examples(examples: Sequence[ExampleQuery], groups: Groups) -> str:
    if not examples:
        return ""
    seen: dict[Path, str] = {}
    shown = exemplars(groups)
    queries = "\n".join(_query(example, shown, seen) for example in examples)
    note = (
        "What each method finds first, best on the left, with its score. Green frame and ✓: labelled with the query; "
        "red frame and ✗: not labelled with it."
    )
    return _section("Queries", f"{note} {_of_many(groups)}".strip(), queries)


def _of_many(groups: Groups) -> str:
    """Which of the methods are shown, where it is not all of them."""
    shown = exemplars(groups)
    if len(shown) == len(groups):
        return ""
    return f"Of {counted(len(groups), 'method')} only {', '.join(map(method_label, shown))}."


def _query(example: ExampleQuery, shown: list[str], seen: dict[Path, str]) -> str:
    methods = [method for method in shown if method in example.results]
    rows = "\n".join(_hits(example.query, method, example.results[method], seen) for method in methods)
    heading = f'<h3>{escape(example.query)} <span class="task">{escape(example.task)}</span></h3>'
    return f'<article class="card query">\n{heading}\n<div class="hits">\n{rows}\n</div>\n</article>'


def _hits(query: str, method: str, hits: Sequence[ExampleHit], seen: dict[Path, str]) -> str:
    right = sum(hit.relevant for hit in hits)
    images = "".join(_hit(query, rank, hit, seen) for rank, hit in enumerate(hits, start=1))
    return (
        f'<div class="who">{escape(method_label(method))}<small>{right} of {len(hits)} right</small></div>'
        f'<div class="strip">{images}</div>'
    )


def _hit(query: str, rank: int, hit: ExampleHit, seen: dict[Path, str]) -> str:
    if hit.path not in seen:
        seen[hit.path] = thumbnail_uri(hit.path)
    kind, mark, words = ("hit good", "✓", "right") if hit.relevant else ("hit", "✗", "wrong")
    alt = escape(f"{query}: result {rank}, {words}")
    return (
        f'<figure class="{kind}"><img src="{seen[hit.path]}" alt="{alt}">'
        f"<figcaption>{mark} {fraction(hit.score, 2)}</figcaption></figure>"
    )


def _scenes(scenes: Sequence[tuple[str, Path]]) -> str:
    strips: dict[str, list[Path]] = {}
    for caption, path in scenes:
        strips.setdefault(caption, []).append(path)
    if not strips:
        return ""
    content = "\n".join(_strip(caption, paths) for caption, paths in strips.items())
    return _section("Training images", "A few of the images each task was learned from.", content)


def _strip(caption: str, paths: Sequence[Path]) -> str:
    images = "".join(f'<figure><img src="{thumbnail_uri(path)}" alt="{escape(caption)}"></figure>' for path in paths)
    return f'<div class="scene"><h3>{escape(caption)}</h3><div class="strip">{images}</div></div>'


def _facts(groups: Groups, level: int = 2) -> str:
    """The facts the best method finds best and worst, with every method's AP beside."""
    aps = {method: ap_by_fact(groups[method]) for method in exemplars(groups)}
    best = best_method(groups)
    ranked = sorted(aps[best], key=aps[best].__getitem__, reverse=True)
    if not ranked:
        return ""
    half = min(SHOWN_FACTS, (len(ranked) + 1) // 2)
    name = method_label(best)
    tables = [_fact_table(f"{name} finds best", ranked[:half], aps)]
    if len(ranked) > half:
        tables.append(_fact_table(f"{name} finds worst", ranked[half:][-half:][::-1], aps))
    note = f"AP of single facts after the last task, searched among all test images. {_of_many(groups)}".strip()
    kind = "wide" if len(aps) <= 4 else ""
    return _section("Best and worst facts", note, f'<div class="grid {kind}">{"".join(tables)}</div>', level)


def _fact_table(title: str, facts: Sequence[str], aps: Mapping[str, Mapping[str, float]]) -> str:
    head = "".join(f'<th scope="col">{escape(method_label(method))}</th>' for method in aps)
    cells = {fact: "".join(f"<td>{fraction(values.get(fact))}</td>" for values in aps.values()) for fact in facts}
    body = "\n".join(f"<tr><td>{escape(fact)}</td>{cells[fact]}</tr>" for fact in facts)
    return (
        f'<div class="card scroll"><table class="facts">\n'
        f'<thead><tr><th scope="col">{escape(title)}</th>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _settings(settings: Mapping[str, Any] | str, environment: Mapping[str, Any], command: str | None) -> str:
    sections = []
    if settings:
        text = settings if isinstance(settings, str) else _as_yaml(settings)
        details = f'<details class="card"><summary>All settings</summary><pre>{escape(text)}</pre></details>'
        sections.append(_section("Settings", "", details))
    if environment:
        rows = "\n".join(
            f'<tr><th scope="row">{escape(str(name))}</th><td>{escape(str(value))}</td></tr>'
            for name, value in environment.items()
        )
        table = f'<div class="card scroll"><table class="pairs"><tbody>\n{rows}\n</tbody></table></div>'
        sections.append(_section("Environment", "", table))
    if command:
        sections.append(_section("How to repeat it", "", f"<pre>{escape(command)}</pre>"))
    return "\n".join(sections)


def _as_yaml(settings: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(settings, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
