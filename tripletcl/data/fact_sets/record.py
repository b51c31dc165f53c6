"""The record that every reader yields, and the forms that readers share: words, boxes, checked numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tripletcl.data.facts import Fact
from tripletcl.errors import UserError

Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels from 0, right and bottom excluded, as Pillow counts."""


class FactRecord(NamedTuple):
    """A fact that a photo shows, or does not show.

    Attributes:
        image: The photo's path relative to the root of the set.
        fact: The fact.
        split: "train" or "test"; None if the set has no split.
        boxes: The box of the subject and, if the fact has one, of the object; empty if the set has none. Boxes belong
            to the pixels as they are stored, before any EXIF rotation.
        group: The task of the fact; None if the set has no tasks.
        label: True if the photo (within the boxes) shows the fact, False if it was verified not to, None if its
            annotators could not tell.
        extent: (width, height) of the image that the boxes are measured in; None is the photo itself.
    """

    image: str
    fact: Fact
    split: str | None = None
    boxes: tuple[Box, ...] = ()
    group: str | None = None
    label: bool | None = True
    extent: tuple[float, float] | None = None


def words(text: str) -> str:
    """The text of a unit: underscores become blanks, and all is lower case except "TV"."""
    return " ".join(word if word == "TV" else word.lower() for word in text.replace("_", " ").split())


def as_box(sides: Iterable[float]) -> Box:
    """A box that is counted as ours are: (left, top, right, bottom)."""
    left, top, right, bottom = map(float, sides)
    return left, top, right, bottom


def as_extent(width: float, height: float) -> tuple[float, float]:
    """The size of the image that boxes are measured in.

    Raises:
        ValueError: It is not positive.
    """
    if min(width, height) <= 0:
        raise ValueError(f"its size is {width} x {height}")
    return float(width), float(height)


def box_from_1(left: float, top: float, right: float, bottom: float) -> Box:
    """A box that is counted from 1, its ends included."""
    return as_box((left - 1, top - 1, right, bottom))


def box_of_size(left: float, top: float, width: float, height: float) -> Box:
    """A box that is given by its corner, counted from 0, and its size."""
    return as_box((left, top, left + width, top + height))


def pick(names: Sequence[Any] | Mapping[int, Any], number: Any, what: str, first: int = 0) -> Any:
    """Return the entry of a number, counted from `first`.

    Raises:
        ValueError: There is no such entry.
    """
    numbers = names if isinstance(names, Mapping) else range(first, first + len(names))
    if isinstance(number, bool) or number not in numbers:
        allowed = f"{min(numbers)} to {max(numbers)}" if len(numbers) else "nothing"
        raise ValueError(f"its {what} is {number!r}, allowed is {allowed}")
    return names[number] if isinstance(names, Mapping) else names[number - first]


@contextmanager
def published_form(path: Path, entry: object) -> Iterator[None]:
    """Turn the errors of an entry that has another form than the published one into a sentence.

    Raises:
        UserError: The entry of the file has another form.
    """
    try:
        yield
    except KeyError as error:
        raise UserError(f"{path}, entry {entry!r}: it has no {error}") from error
    except (TypeError, IndexError, ValueError, AttributeError) as error:
        raise UserError(f"{path}, entry {entry!r}: {error}") from error
