"""The search: a fact or a free line is typed, and the photos that each method finds are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from tripletcl.compare.write import example_facts
from tripletcl.data import UNITS, Fact
from tripletcl.data.facts import WILDCARD
from tripletcl.web import views
from tripletcl.web.bindings import (
    PHOTO_CLICKS,
    QUIET,
    Panel,
    Shared,
    bind_photos,
    client_state,
    error_sentence,
    with_errors,
)
from tripletcl.web.calls import MOST_CHARACTERS
from tripletcl.web.search import read_request
from tripletcl.web.state import AppState, LiveState

FIRST_HITS, MOST_HITS = 12, 96
"""Photos that a search shows at first, and at most when more are asked for."""


@dataclass(frozen=True)
class Search:
    """The parts of the search that other tabs use.

    Attributes:
        typed: The request as it was typed: three units, or one line.
        units: The boxes of the three units.
    """

    typed: gr.JSON
    units: list[gr.Dropdown]


def search_tab(live: LiveState, shared: Shared) -> Search:
    """Build the tab; it opens with the first task's example."""
    state = live.current
    table = state.main.table
    examples = [table.facts[fact] for fact in example_facts(table, state.groups)]
    search = _unit_search(state, examples[0])
    with gr.Row():
        line = gr.Textbox(
            placeholder="or in words: a person riding a horse",
            show_label=False,
            max_length=MOST_CHARACTERS,
            elem_id="line",
            scale=4,
            submit_btn=True,
        )
        gallery = _gallery_choice(state)
    _example_buttons(examples, search)
    line.submit(lambda text: [text], line, search.typed, **QUIET)
    _answers(live, shared, search.typed, gallery)
    return search


def _unit_search(state: AppState, example: Fact) -> Search:
    """The boxes of the three units, and the button."""
    first = [text or WILDCARD for text in example.units]
    typed = client_state(first)
    with gr.Row(elem_id="units"):
        units = [
            unit_box([WILDCARD, *words], word, unit, unit)
            for unit, words, word in zip(UNITS, state.vocabulary(), first, strict=True)
        ]
        button = gr.Button("Search", variant="primary", scale=1, min_width=90, elem_id="search")
    for unit in units:
        unit.input(lambda *texts: list(texts), units, typed, **QUIET)
    button.click(lambda *texts: list(texts), units, typed, **QUIET)
    return Search(typed, units)


def unit_box(words: Sequence[str], word: str | None, label: str, elem_id: str) -> gr.Dropdown:
    """A box for one unit: the words that are known, or any other."""
    return gr.Dropdown(
        list(words), value=word, label=label, allow_custom_value=True, elem_id=elem_id, scale=2, min_width=96
    )


def _gallery_choice(state: AppState) -> gr.Dropdown:
    return gr.Dropdown(
        [(gallery.title, key) for key, gallery in state.galleries.items()],
        value=next(iter(state.galleries)),
        show_label=False,
        scale=1,
        min_width=140,
        filterable=False,
        elem_id="gallery",
        visible=len(state.galleries) > 1,
    )


def _example_buttons(examples: Sequence[Fact], search: Search) -> None:
    """A button for each task's example."""
    with gr.Row(elem_id="examples"):
        for task, fact in enumerate(examples, 1):
            button = gr.Button(f"task {task}: {' '.join(filter(None, fact.units))}", size="sm")
            words = [text or WILDCARD for text in fact.units]
            button.click(lambda words=words: (*words, words), None, [*search.units, search.typed], **QUIET)


def _answers(live: LiveState, shared: Shared, typed: gr.JSON, gallery: gr.Dropdown) -> None:
    """The photos found, how the request was read, and its curve over the stages."""
    notes = gr.HTML(elem_id="notes")
    results = gr.HTML(js_on_load=PHOTO_CLICKS, elem_id="results")
    more = gr.Button("More photos", size="sm", elem_id="more")
    curve, count = gr.HTML(elem_id="curve"), client_state(FIRST_HITS)

    def show(words: Any, stage: int, other: str, key: str, hits: int, picked: list[str]) -> list[Any]:
        k, state = min(max(hits, FIRST_HITS), MOST_HITS), live.current
        request, searched = read_request(words, state.main.model(stage)), state.gallery(key)
        photos = views.results(state, searched, request, stage, other, k, picked)
        return [views.notes(state, searched, request, stage), photos, gr.update(visible=k < MOST_HITS)]

    def draw(words: Any, stage: int, other: str, key: str) -> list[Any]:
        state = live.current
        request = read_request(words, state.main.model(stage))
        return [views.curve(state, state.gallery(key), request, stage, other)]

    answer = with_errors(show, lambda message: [error_sentence(message), "", gr.update(visible=False)])
    inputs: list[Any] = [typed, shared.stage, shared.other, gallery]
    shared.triggers.extend([typed, gallery, count])
    shared.panels.append(Panel(answer, [*inputs, count, shared.picked], [notes, results, more]))
    shared.panels.append(Panel(with_errors(draw, lambda _: [""]), inputs, [curve], slow=True))
    more.click(lambda hits: 2 * hits, count, count, **QUIET)
    bind_photos(live, shared, results)
