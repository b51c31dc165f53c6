"""A request to a collection of photos, and its answer: the command line, the page and programs ask the same way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tripletcl.retrieval import Filter, Hit, Request, answer, notes_on, parse_request
from tripletcl.retrieval.presence import absent
from tripletcl.runs.collection import Collection


@dataclass(frozen=True)
class Answer:
    """Photos that fit a request.

    Attributes:
        request: The request as it was understood.
        notes: What a reader should know: words left out, units that the model was never taught, a later stage.
        hits: The photos, best first.
        absent: For words that no photo shows, or that the model does not know, a sentence each; they are also the first
            notes.
        scale: The meaning of a hit's score: "cosines" for one term, "probability" for several, or "score" where the
            model has no calibration.
    """

    request: Request
    notes: list[str]
    hits: list[Hit]
    scale: str
    absent: tuple[str, ...] = ()


def ask(
    photos: Collection,
    words: str | Sequence[str] = (),
    k: int = 10,
    *,
    like: Iterable[str | Path] = (),
    unlike: Iterable[str | Path] = (),
    where: Filter | None = None,
) -> Answer:
    """Find the k photos of a collection that fit a request best.

    Args:
        photos: The collection.
        words: What the photos show (`parse_request`).
        k: The number of photos.
        like: Photos that show what is wanted, too.
        unlike: Photos that show what is not wanted.
        where: Only photos that meet it are searched.

    Raises:
        UserError: the request cannot be read, or an example photo, or no photo meets the filter.
    """
    request = parse_request(words, photos.embedder.known_facts, like, unlike)
    notes = notes_on(request, photos.embedder, photos.embedder.vocabulary)
    several = len(request.terms) > 1
    calibration = photos.calibration if several else None
    hits = answer(photos.index, request, k, calibration, where)
    missing = absent(request, photos.index, photos.embedder, where, photos.embedder.known_facts)
    notes = [*missing, *([photos.newer] if photos.newer else []), *notes]
    scale = "cosines" if not several else "score" if calibration is None else "probability"
    return Answer(request, notes, hits, scale, tuple(missing))
