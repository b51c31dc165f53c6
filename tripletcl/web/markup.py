"""What the page shows as HTML; every name and text is escaped here."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from html import escape
from pathlib import Path

import numpy as np

from tripletcl.evaluation import RunResult
from tripletcl.evaluation.matrix import forgetting
from tripletcl.report.drawing import Style
from tripletcl.report.formatting import MISSING, fraction
from tripletcl.report.heatmaps import stage_labels
from tripletcl.retrieval import ShownFact
from tripletcl.runs.history import KnownTask
from tripletcl.web.asking import Found, Tile
from tripletcl.web.galleries import Gallery
from tripletcl.web.pictures import LARGE, picture
from tripletcl.web.plots import Picture

LESS = ' class="less"'
"""A column that a phone goes without."""

MARKS = {True: ("good", "✓ ", "right"), False: ("bad", "✗ ", "not labelled so"), None: ("", "", "")}
"""How a photo found is framed, marked and called, by whether it is labelled with what was asked for."""

PALE = 0.62
"""Cells stronger than this have pale numbers, as in the report's heat maps."""


def sentence(text: str, kind: str = "note") -> str:
    """One sentence in place: a "note" or an "error"."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<p class="{kind}"{role}>{escape(text)}</p>' if text else ""


def sentences(texts: Sequence[str]) -> str:
    """Notes, one below the other."""
    return "".join(map(sentence, texts))


def empty(text: str) -> str:
    """What stands where nothing is shown yet."""
    return f'<div class="empty">{escape(text)}</div>'


def swatch(style: Style) -> str:
    """A dot in the colour that a method has in the pictures."""
    return f'<i class="swatch" style="background:{style.color}"></i>'


def side_by_side(columns: Sequence[str]) -> str:
    """A column a method, below each other on a phone."""
    return f'<div class="sides of{len(columns)}">{"".join(columns)}</div>'


def side(mark: str, name: str, note: str, content: str) -> str:
    """A method's column: its name, a note beside it, and what it shows."""
    return f'<section class="side"><h3>{mark}{escape(name)} <small>{escape(note)}</small></h3>\n{content}</section>'


# --- photos ----------------------------------------------------------------------------------------------------------


def photo_key(gallery: Gallery, number: int) -> str:
    """What the browser calls a photo: never its path."""
    return f"{gallery.key}:{number}"


def grid(gallery: Gallery, found: Found, picked: Collection[str]) -> str:
    """The photos found, best first; each may be looked at and picked."""
    if not found.tiles:
        return empty("Nothing found.")
    return f'<div class="tiles">{"".join(_tile(gallery, tile, picked) for tile in found.tiles)}</div>'


def _tile(gallery: Gallery, tile: Tile, picked: Collection[str]) -> str:
    key = photo_key(gallery, tile.number)
    kind, mark, words = MARKS[tile.right]
    name = _named(gallery, tile.number)
    title = escape("\n".join([*name, *([words] if words else [])]))
    return (
        f'<figure class="tile {kind}"><button class="look" data-photo="{key}" title="{title}">'
        f'<img src="{picture(gallery.path(tile.number))}" alt="{escape(name[0])}"></button>'
        f"{_pick(key, key in picked)}<figcaption>{mark}{fraction(tile.score, 2)}</figcaption></figure>"
    )


def _pick(key: str, picked: bool) -> str:
    return (
        f'<button class="pick" data-photo="{key}" aria-pressed="{str(picked).lower()}" '
        f'title="pick it to teach a fact" aria-label="pick"></button>'
    )


def _named(gallery: Gallery, number: int) -> list[str]:
    """The file's name and the facts that it is labelled with."""
    return [gallery.path(number).name, *map(str, gallery.labels(number))]


def looked_at(gallery: Gallery, number: int, picked: bool, columns: Sequence[str], times: int) -> str:
    """One photo at full width in a dialog, with what is known of it and what each method reads from it.

    Args:
        times: Another number each time: the same photo may be looked at again.
    """
    name, *facts = _named(gallery, number)
    labels = f'<p class="note">labelled {escape(", ".join(facts))}</p>' if facts else ""
    return (
        f'<dialog class="look" data-times="{times}" aria-label="{escape(name)}">'
        '<button class="close" aria-label="close">&times;</button>'
        f'<img src="{picture(gallery.path(number), LARGE)}" alt="{escape(name)}">'
        f"<h3>{escape(name)} {_pick(photo_key(gallery, number), picked)}</h3>{labels}{side_by_side(columns)}</dialog>"
    )


def strip(photos: Sequence[tuple[str, Path]]) -> str:
    """Photos in a row, each with a key by which it can be taken out."""
    tiles = "".join(
        f'<figure class="tile"><img src="{picture(path)}" alt="{escape(path.name)}" title="{escape(path.name)}">'
        f'<button class="out" data-photo="{escape(key)}" aria-label="take out">&times;</button></figure>'
        for key, path in photos
    )
    return f'<div class="tiles strip">{tiles}</div>'


