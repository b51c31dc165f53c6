"""The report as one HTML file: what was forgotten, what was kept, and what the searches find."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tripletcl.evaluation.result import UPPER_BOUND, RunResult
from tripletcl.files import write_text
from tripletcl.report.formatting import counted, fraction, method_label
from tripletcl.report.pictures import figure_uri, thumbnail_uri
from tripletcl.report.runs import Groups, ap_by_fact, group_by_method, in_sequence
from tripletcl.report.sentences import best_method, findings, headline
from tripletcl.report.style import CSS
from tripletcl.report.tables import Cell, Row, comparison_rows, table_caption, table_cells

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_FACTS = 8
"""How many of the best and of the worst facts are listed."""

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

Thumbnail = Callable[[Path], str]


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
    examples: Sequence[ExampleQuery] = (),
    scenes: Sequence[tuple[str, Path]] | None = None,
    command: str | None = None,
) -> Path:
    """Write the report of a comparison as one self-contained HTML file.

    The file has no scripts and asks for nothing else: pictures and thumbnails are inside it. It replaces an older file
    in one step, so a reader never sees half of it.

    Args:
        path: Where to write; missing folders are made.
        runs: The runs to compare, several seeds or splits a method where there are.
        title: What was measured, in a few words.
        settings: The resolved settings, as a mapping or as text.
        environment: Names and versions the numbers depend on.
        examples: Queries and what each method found for them.
        scenes: (caption, image) pairs of training images; those of one caption stand in one strip.
        command: The command line that repeats the runs.

    Returns:
        The path written.

    Raises:
        UserError: no runs, runs that cannot stand in one table, or an image that cannot be read.
    """
    body = "\n".join(
        section
        for section in [
            _header(title, runs),
            _comparison(comparison_rows(runs)),
            _pictures(runs),
            _examples(examples, list(group_by_method(runs))),
            _scenes(scenes or ()),
            _facts(group_by_method(runs)),
            _settings(settings, environment, command),
        ]
        if section
    )
    page = PAGE.format(title=escape(title), css=CSS + _method_colors(runs), body=body)
    write_text(Path(path), page)
    return Path(path)


def _method_colors(runs: Sequence[RunResult]) -> str:
    """Style rules `.m0`, `.m1`, ... for the methods' swatches, in the colours of the pictures."""
    from tripletcl.report.plots import DARK, method_styles

    colors = [style.color for style in method_styles(list(group_by_method(runs))).values()]
    light = "".join(f".m{index}{{background:{color}}}" for index, color in enumerate(colors))
    dark = "".join(f".m{index}{{background:{DARK[color]}}}" for index, color in enumerate(colors))
    return f"{light}@media (prefers-color-scheme: dark){{{dark}}}"


def _header(title: str, runs: Sequence[RunResult]) -> str:
    counts = [
        counted(len(runs[0].tasks), "task"),
        *([counted(len(runs[0].ap), "fact")] if runs[0].ap else []),
        counted(len(group_by_method(runs)), "method"),
        counted(len(runs), "run"),
        f"split {', '.join(dict.fromkeys(run.split for run in runs))}",
    ]
    return (
        f'<header>\n<p class="title">{escape(title)}</p>\n<h1>{escape(headline(runs))}</h1>\n'
        f"<p>{escape(' '.join(findings(runs)))}</p>\n"
        f'<p class="count">{escape(" · ".join(counts))}</p>\n</header>'
    )


def _section(title: str, note: str, content: str) -> str:
    lead = f'<p class="note">{escape(note)}</p>\n' if note else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{lead}{content}\n</section>"


def _comparison(rows: Sequence[Row]) -> str:
    titles, lines = table_cells(rows)
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["method", *titles])
    body = "\n".join(
        f'<tr><th scope="row"><i class="swatch m{index}"></i>{escape(method_label(row["method"]))}</th>'
        f"{''.join(map(_table_cell, line))}</tr>"
        for index, (row, line) in enumerate(zip(rows, lines, strict=True))
    )
    table = f'<table class="compare">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'
    note = f'<p class="note">{escape(table_caption(rows))}</p>'
    return _section("Comparison", "", f'<div class="card scroll">{table}</div>\n{note}')


def _table_cell(cell: Cell) -> str:
    number = f"<b>{escape(cell.mean)}</b>" if cell.best else escape(cell.mean)
    return f"<td>{number}{f'<small>± {escape(cell.std)}</small>' if cell.std else ''}</td>"


def _pictures(runs: Sequence[RunResult]) -> str:
    from tripletcl.report import plots

    stages = _section(
        "Each task after each stage",
        "MAP of each task on its own test images, the stages from left to right; one colour scale for all methods.",
        _grid(list(plots.matrix_figures(runs).values()), "narrow" if len(runs[0].tasks) <= 5 else "wide"),
    )
    bars = [plots.final_figure(runs), plots.forgetting_figure(runs), plots.ap_figure(runs)]
    end = _section("At the end", "", _grid([figure for figure in bars if figure is not None], "narrow"))
    return "\n".join([stages, _curves(runs), end])


def _curves(runs: Sequence[RunResult]) -> str:
    """One picture a task; nothing where no run learned several tasks in sequence."""
    from tripletcl.report import plots

    if len(runs[0].tasks) == 1 or not any(map(in_sequence, runs)):
        return ""
    return _section("Stage by stage", _curves_note(runs), _grid(list(plots.curve_figures(runs).values()), "wide"))


def _curves_note(runs: Sequence[RunResult]) -> str:
    groups = group_by_method(runs)
    several = any(len(group) > 1 for group in groups.values())
    return (
        "MAP of one task on its own test images while others are learned, the newest model on the right."
        + (" Shaded: one standard deviation over runs." if several else "")
        + (" Dashed: joint training on all tasks at once." if UPPER_BOUND in groups else "")
    )


def _grid(figures: Sequence[Figure], kind: str) -> str:
    pictures = "\n".join(
        f'<figure class="card"><img src="{figure_uri(figure)}" alt="{escape(str(figure.get_label()))}"></figure>'
        for figure in figures
    )
    return f'<div class="grid {kind}">\n{pictures}\n</div>'


def _examples(examples: Sequence[ExampleQuery], order: list[str]) -> str:
    if not examples:
        return ""
    seen: dict[Path, str] = {}
    queries = "\n".join(_query(example, order, seen) for example in examples)
    note = (
        "What each method finds first, best on the left, with its score. Green frame and ✓: labelled with the query; "
        "red frame and ✗: not labelled with it."
    )
    return _section("Queries", note, queries)


def _query(example: ExampleQuery, order: list[str], seen: dict[Path, str]) -> str:
    methods = sorted(example.results, key=lambda method: order.index(method) if method in order else len(order))
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


def _facts(groups: Groups) -> str:
    """The facts the best method finds best and worst, with every method's AP beside."""
    aps = {method: ap_by_fact(group) for method, group in groups.items()}
    best = best_method(groups)
    ranked = sorted(aps[best], key=aps[best].__getitem__, reverse=True)
    if not ranked:
        return ""
    half = min(SHOWN_FACTS, (len(ranked) + 1) // 2)
    name = method_label(best)
    tables = [_fact_table(f"{name} finds best", ranked[:half], aps)]
    if len(ranked) > half:
        tables.append(_fact_table(f"{name} finds worst", ranked[half:][-half:][::-1], aps))
    note = "AP of single facts after the last task, searched among all test images."
    return _section(
        "Best and worst facts", note, f'<div class="grid {"wide" if len(aps) <= 4 else ""}">{"".join(tables)}</div>'
    )


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
