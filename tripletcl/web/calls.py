"""The calls of the page's browser, checked against the page's own events before Gradio reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator, model_validator

from tripletcl.web.uploads import REQUEST_PHOTOS, Uploads

if TYPE_CHECKING:
    import gradio as gr

MOST_CHARACTERS = 300
"""Of a typed line or word."""

MOST_KEPT = 1000
"""Of the values in a list that the browser keeps, as the keys of the picked photos."""

CALLS = {"gradio_api/run/predict": False, "gradio_api/queue/join": True}
"""The routes of calls, and whether each takes those that wait in line."""

Text = Annotated[str, Field(max_length=MOST_CHARACTERS)]
Number = Annotated[int, Field(ge=0, lt=1 << 31)]
Session = Annotated[str, Field(pattern=r"^\w{1,64}$")]


class Photo(BaseModel):
    """An uploaded photo, as the browser names it; what else it tells of the file is dropped."""

    path: str
    meta: dict[Literal["_type"], Literal["gradio.FileData"]]

    @field_validator("path")
    @classmethod
    def _uploaded(cls, path: str, info: ValidationInfo[Uploads]) -> str:
        if not info.context.holds(path):
            raise ValueError("this photo is not here any more; drop it again")
        return path


class Click(BaseModel):
    """A click on a photo, or on the stage of a column; other events have other data, which nobody reads."""

    photo: Text = ""
    stage: Number | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_a_click(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {}


class Call(BaseModel):
    """The call of one event."""

    fn_index: Number
    data: list[Any]
    session_hash: Session
    event_data: Click = Click()
    trigger_id: Number | None = None


VALUES: Mapping[str, Any] = {
    "Slider": Number,
    "Dropdown": Text | None,
    "Textbox": Text,
    "Number": Number,
    "JSON": Annotated[list[Text | None], Field(max_length=MOST_KEPT)],
    "Image": Photo | None,
    "File": Annotated[list[Photo], Field(max_length=REQUEST_PHOTOS)] | None,
}
"""The type of what each component of the page sends, by the name of Gradio's class."""


class WrongCall(Exception):
    """A call that the page never makes; its text is one sentence."""


@dataclass(frozen=True)
class Event:
    """An event of the page.

    Attributes:
        waits: True if its calls wait in line.
        values: The types of its inputs.
    """

    waits: bool
    values: TypeAdapter[tuple[Any, ...]]


class Calls:
    """The calls that a page takes."""

    def __init__(self, page: gr.Blocks, uploads: Uploads) -> None:
        self.uploads = uploads
        self._events = {
            number: Event(event.queue, _values(event.inputs))
            for number, event in page.fns.items()
            if event.fn is not None  # the others are answered in the browser
        }

    def check(self, route: str, body: bytes) -> bytes:
        """Check the body of a call, and return it without anything that the page does not read.

        Raises:
            WrongCall: it is no JSON, calls no event of the page, or has values of other types.
        """
        try:
            call = Call.model_validate_json(body)
            event = self._events.get(call.fn_index)
            if event is None or event.waits != CALLS[route]:
                raise WrongCall(f"the page has no event {call.fn_index} here")
            call.data = [*event.values.validate_python(call.data, context=self.uploads)]
        except ValidationError as error:
            raise WrongCall(_sentence(error)) from None
        return call.model_dump_json().encode()


def _values(inputs: Sequence[Any]) -> TypeAdapter[tuple[Any, ...]]:
    """The types of the values of components."""
    kind: Any = tuple.__class_getitem__(tuple(VALUES[type(block).__name__] for block in inputs))
    return TypeAdapter(kind)


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"][:4]))
    return f"the page does not make this call: {where + ': ' if where else ''}{first['msg']}"
