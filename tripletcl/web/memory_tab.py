"""What became of each task: the matrices and the curves, following the slider."""

from __future__ import annotations

from typing import Any

import gradio as gr

from tripletcl.web import views
from tripletcl.web.exhibit import Exhibit
from tripletcl.web.style import PHOTO_CLICKS
from tripletcl.web.wiring import QUIET, Shared, in_place


def memory_tab(exhibit: Exhibit, shared: Shared) -> None:
    """The tab."""
    matrices = gr.HTML(js_on_load=PHOTO_CLICKS, elem_id="matrices")
    curves = gr.HTML(elem_id="curves")
    inputs: list[Any] = [shared.stage, shared.beside]
    shared.show(lambda at, method: views.matrices(exhibit, at, method), inputs, matrices)
    shared.show(lambda at, method: views.curves(exhibit, at, method), inputs, curves, slow=True)

    def go(event: gr.EventData) -> Any:
        return gr.update(value=int(event._data.get("stage", exhibit.main.last)))

    matrices.select(in_place(go, lambda _: gr.skip()), None, shared.stage, **QUIET)