def facts_read(facts: Sequence[ShownFact], right: Collection[str] = ()) -> str:
    """Facts that a photo shows, as bars."""
    if not facts:
        return empty("No fact is taught yet.")
    return f'<ol class="facts">{"".join(_fact_read(fact, str(fact.fact) in right) for fact in facts)}</ol>'


def _fact_read(fact: ShownFact, right: bool) -> str:
    """A bar as long as the fact is probable; without probabilities, as its cosine."""
    share = fact.score if fact.probability is None else fact.probability
    number = fraction(fact.score, 2) if fact.probability is None else f"{fact.probability:.0%}"
    width = 100 * min(max(share, 0.0), 1.0)
    mark = ' <b class="good">✓</b>' if right else ""
    return (
        f'<li><span class="bar" style="width:{width:.0f}%"></span><span class="fact">{escape(str(fact.fact))}{mark}'
        f'</span><span class="number">{number}</span></li>'
    )


# --- figures ---------------------------------------------------------------------------------------------------------


def pictures(figures: Sequence[Picture]) -> str:
    """Pictures in cards, as many abreast as fit."""
    return f'<div class="cards">{"".join(map(_card, figures))}</div>'


def _card(figure: Picture) -> str:
    return f'<figure class="card"><img class="chart" src="{figure.uri}" alt="{escape(figure.title)}"></figure>'


def matrix(result: RunResult, stage: int, top: float) -> str:
    """MAP of each task after each stage as a table; the stage shown is framed, and a click on a column moves there.

    Args:
        stage: The run's own stage.
        top: The MAP of the strongest colour.
    """
    rows = np.array(result.matrix, dtype=float)
    sequence = result.in_sequence and len(result.tasks) > 1
    after = stage_labels(len(result.tasks), "0") if sequence else ["0", "all"]
    head = "".join(_column_head(label, number, number == stage) for number, label in enumerate(after[: len(rows)]))
    body = "".join(
        _matrix_row(name, rows[:, task], task, stage, top, sequence) for task, name in enumerate(result.tasks)
    )
    lost = '<th scope="col" title="MAP lost since its best">lost</th>' if sequence else ""
    return (
        f'<div class="scroll"><table class="matrix"><thead><tr><th scope="col">after task</th>{head}{lost}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _column_head(label: str, stage: int, here: bool) -> str:
    kind = ' class="here"' if here else ""
    return f'<th scope="col"{kind}><button class="go" data-stage="{stage}">{escape(label)}</button></th>'


def _matrix_row(name: str, values: np.ndarray, task: int, stage: int, top: float, sequence: bool) -> str:
    cells = "".join(
        _matrix_cell(value, number, stage, sequence and number == task + 1, top) for number, value in enumerate(values)
    )
    lost = ""
    if sequence:
        known = stage > task + 1 and np.isfinite(values[stage])
        lost = f"<td>{fraction(float(np.nanmax(values[1 : stage + 1]) - values[stage])) if known else MISSING}</td>"
    return f'<tr><th scope="row">{escape(name)}</th>{cells}{lost}</tr>'


def _matrix_cell(value: float, number: int, stage: int, learned: bool, top: float) -> str:
    strength = 0.05 + 0.95 * min(max(float(np.nan_to_num(value)) / top, 0.0), 1.0)
    kinds = ["cell", *["here"] * (number == stage), *["learned"] * learned, *["pale"] * (strength > PALE)]
    later = ' data-later="1"' if number > stage else ""
    return (
        f'<td class="{" ".join(kinds)}" style="--share:{strength:.3f}"{later} data-stage="{number}">'
        f"<span>{fraction(value, 2)}</span></td>"
    )


def figures_at(result: RunResult, stage: int) -> str:
    """`MAP over all facts .905, lost .008 a task` at one of the run's stages."""
    text = f"MAP over all facts {fraction(result.overall[stage])}"
    lost = forgetting([row[:stage] for row in result.matrix[: stage + 1]]) if stage > 1 else None
    return text if lost is None else f"{text}, lost {fraction(lost)} a task"


def task_table(tasks: Sequence[KnownTask]) -> str:
    """What a run knows: a row a task, the newest last."""
    head = "".join(
        f'<th scope="col"{LESS if title in ("images", "learned") else ""}>{title}</th>'
        for title in ("facts", "images", "MAP then", "MAP now", "learned")
    )
    body = "".join(map(_task_row, tasks))
    return (
        '<div class="scroll"><table class="tasks"><thead><tr><th scope="col">task</th><th class="what"></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _task_row(task: KnownTask) -> str:
    images = MISSING if task.images is None else f"{task.images:,}"
    return (
        f'<tr><th scope="row">{task.number}</th><td class="what">{escape(task.name)}</td><td>{len(task.facts)}</td>'
        f"<td{LESS}>{images}</td><td>{fraction(task.map_then)}</td><td>{fraction(task.map_now)}</td>"
        f"<td{LESS}>{escape(task.learned[:16].replace('T', ' '))}</td></tr>"
    )
