"""The page in Gradio: what is where, and what follows from what; its content comes from `views`."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tripletcl.web import views
from tripletcl.web.exhibit import ALONE, Exhibit
from tripletcl.web.lessons import Lessons
from tripletcl.web.memory_tab import memory_tab
from tripletcl.web.photo_tab import photo_tab
from tripletcl.web.search_tab import search_tab
from tripletcl.web.style import OPEN_DIALOG
from tripletcl.web.teach_tab import task_list, teach_tab
from tripletcl.web.wiring import QUIET, Shared, follow, kept, pick


def build_page(exhibit: Exhibit, lessons: Lessons, may_teach: bool = True) -> gr.Blocks:
    """The page of a run.

    Args:
        exhibit: The run and what stands beside it.
        lessons: Teaches the run new facts, and knows its tasks.
        may_teach: Whether visitors may teach it; else they see its tasks alone.
    """

    def as_it_is_now() -> Any:
        exhibit.follow()
        return gr.update(maximum=exhibit.main.last, value=exhibit.main.last)

    with gr.Blocks(title=f"tripletcl: {exhibit.main.run.path.resolve().name}", analytics_enabled=False) as page:
        shared = _frame(exhibit)
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Search", id="search"):
                search = search_tab(exhibit, shared)
            with gr.Tab("Photo", id="photo"):
                photo_tab(exhibit, shared)
            with gr.Tab("Memory", id="memory"):
                memory_tab(exhibit, shared)
            with gr.Tab("Teach" if may_teach else "Tasks", id="teach"):
                if may_teach:
                    teach_tab(page, exhibit, shared, search, lessons)
                else:
                    task_list(page, lessons)
        page.load(as_it_is_now, None, shared.stage, **QUIET)
        follow(page, shared)
    return page


def _frame(exhibit: Exhibit) -> Shared:
    """The header and the bar that all tabs follow: the stage, and the method beside."""
    others = list(exhibit.others)
    beside_at_first = others[0] if others else ALONE
    last = exhibit.main.last
    lead = gr.HTML(views.header(exhibit, beside_at_first))
    with gr.Row(elem_id="stage-bar"):
        stage = gr.Slider(
            0, last, last, step=1, precision=0, label="After task", elem_id="stage", scale=3, min_width=180
        )
        beside = gr.Dropdown(
            [*((exhibit.others[name].label, name) for name in others), ("no other", ALONE)],
            value=beside_at_first,
            label=f"beside {exhibit.main.label}",
            elem_id="beside",
            scale=1,
            min_width=120,
            filterable=False,
        )
    sentence = gr.HTML(views.stage_line(exhibit, last), elem_id="stage-line")
    shared = Shared(stage, beside, gr.HTML("", js_on_load=OPEN_DIALOG, elem_id="looked-at"), kept([]))
    shared.followed.extend([stage, beside])
    shared.show(lambda at: views.stage_line(exhibit, at), [stage], sentence)
    shared.show(lambda method: views.header(exhibit, method), [beside], lead)
    pick(shared, shared.looked_at)
    return shared
