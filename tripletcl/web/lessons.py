"""Teaching from the page: what a run can be taught by, checked before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tripletcl.data import Fact
from tripletcl.data.query import WILDCARD
from tripletcl.errors import UserError
from tripletcl.runs.history import KnownTask, known_tasks
from tripletcl.runs.teach import Taught, teach, undo
from tripletcl.web.pictures import checked

PHOTOS_ALLOWED = 64
"""Photos of one lesson."""


class Lessons(Protocol):
    """Teaches a run, takes lessons back and lists what it knows."""

    def teach(self, fact: Fact, photos: Sequence[Path]) -> Taught:
        """Teach a fact by a few photos."""

    def undo(self) -> Taught:
        """Take the last lesson back."""

    def tasks(self) -> Sequence[KnownTask]:
        """What the run knows, task by task."""


@dataclass(frozen=True)
class RunLessons:
    """Lessons for a run folder; an index of photos follows.

    Attributes:
        run: The run folder.
        index: The index; by default RUN/index, where it is there.
    """

    run: Path
    index: Path | None = None

    def teach(self, fact: Fact, photos: Sequence[Path]) -> Taught:
        """Teach a fact by a few photos."""
        return teach(self.run, fact, photos, index=self.index)

    def undo(self) -> Taught:
        """Take the last lesson back."""
        return undo(self.run, index=self.index)

    def tasks(self) -> Sequence[KnownTask]:
        """What the run knows, task by task."""
        return known_tasks(self.run)


def lesson(units: Sequence[str | None], photos: Sequence[Path]) -> tuple[Fact, list[Path]]:
    """A fact and the photos to teach it by, checked.

    Raises:
        UserError: the fact has no subject, there are no photos or too many, or one is no image.
    """
    subject, predicate, object_ = ((text or "").strip().removeprefix(WILDCARD) or None for text in units)
    fact = Fact(subject or "", predicate, object_)
    if not photos:
        raise UserError(f"{fact} needs photos to be taught by: drop some, or pick them by the + on a search's photos")
    if len(photos) > PHOTOS_ALLOWED:
        raise UserError(f"{len(photos)} photos are too many for one lesson; allowed are up to {PHOTOS_ALLOWED}")
    return fact, [checked(photo) for photo in photos]
