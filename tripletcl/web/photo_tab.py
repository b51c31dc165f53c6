"""A photo dropped, and the facts that each method reads from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from tripletcl.web import views
from tripletcl.web.exhibit import Exhibit
from tripletcl.web.wiring import SLOW, Shared, in_place


def photo_tab(exhibit: Exhibit, shared: Shared) -> None:
    """The tab."""
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
        photo.preprocess = _as_uploaded  # type: ignore[method-assign]
        with gr.Column(scale=2, min_width=300):
            facts = gr.HTML(views.described(exhibit, None, exhibit.main.last, ""), elem_id="described")

    def describe(path: str | None, at: int, method: str) -> str:
        return views.described(exhibit, Path(path) if path else None, at, method)

    inputs: list[Any] = [photo, shared.stage, shared.beside]
    photo.change(in_place(describe), inputs, facts, **SLOW)
    shared.show(describe, inputs, facts)


def _as_uploaded(payload: Any) -> str | None:
    """The path of the file as it is: Gradio would open it at once, and what is no image is refused in words later."""
    return None if payload is None else payload.path
