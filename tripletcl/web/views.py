"""The pieces of HTML on the page, from its state and what was asked for, without Gradio."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from tripletcl.data.images import Photo
from tripletcl.evaluation import RunResult
from tripletcl.evaluation.matrix import forgetting
from tripletcl.report.charts import PALE, heat_strength
from tripletcl.report.figures import stage_labels
from tripletcl.report.formatting import MISSING, counted, duration, fraction
from tripletcl.report.grouping import highest_score
from tripletcl.report.html import macros
from tripletcl.report.pictures import Picture
from tripletcl.report.sentences import headline
from tripletcl.report.table import Cell, Column, Table
from tripletcl.retrieval import Request, ShownFact
from tripletcl.runs.history import TaskRecord
from tripletcl.runs.teach import Lesson
from tripletcl.web.galleries import Gallery
from tripletcl.web.pictures import large_photo, query_chart, task_charts, thumbnail
from tripletcl.web.run_view import RunView, load_model
from tripletcl.web.search import Answer, ap_by_stage, facts_in_file, facts_in_row, relevance, remarks, search
from tripletcl.web.state import NO_OTHER, AppState

FACTS_NAMED = 6
"""Facts named for a photo."""

UNFINISHED = "This run has no figures yet: they come with its last task."

Content = tuple[str, Markup]
"""A note next to a method's name, and what its column shows."""


def warm_up(state: AppState) -> None:
    """Load a model and draw a chart, which the first visitor would wait for."""
    load_model(state.main.folder(state.main.last)).encode_units(["warm"])
    curves(state, state.main.last, NO_OTHER)


def header(state: AppState, other: str) -> Markup:
    """The run, and the report's headline for the methods shown."""
    results = [view.result for view in state.methods(other) if view.result is not None]
    tasks = len(results[0].tasks) if results else 0
    results = [result for result in results if len(result.tasks) == tasks]  # a headline compares equally many tasks
    run = state.main.run.path.resolve()
    return _parts().header(f"{run.parent.name} / {run.name}", headline(results) if results else UNFINISHED)


def sentence(text: str, kind: str = "note") -> Markup:
    """A sentence in place: a "note", an "error", or "done"."""
    return _parts().sentence(text, kind)


def stage_line(state: AppState, stage: int) -> Markup:
    """The facts that the run had been taught at a stage."""
    return sentence(state.stage_sentence(stage))


def _parts() -> Any:
    return macros("web/templates/parts.html.j2")


def _columns(state: AppState, stage: int, other: str, content: Callable[[RunView], Content | None]) -> Markup:
    """The methods shown, side by side."""
    styles = state.styles(other)
    columns = []
    for view in state.methods(other):
        if (column := content(view)) is not None:
            note = ", ".join(filter(None, [_when(view, stage), column[0]]))
            color = styles[view.method].color
            columns.append({"color": color, "label": view.label, "note": note, "content": column[1]})
    return _parts().sides(columns)


def _when(view: RunView, stage: int) -> str:
    own = view.stage(stage)
    if own == 0:
        return "before training"
    return "after all tasks at once" if view.joint else f"after task {own}"


def _charts(charts: Sequence[Picture]) -> Markup:
    return _parts().charts(charts)


# --- search ----------------------------------------------------------------------------------------------------------


def results(
    state: AppState, gallery: Gallery, request: Request, stage: int, other: str, k: int, picked: Collection[str]
) -> Markup:
    """The photos that each method finds at a stage."""

    def content(view: RunView) -> Content:
        answer = search(gallery, view, stage, request, k)
        if answer is None:
            return "", _parts().empty(gallery.why_missing())
        note = "" if answer.ap is None else f"{answer.right} of {len(answer.tiles)} right"
        return note, _grid(gallery, answer, picked)

    return _columns(state, stage, other, content)


def _grid(gallery: Gallery, answer: Answer, picked: Collection[str]) -> Markup:
    if not answer.tiles:
        return _parts().empty("Nothing found.")
    return _parts().grid(
        [
            _photo(gallery, tile.number, thumbnail, picked) | {"score": tile.score, "right": tile.right}
            for tile in answer.tiles
        ]
    )


