"""Requests as typed, as terms and as vectors: what a photo should show, and should not show."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tripletcl.data.facts import UNITS, WILDCARD, Fact, Query, check_request, parse_query
from tripletcl.data.nouns import known_kind
from tripletcl.errors import UserError, excerpt
from tripletcl.retrieval.filter_words import split_filters
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.lexicon import lexicon_of
from tripletcl.retrieval.model import BaseEmbedder, Embedder, unit_vectors
from tripletcl.retrieval.phrases import read_phrase

PLUS, MINUS = "+", "-"
MOST_NAMED = 3
"""Taught facts beside those of a query that a reader is told of."""

DASHES = dict.fromkeys("-\N{MINUS SIGN}\N{EN DASH}\N{EM DASH}!", MINUS)
"""A minus as it is typed, or as an editor replaces it."""

SIGNS = {"+": PLUS, **DASHES}


@dataclass(frozen=True, slots=True)
class Term:
    """A fact with wildcards, or the content of an example photo, that a photo should show, or should not."""

    wanted: Query | Path
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """Terms that a photo should fulfil all at once.

    Attributes:
        terms: At least one of them is not excluded.
        left_out: Words of phrases that belong to no unit.
        where: The days that the words name; empty where they name none.

    Raises:
        UserError: there is no term, or all are excluded.
    """

    terms: tuple[Term, ...]
    left_out: tuple[str, ...] = ()
    where: Filter = field(default_factory=Filter)

    def __post_init__(self) -> None:
        if not self.terms:
            raise UserError(
                "the request is empty; write what a photo shows, as in person riding horse, or give a photo"
            )
        if all(term.excluded for term in self.terms):
            raise UserError("the request says only what photos are not to show; add what they are to show")

    @property
    def units(self) -> list[tuple[str, int]]:
        """The texts of all terms, each with the number of its unit."""
        wanted = [term.wanted for term in self.terms if isinstance(term.wanted, Query)]
        return [(text, unit) for query in wanted for unit, text in enumerate(query.units) if text is not None]

    def __str__(self) -> str:
        """`<dog, running, ?> - <?, ?, snow>, from 2019-06-01 to 2019-08-31`."""
        words = [f"{MINUS if term.excluded else PLUS} {_wanted_text(term.wanted)}" for term in self.terms]
        return " ".join(words).removeprefix(f"{PLUS} ") + (f", {self.where}" if self.where else "")


def parse_request(
    words: str | Sequence[str] = "",
    facts: Sequence[Fact] = (),
    like: Iterable[str | Path] = (),
    unlike: Iterable[str | Path] = (),
) -> Request:
    """Parse a request as typed.

    Terms are joined by a `+` or a `-` between spaces; a term after a `-` is excluded. In front of a word or a quoted
    text, `-` and `!` exclude only that: `dog -snow`. A term that spells a known fact is that fact. A term with a comma,
    quotes, or a `?` between spaces is a query of units, exactly as written (`parse_query`): `person, riding, ?`. Any
    other term is English (`read_phrase`): `a person riding a brown horse`. Up to three words that are known, each in
    its place, have the same meaning in both. Filters can be among the words (`split_filters`): `dogs in the snow
    folder:Alps, winter 2019`.

    Args:
        words: One string, or the words of a command line, where a word with spaces is a unit of several words.
        facts: The facts that the model knows (`FactEmbedder.facts`).
        like: Example photos of what a photo should show.
        unlike: Example photos of what it should not show.

    Raises:
        UserError: a term is empty or cannot be read, there is no term, all are excluded, or they are too long.
    """
    terms: list[Term] = []
    left_out: list[str] = []
    text = check_request(words if isinstance(words, str) else _join_words(words, facts))
    known = lexicon_of(tuple(facts)).fact_named(text) is not None  # perhaps with a sign or a year in it
    text, where = (text, Filter()) if known else split_filters(text)
    for excluded, term in [(False, text)] if known else _signed_terms(text):
        queries, unused = _read_term(term, facts)
        if excluded and len(queries) > 1:
            raise UserError(
                f"{excerpt(term)} asks for several things; put a minus before each that a photo must not show"
            )
        terms += [Term(query, excluded) for query in queries]
        left_out += unused
    terms += [Term(Path(photo)) for photo in like] + [Term(Path(photo), excluded=True) for photo in unlike]
    return Request(tuple(terms), tuple(left_out), where)


def notes_on(request: Request, embedder: Embedder, vocabulary: Sequence[Sequence[str]] | None) -> list[str]:
    """Describe how a request was read: words left out, and new words with the nearest known one.

    Args:
        request: The request.
        embedder: Encodes the texts.
        vocabulary: The known subjects, predicates and objects; None where they are unknown.
    """
    notes = [f"left out: {' '.join(request.left_out)}"] if request.left_out else []
    for query in (term.wanted for term in request.terms if isinstance(term.wanted, Query)):
        notes += _notes_on_others(query, embedder)
        for new in unknown_units(query, embedder, vocabulary) if not asks_kinds(query, embedder) else ():
            unit = UNITS.index(new.unit)
            if isinstance(embedder, BaseEmbedder) and (answered_by := embedder.nearest_of_base(new.text, unit)):
                notes.append(f"{excerpt(new.text)} was not taught: answered as {', '.join(answered_by)}")
                continue
            nearest = f" (nearest known: {new.nearest}, cosine {new.cosine:.2f})" if new.nearest else ""
            notes.append(
                f"{excerpt(new.text)} was never trained as {with_article(new.unit)}: answered by the text encoder"
                f"{nearest}"
            )
    return list(dict.fromkeys(notes))


def _notes_on_others(query: Query, embedder: Embedder) -> list[str]:
    """Name the taught facts that a query asks although it does not name them."""
    facts, cosine = embedder.also_asked(query.units) if isinstance(embedder, BaseEmbedder) else ([], None)
    if not facts:
        return []
    named = [*map(str, facts[:MOST_NAMED]), *([f"{len(facts) - MOST_NAMED} more"] if len(facts) > MOST_NAMED else [])]
    listed = " and ".join(filter(None, (", ".join(named[:-1]), named[-1])))
    if cosine is None:
        return [f"{query} is of a kind that was taught: it asks {listed}"]
    return [f"{query} is near what was taught: it also asks {listed} (similarity {cosine:.2f})"]


def asks_kinds(query: Query, embedder: Embedder) -> bool:
    """True if a query asks taught facts by the kinds of its things."""
    facts, cosine = embedder.also_asked(query.units) if isinstance(embedder, BaseEmbedder) else ([], None)
    return bool(facts) and cosine is None


# --- vectors ---------------------------------------------------------------------------------------------------------


def query_vectors(queries: Sequence[Query], embedder: Embedder) -> np.ndarray:
    """The three unit vectors of each query side by side, a zero block for a wildcard.

    The inner product with a photo's three blocks is the sum of the cosines of the units asked for, whichever they are.
    A unit that the model was not trained on is answered by its text encoder; see `unknown_units`. A model with a base
    makes the vector of a query as a whole (`TextEmbedder.encode_queries`).

    Returns:
        `[Q, 3 * D]` float32.
    """
    if isinstance(embedder, BaseEmbedder):
        whole = embedder.encode_queries([query.units for query in queries])
        if whole is not None:
            return whole.reshape(len(whole), -1)
    vector_of: dict[tuple[int, str | None], np.ndarray] = {}
    for unit in range(len(UNITS)):
        texts = [text for text in dict.fromkeys(query.units[unit] for query in queries) if text]
        vectors = unit_vectors(embedder, texts, unit) if texts else ()  # [n, D]
        vector_of |= zip(((unit, text) for text in texts), vectors, strict=True)
    if not vector_of:
        return np.zeros((0, 0), dtype=np.float32)
    wildcard = np.zeros_like(next(iter(vector_of.values())))
    rows = [[vector_of.get(each, wildcard) for each in enumerate(query.units)] for query in queries]
    return np.stack([np.concatenate(row) for row in rows])  # [Q, 3 * D]


@dataclass(frozen=True, slots=True)
class UnknownUnit:
    """A unit of a query that the model was not trained on.

    Attributes:
        unit: "subject", "predicate" or "object".
        text: The unit's text.
        nearest: The known unit that a noun is a kind of, else that with the nearest text; None where none is known.
        cosine: The cosine of the two texts.
    """

    unit: str
    text: str
    nearest: str | None
    cosine: float | None


def unknown_units(query: Query, embedder: Embedder, vocabulary: Sequence[Sequence[str]] | None) -> list[UnknownUnit]:
    """The units of a query that are not in the model's vocabulary, each with the nearest known one.

    Args:
        query: The query.
        embedder: Encodes the texts.
        vocabulary: The known subjects, predicates and objects; None where they are unknown, and the list is empty.
    """
    if vocabulary is None:
        return []
    return [
        _find_nearest(name, text, list(known), embedder)
        for name, text, known in zip(UNITS, query.units, vocabulary, strict=True)
        if text is not None and text.casefold() not in {word.casefold() for word in known}
    ]


def _find_nearest(unit: str, text: str, known: list[str], embedder: Embedder) -> UnknownUnit:
    if not known:
        return UnknownUnit(unit, text, None, None)
    vectors = unit_vectors(embedder, [text, *known], UNITS.index(unit))  # [1 + n, D]
    cosines = vectors[1:] @ vectors[0]
    number = {word.casefold(): number for number, word in enumerate(known)}
    kind = known_kind(text, number) if unit != "predicate" else None
    nearest = int(cosines.argmax()) if kind is None else number[kind]
    return UnknownUnit(unit, text, known[nearest], float(cosines[nearest]))


# --- parsing ---------------------------------------------------------------------------------------------------------


def _join_words(words: Sequence[str], facts: Sequence[Fact]) -> str:
    """The words of a command line as one string; a word that is a whole term may be a phrase."""
    joined: list[str] = []
    for signs, group in itertools.groupby(words, key=lambda word: word in SIGNS):
        term = list(group)
        joined += term if signs or len(term) == 1 else (_quote(word, facts) for word in term)
    return " ".join(joined)


def _quote(word: str, facts: Sequence[Fact]) -> str:
    """A word of several words in quotes; one with a comma only if it is a known text, as commas separate units."""
    if '"' in word or not {" ", ","} & set(word) or word[0] in DASHES:
        return word
    return f'"{word}"' if "," not in word or lexicon_of(tuple(facts)).has(word) else word


def _signed_terms(text: str) -> Iterator[tuple[bool, str]]:
    """(excluded, words) of each term."""
    if text.count('"') % 2:
        raise UserError(f"the request {excerpt(text)} has a quote that is not closed")
    parts: list[tuple[bool, list[str]]] = [(False, [])]
    signed: list[tuple[bool, list[str]]] = []  # the words that have a sign in front of them, a term each
    for word in re.findall(r'[^\s"]*"[^"]*"[^\s"]*|\S+', text):
        if word in SIGNS:
            parts.append((SIGNS[word] == MINUS, []))
        elif (word[0] in DASHES or word[0] == PLUS) and re.match(r'[^\W\d]|"', word[1:]):
            signed.append((word[0] != PLUS, [word[1:]]))
        else:
            parts[-1][1].append(word)
    if not parts[0][1]:  # the text begins with a sign
        parts = parts[1:]
    for excluded, words in parts:
        if not words:
            raise UserError(f"nothing follows a {MINUS if excluded else PLUS} in the request {excerpt(text)}")
    for excluded, words in (*parts, *signed):
        yield excluded, " ".join(words)


def _read_term(term: str, facts: Sequence[Fact]) -> tuple[tuple[Query, ...], tuple[str, ...]]:
    if known := lexicon_of(tuple(facts)).fact_named(term):
        return (Query(*known),), ()
    if re.fullmatch(r"<[^<>]+>", term):  # as answers print it
        return (parse_query(term[1:-1]),), ()
    if '"' in term or "," in term or WILDCARD in term.split():
        return (parse_query(term),), ()
    reading = read_phrase(term, facts)
    return reading.queries, reading.left_out


def _wanted_text(wanted: Query | Path) -> str:
    return str(wanted) if isinstance(wanted, Query) else f"like {wanted}"


def with_article(unit: str) -> str:
    """`a subject`, `an object`."""
    return f"an {unit}" if unit == "object" else f"a {unit}"
