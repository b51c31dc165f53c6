"""A request to a collection of photos, and its answer: the command line, the page and programs ask the same way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tripletcl.data.facts import Query
from tripletcl.retrieval import Filter, Hit, Request, answer, notes_on, parse_request
from tripletcl.retrieval.presence import FAMILIAR, Presence, presences
from tripletcl.retrieval.request import asks_kinds
from tripletcl.retrieval.spelling import foreign_script, suggestion
from tripletcl.runs.collection import Collection

if TYPE_CHECKING:
    from tripletcl.embedding import FactEmbedder, TextEmbedder


@dataclass(frozen=True)
class Answer:
    """Photos that fit a request.

    Attributes:
        request: The request as it was understood.
        notes: What a reader should know: words left out, units that the model was never taught, a later stage.
        hits: The photos, best first.
        presence: Of each taught fact, and of each word that was not taught: how sure it is that a photo shows it; for
            what no photo shows, or the model does not know, its sentence is among the first notes.
        suggestion: The request in known words, if it has words that are spelled nearly so; None if not.
        scale: The meaning of a hit's score: "cosines" for one term, "probability" for several, or "score" where the
            model has no calibration.
    """

    request: Request
    notes: list[str]
    hits: list[Hit]
    scale: str
    presence: tuple[Presence, ...] = ()
    suggestion: str | None = None


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
    request = parse_request(words, photos.known_facts, like, unlike)
    notes = notes_on(request, photos.embedder, photos.embedder.vocabulary)
    several = len(request.terms) > 1
    calibration = photos.calibration if several else None
    hits = answer(photos.index, request, k, calibration, where)
    within = (where or Filter()).within(request.where)
    presence = presences(request, photos.index, photos.embedder, within)
    meant = _meant(request, photos)
    notes = [*_first_notes(request, presence, meant, photos), *([photos.newer] if photos.newer else []), *notes]
    scale = "cosines" if not several else "score" if calibration is None else "probability"
    return Answer(request, notes, hits, scale, tuple(presence), meant)


def _first_notes(request: Request, presence: Sequence[Presence], meant: str | None, photos: Collection) -> list[str]:
    """Say first what was probably meant, what the model cannot know, and what no photo shows."""
    foreign = foreign_script(request) if photos.embedder.spec.text == "minilm" else None
    first = [f"did you mean {meant}?" if meant else None, foreign, *(each.sentence for each in presence)]
    return [sentence for sentence in first if sentence]


def _meant(request: Request, photos: Collection) -> str | None:
    """The request in known words, if some are not known."""
    queries = [term.wanted for term in request.terms if isinstance(term.wanted, Query)]
    by_kind = {text for query in queries if asks_kinds(query, photos.embedder) for text in query.units}

    def is_known(text: str, unit: int) -> bool:
        return text in by_kind or _is_known(text, unit, photos.embedder)

    if all(is_known(text, unit) for text, unit in request.units):
        return None
    return suggestion(request, photos.known_facts, is_known, photos.known_words)


def _is_known(text: str, unit: int, embedder: TextEmbedder | FactEmbedder) -> bool:
    """True if a model was taught a text as a unit, or its base knows it."""
    if text.casefold() in {word.casefold() for word in embedder.vocabulary[unit]}:
        return True
    familiarity = embedder.familiarity(text, unit)
    return familiarity is not None and familiarity >= FAMILIAR
