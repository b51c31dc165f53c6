"""The photos of a lesson: each content once, and what is learned and what is held out, once for all lessons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tripletcl.data import Fact, FactTable, decode_image
from tripletcl.data.images import Photo, Region, decode_readable, photo_digest
from tripletcl.errors import UserError
from tripletcl.runs.stored import FactRun

HELD_OUT_EVERY = 5
"""Of this many photos one is held out, to measure how well the fact was learned."""


@dataclass(frozen=True)
class Known:
    """The photos that a run knows, by content.

    Attributes:
        learned: Those that any of its tables trains on.
        tested: Those that any of its tables tests.
        held_out: Those that a lesson has held out.
        of_fact: Those that any of its tables trains on as showing the fact of the lesson.
    """

    learned: frozenset[str]
    tested: frozenset[str]
    held_out: frozenset[str]
    of_fact: frozenset[str]

    @classmethod
    def of(cls, run: FactRun, fact: Fact) -> Known:
        """Collect the photos of the tables of a run for a lesson of a fact."""
        tables = run.tables()
        lessons = [number for number, entry in enumerate(run.settings.data.further, 1) if entry.taught is not None]
        train, test = ([contents_of(table, split) for table in tables] for split in ("train", "test"))
        of_fact = [contents_of(table, "train", table.facts.index(fact)) for table in tables if fact in table.facts]
        return cls(
            frozenset().union(*train),
            frozenset().union(*test),
            frozenset().union(*(test[number] for number in lessons)),
            frozenset().union(*of_fact),
        )


def readable_photos(photos: Sequence[Photo], size: int) -> tuple[dict[str, Photo], list[tuple[Photo, str]]]:
    """Return the photos that can be read by their content, and (photo, reason) of those that cannot.

    A photo under several names is taken under the first.

    Raises:
        UserError: no photo can be read.
    """
    given = (photo if isinstance(photo, Region) else Path(photo) for photo in photos)
    distinct = list(dict.fromkeys(photo.absolute() for photo in given))
    if not distinct:
        raise UserError("no photo was given: a fact is taught by photos that show it")
    skipped: dict[Photo, str] = {}
    by_content: dict[str, Photo] = {}
    for path, (content, _) in decode_readable(distinct, partial(_content_and_pixels, size=size), skipped):
        by_content.setdefault(content, path)
    return by_content, list(skipped.items())


def photo_table(fact: Fact, photos: Mapping[str, Photo], known: Known, hold_out: bool = True) -> FactTable:
    """Make the table of the photos of a lesson, without those that the run has learned as showing the fact.

    One photo of `HELD_OUT_EVERY` is a test image. Those that an earlier lesson has held out come first, so that no
    photo is tested in one lesson and learned in another; the others are chosen by their content, whatever their names
    and order. With `hold_out` False all are learned.

    Args:
        fact: What the photos show.
        photos: By content.
        known: The photos that the run knows.
        hold_out: False to learn all.
    """
    new = [content for content in photos if content not in known.of_fact]
    tests = {content for content in new if content in known.held_out} if hold_out else set()
    count = len(photos) // HELD_OUT_EVERY - len(tests) if hold_out else 0
    tests |= set(sorted(content for content in new if content not in known.learned | tests)[: max(0, count)])
    images = {content: photo if isinstance(photo, Region) else str(photo) for content, photo in photos.items()}
    rows = [(images[content], fact, "test" if content in tests else "train") for content in new]
    return replace(FactTable.from_rows(Path("/"), rows), contents=tuple(new))


def _content_and_pixels(path: Photo, size: int) -> tuple[str, np.ndarray]:
    pixels = decode_image(path, size)
    return photo_digest(path), pixels


def contents_of(table: FactTable, split: str, fact: int | None = None) -> frozenset[str]:
    """The known contents of the images of a split, optionally only of those that show a fact."""
    rows = table.rows_of(split, label=None) if fact is None else table.rows_of(split, [fact])
    contents = table.contents or ("",) * len(table.images)
    return frozenset(contents[image] for image in np.unique(rows[:, 0])) - {""}