def _photo(gallery: Gallery, number: int, uri: Callable[[Photo], str], picked: Collection[str]) -> dict[str, Any]:
    """The values of a photo for a template, without its path."""
    path, key = gallery.paths[number], f"{gallery.key}:{number}"
    labels = list(map(str, gallery.labels(number)))
    return {"key": key, "name": path.name, "labels": labels, "uri": uri(path), "picked": key in picked}


def notes(state: AppState, gallery: Gallery, request: Request, stage: int) -> Markup:
    """The meaning of a request as it was read, and its units that were never trained."""
    relevant = relevance(gallery, request)
    labelled = None if relevant is None else int(relevant.sum())
    parts = _parts()
    return parts.request(request, labelled, gallery.title) + parts.sentences(remarks(state.main, stage, request))


def curve(state: AppState, gallery: Gallery, request: Request, stage: int, other: str) -> Markup:
    """The request's AP after each task, of each method; nothing where the labels do not tell."""
    values = {view.method: ap_by_stage(gallery, view, request) for view in state.methods(other)}
    aps = {method: of_method for method, of_method in values.items() if of_method is not None}
    if not aps or max(map(len, aps.values())) < 3:
        return Markup()
    return _charts([query_chart(f"AP of {request} after each task", aps, state.styles(other), stage)])


def dialog(state: AppState, key: str, stage: int, other: str, picked: Collection[str], opened: int) -> Markup:
    """One photo, its labels, and the facts that each method finds in it.

    Args:
        state: What the page shows.
        key: The photo's key.
        stage: The stage shown.
        other: The method next to the run.
        picked: The keys of the photos picked.
        opened: Another number each time, so that the same photo can be opened again.
    """
    gallery, number = state.photo(key)
    photo = _photo(gallery, number, large_photo, picked)

    def content(view: RunView) -> Content | None:
        photos = gallery.embedded(view, stage)
        row = None if photos is None else photos.row(number)
        if photos is None or row is None:
            return None
        return "", _facts(facts_in_row(photos, row, view, stage, FACTS_NAMED), photo["labels"])

    return _parts().dialog(photo, opened, _columns(state, stage, other, content))


def _facts(facts: Sequence[ShownFact], labels: Collection[str] = ()) -> Markup:
    return _parts().facts(facts, labels) if facts else _parts().empty("No fact is taught yet.")


# --- a photo ---------------------------------------------------------------------------------------------------------


def described(state: AppState, photo: Path | None, stage: int, other: str) -> Markup:
    """The facts that each method finds in a photo at a stage."""
    if photo is None:
        return _parts().empty("Drop a photo, and the facts that it shows are named here.")

    def content(view: RunView) -> Content:
        return "", _facts(facts_in_file(photo, view, stage, FACTS_NAMED))

    return _columns(state, stage, other, content)


# --- memory ----------------------------------------------------------------------------------------------------------


def matrices(state: AppState, stage: int, other: str) -> Markup:
    """Each method's MAP of each task after each stage."""
    finished = [view.result for view in state.methods(other) if view.result is not None]
    if not finished:
        return _parts().empty(UNFINISHED)
    top = highest_score({str(number): [result] for number, result in enumerate(finished)})

    def content(view: RunView) -> Content:
        if view.result is None:
            return "", _parts().empty(UNFINISHED)
        own = min(view.stage(stage), len(view.result.matrix) - 1)
        return figures_at(view.result, own), matrix(view.result, own, top)

    return _columns(state, stage, other, content)


def figures_at(result: RunResult, stage: int) -> str:
    """`MAP over all facts .905, lost .008 a task` at one of the run's stages."""
    text = f"MAP over all facts {fraction(result.overall[stage])}"
    lost = forgetting([row[:stage] for row in result.matrix[: stage + 1]]) if stage > 1 else None
    return text if lost is None else f"{text}, lost {fraction(lost)} a task"


