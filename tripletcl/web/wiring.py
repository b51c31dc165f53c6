"""What the page's parts share: its state, and errors as one sentence in place."""

from __future__ import annotations

import functools
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from tripletcl.errors import UserError
from tripletcl.web import markup, views
from tripletcl.web.exhibit import Exhibit
from tripletcl.web.style import PICK

log = logging.getLogger("tripletcl")

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
"""Of an event: it is no endpoint for others, nothing flickers while it runs, and it is answered at once.

Answers that come through the queue share a stream, which Gradio closes when it seems to be idle; the answer to an event
that comes at that very moment is lost.
"""

SLOW = QUIET | {"show_progress": "minimal"}
"""Of an event that may take more than a moment."""


def kept(value: list[Any]) -> gr.JSON:
    """A value that the visitor's page keeps, which other parts can follow: Gradio's own state tells only the queue."""
    return gr.JSON(value, visible="hidden")


@dataclass(frozen=True)
class Panel:
    """Something that is shown anew whenever what the page follows changes.

    Attributes:
        answer: From the values of the inputs to those of the outputs, a list.
        slow: It is drawn after the others.
    """

    answer: Callable[..., list[Any]]
    inputs: list[Any]
    outputs: list[Any]
    slow: bool = False


@dataclass(frozen=True)
class Shared:
    """What all parts follow.

    Attributes:
        stage: The stage shown.
        beside: The method that stands beside the run.
        looked_at: The dialog of one photo.
        picked: Keys of the photos picked to teach a fact.
        followed: What the panels follow.
        panels: All that follows.
    """

    stage: gr.Slider
    beside: gr.Dropdown
    looked_at: gr.HTML
    picked: gr.JSON
    followed: list[Any] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def show(self, view: Callable[..., str], inputs: list[Any], output: gr.HTML, slow: bool = False) -> None:
        """Let a piece of HTML follow; a mistake stands in its place."""
        self.panels.append(Panel(lambda *values: [in_place(view)(*values)], inputs, [output], slow))


def follow(page: gr.Blocks, shared: Shared) -> None:
    """Let all panels follow, the slow ones after the others.

    As one event each: of several on one trigger Gradio would start the next only when the last has ended.
    """
    triggers = [page.load, *(control.change for control in shared.followed)]
    fast, slow = ([panel for panel in shared.panels if panel.slow == late] for late in (False, True))
    first = gr.on(triggers, *_together(fast), **QUIET, trigger_mode="always_last")
    first.then(*_together(slow), **QUIET, trigger_mode="always_last")


def _together(panels: list[Panel]) -> tuple[Callable[..., list[Any]], list[Any], list[Any]]:
    """The panels as one: its function, inputs and outputs."""

    def answer(*values: Any) -> list[Any]:
        given = iter(values)
        return [made for panel in panels for made in panel.answer(*itertools.islice(given, len(panel.inputs)))]

    inputs, outputs = ([each for panel in panels for each in getattr(panel, side)] for side in ("inputs", "outputs"))
    return answer, inputs, outputs


def error_sentence(message: str) -> Any:
    """A mistake where the answer would have stood."""
    return markup.sentence(message, "error")


def in_place(answer: Callable[..., Any], mistaken: Callable[[str], Any] = error_sentence) -> Callable[..., Any]:
    """An event's function that answers a mistake with one sentence; a trace goes to the log alone.

    Args:
        answer: The function.
        mistaken: From the message to what is shown then.
    """

    @functools.wraps(answer)
    def answered(*inputs: Any) -> Any:
        try:
            return answer(*inputs)
        except UserError as error:
            return mistaken(_as_sentence(str(error)))
        except Exception as error:
            log.exception("the page could not answer")
            return mistaken(f"This did not work ({type(error).__name__}); where tripletcl was started it says why.")

    return answered


def _as_sentence(message: str) -> str:
    """With a capital, unless it begins with a file's name or the like, and a full stop."""
    plain = message.partition(" ")[0].isalpha()
    return (message[:1].upper() if plain else message[:1]) + message[1:] + "." * (not message.endswith((".", "!", "?")))


def look_and_pick(exhibit: Exhibit, shared: Shared, photos: gr.HTML) -> None:
    """A click on a photo opens it; a click on its + picks it."""
    times = itertools.count()

    def look(at: int, method: str, picked: list[str], event: gr.EventData) -> str:
        return views.look(exhibit, str(event._data.get("photo")), at, method, picked, next(times))

    photos.click(in_place(look), [shared.stage, shared.beside, shared.picked], shared.looked_at, **QUIET)
    pick(shared, photos)


def pick(shared: Shared, photos: gr.HTML) -> None:
    """A click on a photo's + picks it, or no longer; without the server, so that quick clicks all count."""
    photos.select(None, shared.picked, shared.picked, js=PICK, api_visibility="private")
