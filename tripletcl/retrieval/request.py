"""Requests: several things that a photo is to show, and not to show, at once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tripletcl.data.facts import Fact
from tripletcl.data.query import WILDCARD, Query, parse_query
from tripletcl.errors import UserError
from tripletcl.retrieval.model import Embedder
from tripletcl.retrieval.phrases import read_phrase
from tripletcl.retrieval.query import unknown_units

PLUS, MINUS = "+", "-"


@dataclass(frozen=True, slots=True)
class Term:
    """One thing that a photo is to show: a fact with wildcards, or what an example photo shows; or not to show."""

    wanted: Query | Path
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """What a photo is asked to show, all of it at once.

    Attributes:
        terms: At least one of them is not excluded.
        left_out: Words of phrases that no unit takes.

    Raises:
        UserError: nothing is asked for, or only what photos are not to show.
    """

    terms: tuple[Term, ...]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.terms:
            raise UserError(
                "the request is empty; write what a photo shows, as in person riding horse, or give a photo"
            )
        if all(term.excluded for term in self.terms):
            raise UserError("the request says only what photos are not to show; add what they are to show")

    def __str__(self) -> str:
        """`<dog, running, ?> - <?, ?, snow>`."""
        words = [f"{MINUS if term.excluded else PLUS} {_shown(term.wanted)}" for term in self.terms]
        return " ".join(words).removeprefix(f"{PLUS} ")


def parse_request(
    words: str | Sequence[str] = "",
    facts: Sequence[Fact] = (),
    like: Iterable[str | Path] = (),
    unlike: Iterable[str | Path] = (),
) -> Request:
    """Read a request as it is typed.

    Terms are joined by a `+` or a `-` that stands alone; what is behind a `-` is not to be shown. A term with a comma,
    a `?` that stands alone, or quotes is a query of units, exactly as written (`parse_query`): `person, riding, ?`.
    Any other is English (`read_phrase`): `a person riding a brown horse`. Up to three words that are known, each in its
    place, are the same either way.

    Args:
        words: One string, or the words of a command line, where one that holds spaces is a unit of several words.
        facts: What the model knows (`FactEmbedder.facts`).
        like: Example photos: what they show is asked for.
        unlike: Example photos: what they show is not to be shown.

    Raises:
        UserError: a term cannot be read or is empty, nothing is asked for, or only what is not to be shown.
    """
    terms: list[Term] = []
    left_out: list[str] = []
    for excluded, term in _signed_terms(words if isinstance(words, str) else _typed(words)):
        queries, unused = _read_term(term, facts)
        if excluded and len(queries) > 1:
            raise UserError(f"{term!r} asks for several things; put a minus before each that a photo must not show")
        terms += [Term(query, excluded) for query in queries]
        left_out += unused
    terms += [Term(Path(photo)) for photo in like] + [Term(Path(photo), excluded=True) for photo in unlike]
    return Request(tuple(terms), tuple(left_out))


def notes_on(request: Request, embedder: Embedder, vocabulary: Sequence[Sequence[str]] | None) -> list[str]:
    """What a reader should know of how a request was understood: words left out, and new words with the nearest known.

    Args:
        request: The request.
        embedder: Gives the texts their vectors.
        vocabulary: The known subjects, predicates and objects; None where they are not known.
    """
    notes = [f"left out: {' '.join(request.left_out)}"] if request.left_out else []
    for query in (term.wanted for term in request.terms if isinstance(term.wanted, Query)):
        for new in unknown_units(query, embedder, vocabulary):
            nearest = f" (nearest known: {new.nearest}, cosine {new.cosine:.2f})" if new.nearest else ""
            notes.append(
                f"{new.text!r} was never trained as {with_article(new.unit)}: answered by the text encoder{nearest}"
            )
    return list(dict.fromkeys(notes))


# --- as typed --------------------------------------------------------------------------------------------------------


def _typed(words: Sequence[str]) -> str:
    """The words of a command line as one string; a word that is a term by itself may be a phrase."""
    typed: list[str] = []
    for signs, group in itertools.groupby(words, key=lambda word: word in (PLUS, MINUS)):
        term = list(group)
        typed += term if signs or len(term) == 1 else map(_as_unit, term)
    return " ".join(typed)


def _signed_terms(typed: str) -> Iterator[tuple[bool, str]]:
    """(excluded, words) of each term."""
    if typed.count('"') % 2:
        raise UserError(f"the request {typed!r} has a quote that is not closed")
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    for word in re.findall(r'[^\s"]*"[^"]*"[^\s"]*|\S+', typed):
        if word in (PLUS, MINUS):
            parts.append((word == MINUS, []))
        else:
            parts[-1][1].append(word)
    if not parts[0][1]:  # nothing stands before the first sign
        parts = parts[1:]
    for excluded, words in parts:
        if not words:
            raise UserError(f"nothing stands behind a {MINUS if excluded else PLUS} in the request {typed!r}")
        yield excluded, " ".join(words)


def _read_term(term: str, facts: Sequence[Fact]) -> tuple[tuple[Query, ...], tuple[str, ...]]:
    if '"' in term or "," in term or WILDCARD in term.split():
        return (parse_query(term),), ()
    reading = read_phrase(term, facts)
    return reading.queries, reading.left_out


def _as_unit(word: str) -> str:
    return f'"{word}"' if " " in word and "," not in word and '"' not in word else word


def _shown(wanted: Query | Path) -> str:
    return str(wanted) if isinstance(wanted, Query) else f"like {wanted}"


def with_article(unit: str) -> str:
    """`a subject`, `an object`."""
    return f"an {unit}" if unit == "object" else f"a {unit}"
