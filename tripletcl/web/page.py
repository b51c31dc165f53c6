"""The page in Gradio: its header and its tabs, two of which are built here; the content is made by `views`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from tripletcl.web import views
from tripletcl.web.bindings import (
    OPEN_DIALOG,
    PHOTO_CLICKS,
    QUIET,
    Shared,
    answer_later,
    bind_panels,
    bind_picks,
    client_state,
    with_errors,
)
from tripletcl.web.search_tab import search_tab
from tripletcl.web.state import NO_OTHER, LiveState
from tripletcl.web.teach_tab import task_list, teach_tab
from tripletcl.web.uploads import Uploads


def build_page(live: LiveState, uploads: Uploads, may_teach: bool = True) -> gr.Blocks:
    """Build the page of a run.

    Args:
        live: The run and its surroundings.
        uploads: The photos that visitors upload.
        may_teach: True if visitors may teach it; else they only see its tasks.
    """
    title = f"tripletcl: {live.run.resolve().name}"
    with gr.Blocks(title=title, analytics_enabled=False) as page:
        shared = _frame(live)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Search", id="search"):
                search = search_tab(live, shared)
            with gr.Tab("Photo", id="photo"):
                _photo_tab(live, shared, uploads)
            with gr.Tab("Memory", id="memory"):
                _memory_tab(live, shared)
            with gr.Tab("Teach" if may_teach else "Tasks", id="teach"):
                if may_teach:
                    teach_tab(page, live, shared, search, uploads)
                else:
                    task_list(page, live)

        def latest() -> Any:
            last = live.follow().main.last
            return gr.update(maximum=last, value=last)

        def leave(request: gr.Request) -> None:
            uploads.forget(request.session_hash)

        page.load(latest, None, shared.stage, **QUIET)
        page.unload(leave)
        bind_panels(page, shared)
    return page


def _frame(live: LiveState) -> Shared:
    """The header, and the controls that all tabs follow: the stage, and the method next to the run."""
    state = live.current
    others, last = list(state.others), state.main.last
    first_other = others[0] if others else NO_OTHER
    lead = gr.HTML(views.header(state, first_other))
    with gr.Row(elem_id="stage-bar"):
        stage = gr.Slider(
            0, last, last, step=1, precision=0, label="After task", elem_id="stage", scale=3, min_width=180
        )
        other = gr.Dropdown(
            [*((state.others[name].label, name) for name in others), ("no other", NO_OTHER)],
            value=first_other,
            label=f"next to {state.main.label}",
            elem_id="other",
            scale=1,
            min_width=120,
            filterable=False,
        )
    sentence = gr.HTML(views.stage_line(state, last), elem_id="stage-line")
    shared = Shared(stage, other, gr.HTML("", js_on_load=OPEN_DIALOG, elem_id="dialog"), client_state([]))
    shared.triggers.extend([stage, other])
    shared.show(lambda at: views.stage_line(live.current, at), [stage], sentence)
    shared.show(lambda method: views.header(live.current, method), [other], lead)
    bind_picks(shared, shared.dialog)
    return shared


def _photo_tab(live: LiveState, shared: Shared, uploads: Uploads) -> None:
    """A photo is dropped, and the facts that each method finds in it are shown."""
    with gr.Row():
        photo = gr.Image(
            type="filepath",
            sources=["upload", "clipboard"],
            label="A photo",
            height=340,
            scale=1,
            min_width=260,
            elem_id="photo",
            buttons=[],
        )
        with gr.Column(scale=2, min_width=300):
            state = live.current
            facts = gr.HTML(views.described(state, None, state.main.last, NO_OTHER), elem_id="described")

    def describe(file: dict[str, Any] | None, stage: int, other: str) -> str:
        return views.described(live.current, Path(file["path"]) if file else None, stage, other)

    def show(file: dict[str, Any] | None, request: gr.Request) -> None:
        uploads.show(request.session_hash, "photo", [Path(file["path"])] if file else [])

    photo.change(show, photo, None, **QUIET)
    inputs: list[Any] = [photo, shared.stage, shared.other]
    changed = partial(gr.on, [photo.change, shared.stage.change, shared.other.change])
    answer_later(changed, lambda *values: [with_errors(describe)(*values)], inputs, [facts])


def _memory_tab(live: LiveState, shared: Shared) -> None:
    """The matrices and the charts of MAP per task and stage."""
    matrices = gr.HTML(js_on_load=PHOTO_CLICKS, elem_id="matrices")
    curves = gr.HTML(elem_id="curves")
    inputs: list[Any] = [shared.stage, shared.other]
    shared.show(lambda stage, other: views.matrices(live.current, stage, other), inputs, matrices)
    shared.show(lambda stage, other: views.curves(live.current, stage, other), inputs, curves, slow=True)

    def go_to(event: gr.EventData) -> Any:
        return gr.update(value=event.stage)

    matrices.select(with_errors(go_to, lambda _: gr.skip()), None, shared.stage, **QUIET)
