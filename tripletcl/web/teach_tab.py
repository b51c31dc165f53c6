"""A new fact is taught by a handful of photos, and the tasks that the run knows are listed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from tripletcl.data import UNITS, Fact
from tripletcl.data.facts import WILDCARD
from tripletcl.data.images import Photo
from tripletcl.errors import UserError
from tripletcl.progress import Listener, Progress, listening
from tripletcl.runs.history import task_records
from tripletcl.runs.teach import teach, undo
from tripletcl.web import views
from tripletcl.web.bindings import CHECKED, PHOTO_CLICKS, QUIET, Shared, error_sentence, with_errors
from tripletcl.web.search_tab import Search, unit_box
from tripletcl.web.state import AppState, LiveState
from tripletcl.web.uploads import REQUEST_PHOTOS, Uploads

MOST_PHOTOS = REQUEST_PHOTOS
"""Photos of one lesson."""

WRITER: dict[str, Any] = {**CHECKED, "concurrency_limit": 1, "concurrency_id": "writer"}
"""Settings of an event that changes the run: one at a time, the others wait in line."""


def teach_tab(page: gr.Blocks, live: LiveState, shared: Shared, search: Search, uploads: Uploads) -> None:
    """Build the tab."""
    with gr.Row(elem_id="lesson"):
        vocabulary = zip(UNITS, live.current.vocabulary(), strict=True)
        names = [unit_box(words, None, unit, f"teach-{unit}") for unit, words in vocabulary]
        learn = gr.Button("Learn", variant="primary", scale=1, min_width=90, elem_id="learn")
    dropped = _photos(live, shared, uploads)
    outcome = gr.HTML(elem_id="said", min_height=24)
    tasks = task_list(page, live)
    take_back = gr.Button("Take the last lesson back", size="sm", elem_id="undo")

    def run_lesson(s: str, p: str, o: str, picked: Any, files: Any, bar: Any = gr.Progress()) -> tuple[Any, ...]:
        fact, photos = lesson([s, p, o], [*live.current.photo_paths(picked), *_paths(files)])
        with listening(_progress_bar(bar)):
            result = teach(live.run, fact, photos, index=live.index)
        state = live.follow()
        words, last = [text or WILDCARD for text in result.fact.units], state.main.last
        slider = gr.update(maximum=last, value=last)
        return views.taught(result), _tasks(live), slider, words, [], None, *_boxes(state, words)

    def run_undo(bar: Any = gr.Progress()) -> tuple[Any, ...]:
        with listening(_progress_bar(bar)):
            result = undo(live.run, index=live.index)
        state = live.follow()
        last, unchanged = state.main.last, [gr.skip()] * 3
        slider = gr.update(maximum=last, value=last)
        return views.undone(result), _tasks(live), slider, *unchanged, *_boxes(state, None)

    outputs = [outcome, tasks, shared.stage, search.typed, shared.picked, dropped, *names, *search.units]
    event: dict[str, Any] = {**WRITER, "outputs": outputs, "show_progress_on": outcome}

    def on_error(message: str) -> tuple[Any, ...]:
        return error_sentence(message), *[gr.skip()] * (len(outputs) - 1)

    for button, run, inputs in ((learn, run_lesson, [*names, shared.picked, dropped]), (take_back, run_undo, None)):
        clear = button.click(None, None, outcome, js="() => ['']", **QUIET)  # what was said of the last lesson
        clear.then(with_errors(run, on_error), inputs, **event)


def lesson(units: Sequence[str | None], photos: Sequence[Photo]) -> tuple[Fact, list[Photo]]:
    """Check a fact and the photos to teach it by.

    Raises:
        UserError: the fact has no subject, or there are no photos or too many.
    """
    subject, predicate, object_ = ((text or "").strip().removeprefix(WILDCARD) or None for text in units)
    fact = Fact(subject or "", predicate, object_)
    if not photos:
        raise UserError(f"{fact} needs photos to be taught by: drop some, or pick them by the + on a search's photos")
    if len(photos) > MOST_PHOTOS:
        raise UserError(f"{len(photos)} photos are too many for one lesson; allowed are up to {MOST_PHOTOS}")
    return fact, list(photos)


def _progress_bar(bar: gr.Progress) -> Listener:
    """A listener that moves the bar of an event."""

    def listen(progress: Progress) -> None:
        bar((progress.done, progress.total), desc=progress.label)

    return listen


def _boxes(state: AppState, words: list[str] | None) -> list[Any]:
    """The choices of the boxes of a lesson and of the search, and the words of the search's where given."""
    values: list[dict[str, Any]] = [{}] * len(UNITS) if words is None else [{"value": word} for word in words]
    vocabulary = state.vocabulary()
    lesson_boxes = [gr.update(choices=texts) for texts in vocabulary]
    return lesson_boxes + [
        gr.update(choices=[WILDCARD, *texts], **value) for texts, value in zip(vocabulary, values, strict=True)
    ]


def _paths(files: list[dict[str, Any]] | None) -> list[Path]:
    """The paths of the files that were dropped."""
    return [Path(file["path"]) for file in files or []]


def _photos(live: LiveState, shared: Shared, uploads: Uploads) -> gr.File:
    """The photos picked and dropped, each of which can be taken out again, and where to drop them."""
    photos = gr.HTML(views.photos(live.current, [], []), js_on_load=PHOTO_CLICKS, elem_id="lesson-photos")
    dropped = gr.File(
        file_count="multiple",
        file_types=["image"],
        label=f"Photos of it, up to {MOST_PHOTOS}",
        height=130,
        elem_id="dropped",
    )
    controls: list[Any] = [shared.picked, dropped]

    def remove(picked: list[str], files: list[dict[str, Any]] | None, event: gr.EventData) -> tuple[Any, Any]:
        remaining = [str(path) for number, path in enumerate(_paths(files)) if event.photo != f"dropped:{number}"]
        return [other for other in picked if other != event.photo], remaining or None

    photos.delete(with_errors(remove, lambda _: (gr.skip(), gr.skip())), controls, controls, **QUIET)

    def show(picked: list[str], files: list[dict[str, Any]] | None, request: gr.Request) -> str:
        uploads.show(request.session_hash, "lesson", _paths(files))
        return views.photos(live.current, picked, _paths(files))

    changed = [control.change for control in controls]
    gr.on(changed, with_errors(show), controls, photos, **QUIET, trigger_mode="always_last")
    return dropped


def task_list(page: gr.Blocks, live: LiveState) -> gr.HTML:
    """Build the table of the run's tasks."""
    tasks = gr.HTML(elem_id="tasks")
    page.load(with_errors(lambda: _tasks(live)), None, tasks, **QUIET)
    return tasks


def _tasks(live: LiveState) -> str:
    return views.tasks(task_records(live.run))
