"""The bindings between the page's parts: controls and their effects, clicks on photos, and errors in place."""

from __future__ import annotations

import functools
import itertools
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from tripletcl.errors import UserError
from tripletcl.web import views
from tripletcl.web.server import asset
from tripletcl.web.state import LiveState

log = logging.getLogger("tripletcl")

CHECKED: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
"""Settings of an event: it is no endpoint for others, and its values are used as `Calls` has checked them."""

QUIET: dict[str, Any] = {**CHECKED, "show_progress": "hidden", "queue": False}
"""Settings of an event besides: nothing flickers while it runs, and it is answered at once.

Answers that come through the queue share a stream, which Gradio closes when it seems to be idle; the answer to an event
that comes at that very moment is lost.
"""

PHOTO_CLICKS, PICK, RELEASE = asset("photo_clicks.js"), asset("pick.js"), asset("release.js")
OPEN_DIALOG = PHOTO_CLICKS + asset("dialog.js")


def client_state(value: list[Any] | int) -> Any:
    """A value in the visitor's browser that other parts can follow; Gradio's own state is seen by its queue only."""
    kind: Any = gr.Number if isinstance(value, int) else gr.JSON
    return kind(value, visible="hidden")


@dataclass(frozen=True)
class Panel:
    """A part of the page that is computed again whenever one of the triggers changes.

    Attributes:
        answer: From the values of the inputs to those of the outputs, a list.
        inputs: The components that it reads.
        outputs: The components that it fills.
        slow: True if it is computed after the others.
    """

    answer: Callable[..., list[Any]]
    inputs: list[Any]
    outputs: list[Any]
    slow: bool = False


@dataclass(frozen=True)
class Shared:
    """The controls that all parts follow.

    Attributes:
        stage: The stage shown.
        other: The method next to the run.
        dialog: The dialog of one photo.
        picked: Keys of the photos picked to teach a fact.
        triggers: Controls whose change computes all panels again.
        panels: The panels.
    """

    stage: gr.Slider
    other: gr.Dropdown
    dialog: gr.HTML
    picked: gr.JSON
    triggers: list[Any] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)

    def show(self, view: Callable[..., str], inputs: list[Any], output: gr.HTML, slow: bool = False) -> None:
        """Add a panel of one piece of HTML; an error is shown in its place."""
        self.panels.append(Panel(lambda *values: [with_errors(view)(*values)], inputs, [output], slow))


def bind_panels(page: gr.Blocks, shared: Shared) -> None:
    """Compute all panels when the page opens and when a trigger changes, the slow ones after the others.

    All fast ones are one event: of several events on one trigger, Gradio starts the next when the last has ended.
    """
    triggers = [page.load, *(control.change for control in shared.triggers)]
    fast, slow = ([panel for panel in shared.panels if panel.slow == late] for late in (False, True))
    first = gr.on(triggers, *_joined(fast), **QUIET, trigger_mode="always_last")
    answer_later(first.then, *_joined(slow))


def answer_later(
    start: Callable[..., Any], answer: Callable[..., list[Any]], inputs: list[Any], outputs: list[Any]
) -> None:
    """Bind what may take more than a moment: an answer is visible only as long as it answers what is asked.

    Args:
        start: From the arguments of an event to the event.
        answer: From the values of the inputs to those of the outputs, pieces of HTML.
        inputs: What is asked.
        outputs: Where the answer is shown.
    """
    held = client_state([[], [""] * len(outputs)])  # an answer, after the values of the inputs that it is for
    latest = {**QUIET, "trigger_mode": "always_last"}
    release = {"fn": None, "inputs": [held, *inputs], "outputs": outputs, "js": RELEASE, **latest}
    asked = start(**release)
    answered = asked.then(lambda *values: [list(values), answer(*values)], inputs, held, **latest)
    answered.then(**release)


def _joined(panels: list[Panel]) -> tuple[Callable[..., list[Any]], list[Any], list[Any]]:
    """Panels as one: its function, inputs and outputs."""

    def answer(*values: Any) -> list[Any]:
        rest = iter(values)
        return [output for panel in panels for output in panel.answer(*itertools.islice(rest, len(panel.inputs)))]

    inputs, outputs = ([each for panel in panels for each in getattr(panel, side)] for side in ("inputs", "outputs"))
    return answer, inputs, outputs


def error_sentence(message: str) -> Any:
    """An error where the answer would have been."""
    return views.sentence(message, "error")


def with_errors(answer: Callable[..., Any], on_error: Callable[[str], Any] = error_sentence) -> Callable[..., Any]:
    """Let an event's function answer an error with one sentence; a traceback goes to the log only.

    Args:
        answer: The function.
        on_error: From the sentence to what is returned then.
    """

    @functools.wraps(answer)
    def answered(*inputs: Any) -> Any:
        try:
            return answer(*inputs)
        except UserError as error:
            return on_error(_as_sentence(str(error)))
        except Exception as error:
            log.exception("the page could not answer")
            return on_error(f"This did not work ({type(error).__name__}); see the terminal that serves this page.")

    return answered


def _as_sentence(message: str) -> str:
    """With a capital, unless it begins with a file's name or the like, a full stop, and files without their folders."""
    message = re.sub(r"(?<![\w.])/(?:[^\s/]+/)+", "", message)
    plain = message.partition(" ")[0].isalpha()
    return (message[:1].upper() if plain else message[:1]) + message[1:] + "." * (not message.endswith((".", "!", "?")))


def bind_photos(live: LiveState, shared: Shared, photos: gr.HTML) -> None:
    """Open a photo in the dialog by a click on it, and pick it by a click on its +."""
    times = itertools.count()

    def open_photo(stage: int, other: str, picked: list[str], event: gr.EventData) -> str:
        return views.dialog(live.current, event.photo, stage, other, picked, next(times))

    inputs: list[Any] = [shared.stage, shared.other, shared.picked]
    photos.click(with_errors(open_photo), inputs, shared.dialog, **QUIET, trigger_mode="always_last")
    bind_picks(shared, photos)


def bind_picks(shared: Shared, photos: gr.HTML) -> None:
    """Pick a photo, or no longer, by a click on its +: in the browser, so that quick clicks all count."""
    photos.select(None, shared.picked, shared.picked, js=PICK, api_visibility="private")
