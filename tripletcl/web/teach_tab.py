"""A new fact, taught from a handful of photos, and the tasks that the run knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from tripletcl.data import UNITS
from tripletcl.data.query import WILDCARD
from tripletcl.progress import Listener, Progress, listening
from tripletcl.web import views
from tripletcl.web.exhibit import Exhibit
from tripletcl.web.lessons import PHOTOS_ALLOWED, Lessons, lesson
from tripletcl.web.search_tab import Search, unit_box
from tripletcl.web.style import PHOTO_CLICKS
from tripletcl.web.wiring import QUIET, Shared, error_sentence, in_place

WRITER: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 1, "concurrency_id": "writer"}
"""Of an event that changes the run: one at a time, the others wait in line."""


def teach_tab(page: gr.Blocks, exhibit: Exhibit, shared: Shared, search: Search, lessons: Lessons) -> None:
    """The tab."""
    with gr.Row(elem_id="lesson"):
        vocabulary = zip(UNITS, exhibit.vocabulary(), strict=True)
        names = [unit_box(words, None, unit, f"teach-{unit}") for unit, words in vocabulary]
        learn = gr.Button("Learn", variant="primary", scale=1, min_width=90, elem_id="learn")
    dropped = _photos(exhibit, shared)
    said = gr.HTML(elem_id="said", min_height=24)
    tasks = task_list(page, lessons)
    undo = gr.Button("Take the last lesson back", size="sm", elem_id="undo")

    def teach(s: str, p: str, o: str, picked: Any, files: Any, progress: Any = gr.Progress()) -> tuple[Any, ...]:
        fact, photos = lesson([s, p, o], [*exhibit.photo_paths(picked), *map(Path, files or [])])
        with listening(_shown_on(progress)):
            taught = lessons.teach(fact, photos)
        exhibit.refresh()
        words, last = [text or WILDCARD for text in taught.fact.units], exhibit.main.last
        slider = gr.update(maximum=last, value=last)
        return views.taught(taught), views.tasks(lessons), slider, words, [], None, *_boxes(exhibit, words)

    def take_back(progress: Any = gr.Progress()) -> tuple[Any, ...]:
        with listening(_shown_on(progress)):
            taught = lessons.undo()
        exhibit.refresh()
        unchanged = [gr.skip()] * 3
        slider = gr.update(value=exhibit.main.last)
        return views.taken_back(taught), views.tasks(lessons), slider, *unchanged, *_boxes(exhibit, None)

    outputs = [said, tasks, shared.stage, search.asked, shared.picked, dropped, *names, *search.units]
    event: dict[str, Any] = {**WRITER, "outputs": outputs, "show_progress_on": said}

    def mistaken(message: str) -> tuple[Any, ...]:
        return error_sentence(message), *[gr.skip()] * (len(outputs) - 1)

    learn.click(in_place(teach, mistaken), [*names, shared.picked, dropped], **event)
    taken = undo.click(in_place(take_back, mistaken), None, **event)
    # Only when the slider stands at the stage before may its end move there: Gradio refuses what lies behind the end.
    taken.then(lambda: gr.update(maximum=exhibit.main.last), None, shared.stage, **QUIET)


def _shown_on(bar: gr.Progress) -> Listener:
    """Listen by moving the bar of an event."""

    def listen(progress: Progress) -> None:
        bar((progress.done, progress.total), desc=progress.label)

    return listen


def _boxes(exhibit: Exhibit, asked: list[str] | None) -> list[Any]:
    """The words that the boxes of a lesson and of the search offer now, and those asked for."""
    values: list[dict[str, Any]] = [{}] * len(UNITS) if asked is None else [{"value": word} for word in asked]
    vocabulary = exhibit.vocabulary()
    lesson_boxes = [gr.update(choices=words) for words in vocabulary]
    return lesson_boxes + [
        gr.update(choices=[WILDCARD, *words], **value) for words, value in zip(vocabulary, values, strict=True)
    ]


def _photos(exhibit: Exhibit, shared: Shared) -> gr.File:
    """The photos picked and dropped, each of which can be taken out again, and where to drop them."""
    photos = gr.HTML(views.photos(exhibit, [], []), js_on_load=PHOTO_CLICKS, elem_id="lesson-photos")
    dropped = gr.File(
        file_count="multiple",
        file_types=["image"],
        label=f"Photos of it, up to {PHOTOS_ALLOWED}",
        height=130,
        elem_id="dropped",
    )
    chosen: list[Any] = [shared.picked, dropped]

    def without(picked: list[str], files: list[str] | None, event: gr.EventData) -> tuple[Any, Any]:
        key = str(event._data.get("photo"))
        kept = [file for number, file in enumerate(files or []) if key != f"dropped:{number}"]
        return [other for other in picked if other != key], kept or None

    photos.delete(in_place(without, lambda _: (gr.skip(), gr.skip())), chosen, chosen, **QUIET)
    show = in_place(lambda picked, files: views.photos(exhibit, picked, list(map(Path, files or []))))
    for control in chosen:
        control.change(show, chosen, photos, **QUIET)
    return dropped


def task_list(page: gr.Blocks, lessons: Lessons) -> gr.HTML:
    """What the run knows, task by task."""
    tasks = gr.HTML(elem_id="tasks")
    page.load(in_place(lambda: views.tasks(lessons)), None, tasks, **QUIET)
    return tasks