def matrix(result: RunResult, stage: int, top: float) -> Markup:
    """MAP of each task after each stage as a table, and what each task has lost since its best.

    Args:
        result: A run's figures.
        stage: The run's own stage, which is framed.
        top: The MAP of the strongest colour.
    """
    scores = np.array(result.matrix, dtype=float)  # [stages, tasks]
    sequence = result.in_sequence and len(result.tasks) > 1
    heads = stage_labels(len(result.tasks), "0") if sequence else ["0", "all"]
    rows = [
        {
            "name": name,
            "cells": [_cell(score, top, sequence and at == task + 1) for at, score in enumerate(scores[:, task])],
            "lost": _lost(scores[:, task], task, stage),
        }
        for task, name in enumerate(result.tasks)
    ]
    return _parts().matrix(heads[: len(scores)], rows, stage, sequence)


def _cell(score: float, top: float, learned: bool) -> dict[str, Any]:
    strength = heat_strength(score / top)
    return {"score": score, "strength": strength, "pale": strength > PALE, "learned": learned}


def _lost(scores: np.ndarray, task: int, stage: int) -> float | None:
    """The MAP that a task has lost at a stage since its best; None before the stage after its own."""
    if stage <= task + 1 or not np.isfinite(scores[stage]):
        return None
    return float(np.nanmax(scores[1 : stage + 1]) - scores[stage])


def curves(state: AppState, stage: int, other: str) -> Markup:
    """MAP of each task over the stages, a chart per task with all methods."""
    finished = [view.result for view in state.methods(other) if view.result is not None]
    if not any(len(result.matrix) > 2 for result in finished):
        return Markup()
    return _charts(task_charts(finished, stage))


# --- teaching --------------------------------------------------------------------------------------------------------


def photos(state: AppState, picked: Sequence[str], dropped: Sequence[Path]) -> Markup:
    """The photos picked and dropped so far to teach a fact."""
    paths = dict(zip(picked, state.photo_paths(picked), strict=True))
    paths |= {f"dropped:{number}": path for number, path in enumerate(dropped)}
    if not paths:
        return _parts().empty(
            "No photo yet: drop some below, or pick them by the + on the photos that a search found. "
            "One of five is held out, to measure how well the fact was learned."
        )
    return _parts().strip([{"key": key, "name": path.name, "uri": thumbnail(path)} for key, path in paths.items()])


def taught(lesson: Lesson) -> Markup:
    """The outcome of a lesson."""
    held_out = ""
    if lesson.map_held_out is not None:
        held_out = f"; MAP {fraction(lesson.map_held_out, 2)} on {counted(lesson.held_out, 'photo')} held out of it"
    learned = f"Learned {lesson.fact} from {counted(lesson.photos, 'photo')} in {duration(lesson.seconds)}{held_out}. "
    if not lesson.photos:
        learned = f"{lesson.fact} is known from these photos already{held_out}. "
    text = f"{learned}It is task {lesson.stage} now, and Search shows what it finds."
    return sentence(text, "done") + _side_effects(lesson)


def undone(lesson: Lesson) -> Markup:
    """The outcome of an undo."""
    text = f"{lesson.fact} is taken back: the run is as it was before that lesson."
    return sentence(text, "done") + _side_effects(lesson)


def _side_effects(lesson: Lesson) -> Markup:
    """Photos that could not be read, and how the index was updated."""
    sentences = [f"Skipped {photo.name}: {reason}." for photo, reason in lesson.skipped]
    if lesson.left_out:
        count = counted(lesson.left_out, "test photo")
        sentences.append(f"Learned, and so no test photos any more: {count} of earlier tasks.")
    if lesson.index:
        sentences.append(f"Your photos' index: {lesson.index}.")
    return _parts().sentences(sentences)


def tasks(records: Sequence[TaskRecord]) -> Markup:
    """The tasks of the run, a row for each."""
    titles = ("task", "", "facts", "images", "MAP then", "MAP now", "learned")
    rows = [
        (
            str(task.number),
            task.name,
            str(len(task.facts)),
            MISSING if task.images is None else f"{task.images:,}",
            fraction(task.map_then),
            fraction(task.map_now),
            task.learned[:16].replace("T", " "),
        )
        for task in records
    ]
    table = Table([Column(title) for title in titles], [[Cell(text) for text in row] for row in rows])
    return _parts().table(table, "tasks")
