"""Asking for a fact, or in a free line, and what each method finds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from tripletcl.data import UNITS, Fact
from tripletcl.data.query import WILDCARD
from tripletcl.web import views
from tripletcl.web.asking import examples, understood
from tripletcl.web.exhibit import Exhibit
from tripletcl.web.style import PHOTO_CLICKS
from tripletcl.web.wiring import QUIET, Panel, Shared, error_sentence, in_place, kept, look_and_pick

HITS, MOST = 12, 96
"""Photos that a search shows at first, and when asked for more."""


LONGEST = 300
"""Characters of a line."""


@dataclass(frozen=True)
class Search:
    """What other parts need of the search.

    Attributes:
        asked: What is asked for: three units, or one line.
        units: The boxes of the three units.
    """

    asked: gr.JSON
    units: list[gr.Dropdown]


def search_tab(exhibit: Exhibit, shared: Shared) -> Search:
    """The tab; it opens with the first task's example, so that what becomes of it is seen at once."""
    shown = examples(exhibit.main.table, exhibit.groups)
    search = _questions(exhibit, shown)
    with gr.Row():
        line = gr.Textbox(
            placeholder="or in words: a person riding a horse",
            show_label=False,
            max_length=LONGEST,
            elem_id="line",
            scale=4,
            submit_btn=True,
        )
        gallery = _gallery(exhibit)
    _examples(shown, search)
    line.submit(lambda text: [text[:LONGEST]], line, search.asked, **QUIET)
    _answers(exhibit, shared, search.asked, gallery)
    return search


def _questions(exhibit: Exhibit, shown: Sequence[Fact]) -> Search:
    """The three units, and the button."""
    first = [text or WILDCARD for text in shown[0].units]
    asked = kept(first)
    with gr.Row(elem_id="units"):
        units = [
            unit_box([WILDCARD, *words], word, unit, unit)
            for unit, words, word in zip(UNITS, exhibit.vocabulary(), first, strict=True)
        ]
        button = gr.Button("Search", variant="primary", scale=1, min_width=90, elem_id="search")
    for unit in units:
        unit.input(lambda *texts: list(texts), units, asked, **QUIET)
    button.click(lambda *texts: list(texts), units, asked, **QUIET)
    return Search(asked, units)


def unit_box(words: Sequence[str], word: str | None, label: str, elem_id: str) -> gr.Dropdown:
    """A box for one unit: the words that are known, or any other."""
    return gr.Dropdown(
        list(words), value=word, label=label, allow_custom_value=True, elem_id=elem_id, scale=2, min_width=96
    )


def _gallery(exhibit: Exhibit) -> gr.Dropdown:
    return gr.Dropdown(
        [(found.title, key) for key, found in exhibit.galleries.items()],
        value=next(iter(exhibit.galleries)),
        show_label=False,
        scale=1,
        min_width=140,
        filterable=False,
        elem_id="gallery",
        visible=len(exhibit.galleries) > 1,
    )


def _examples(shown: Sequence[Fact], search: Search) -> None:
    """A button for each task's example."""
    with gr.Row(elem_id="examples"):
        for task, fact in enumerate(shown, 1):
            button = gr.Button(f"task {task}: {' '.join(filter(None, fact.units))}", size="sm")
            words = [text or WILDCARD for text in fact.units]
            button.click(lambda words=words: (*words, words), None, [*search.units, search.asked], **QUIET)


def _answers(exhibit: Exhibit, shared: Shared, asked: gr.JSON, gallery: gr.Dropdown) -> None:
    """What is found, and its curve."""
    notes = gr.HTML(elem_id="notes")
    results = gr.HTML(js_on_load=PHOTO_CLICKS, elem_id="results")
    more = gr.Button("More photos", size="sm", elem_id="more")
    curve, count = gr.HTML(elem_id="curve"), kept([HITS])

    def search(what: Any, at: int, method: str, key: str, hits: list[int], picked: list[str]) -> list[Any]:
        k = min(hits[0], MOST)
        request, searched = understood(what, exhibit.main.model(at)), exhibit.galleries[key]
        said = views.notes(exhibit, searched, request, at)
        return [said, views.results(exhibit, searched, request, at, method, k, picked), gr.update(visible=k < MOST)]

    def draw(what: Any, at: int, method: str, key: str) -> str:
        return views.curve(exhibit, exhibit.galleries[key], understood(what, exhibit.main.model(at)), at, method)

    answer = in_place(search, lambda message: [error_sentence(message), "", gr.update(visible=False)])
    asking: list[Any] = [asked, shared.stage, shared.beside, gallery]
    shared.followed.extend([asked, gallery, count])
    shared.panels.append(Panel(answer, [*asking, count, shared.picked], [notes, results, more]))
    shared.panels.append(Panel(in_place(lambda *values: [draw(*values)], lambda _: [""]), asking, [curve], slow=True))
    more.click(lambda hits: [2 * hits[0]], count, count, **QUIET)
    look_and_pick(exhibit, shared, results)
