"""Queries over photos: a fact with wildcards, `person, riding, ?`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tripletcl.data.facts import UNITS, Fact
from tripletcl.errors import UserError
from tripletcl.retrieval.model import Embedder

WILDCARD = "?"
HOW = 'write a query as up to three words, person riding horse, with "?" for any, and quote or separate by commas a '
HOW += 'unit of several words: "black dog" running ?, or black dog, running, ?'


@dataclass(frozen=True, slots=True)
class Query:
    """What a photo is asked to show; a unit that is None (or "?") may be anything.

    Raises:
        UserError: no unit is given.
    """

    subject: str | None = None
    predicate: str | None = None
    object: str | None = None

    def __post_init__(self) -> None:
        for unit in UNITS:
            text = " ".join((getattr(self, unit) or "").split())
            object.__setattr__(self, unit, None if text in ("", WILDCARD) else text)
        if not any(self.units):
            raise UserError(f"a query of wildcards only asks for nothing; give at least one of {', '.join(UNITS)}")

    @property
    def units(self) -> tuple[str | None, str | None, str | None]:
        """(subject, predicate, object)."""
        return self.subject, self.predicate, self.object

    def __str__(self) -> str:
        return f"<{', '.join(unit or WILDCARD for unit in self.units)}>"


def parse_query(words: str | Sequence[str]) -> Query:
    """Read a query as it is typed.

    Words are the units in order, `?` is any unit, and units left out at the end are any: `["person", "riding"]`,
    `["?", "riding"]`, `["black dog", "running"]`. Where there is a comma, commas separate the units:
    `"black dog, running, ?"`. A string without a comma is split at spaces, and double quotes keep a unit together.

    Raises:
        UserError: there are more than three units, only wildcards, or a quote is not closed.
    """
    text = words if isinstance(words, str) else " ".join(words)
    units = _typed_units(text) if isinstance(words, str) or "," in text else list(words)
    if len(units) > len(UNITS):
        raise UserError(f"the query {text!r} has {len(units)} units, and a fact has three; {HOW}")
    return Query(*units)


def as_query(query: str | Query | Fact) -> Query:
    """A string is parsed; the units a fact lacks are wildcards."""
    if isinstance(query, str):
        return parse_query(query)
    return Query(*query.units) if isinstance(query, Fact) else query


def query_vectors(queries: Sequence[Query], embedder: Embedder) -> np.ndarray:
    """The three unit vectors of each query side by side, a zero block for a wildcard.

    The inner product with an image's three blocks is then the sum of the cosines of the units asked for, whichever
    they are. A unit the model was never trained on is answered by its text encoder; see `unknown_units`.

    Returns:
        `[Q, 3 * D]` float32.
    """
    texts = list(dict.fromkeys(unit for query in queries for unit in query.units if unit))
    if not texts:
        return np.zeros((0, 0), dtype=np.float32)
    vectors = embedder.encode_units(texts).detach().float().cpu().numpy()  # [n, D]
    row = dict(zip(texts, vectors, strict=True))
    wildcard = np.zeros(vectors.shape[1], dtype=np.float32)
    return np.stack([np.concatenate([row[unit] if unit else wildcard for unit in query.units]) for query in queries])


def query_vector(query: Query, embedder: Embedder) -> np.ndarray:
    """`query_vectors` of one query, `[3 * D]` float32."""
    return query_vectors([query], embedder)[0]


@dataclass(frozen=True, slots=True)
class UnknownUnit:
    """A unit of a query that the model was not trained on.

    Attributes:
        unit: "subject", "predicate" or "object".
        text: What was asked for.
        nearest: The unit the model knows whose text is nearest; None where it knows none.
        cosine: The cosine of the two texts.
    """

    unit: str
    text: str
    nearest: str | None
    cosine: float | None


def unknown_units(query: Query, embedder: Embedder, vocabulary: Sequence[Sequence[str]] | None) -> list[UnknownUnit]:
    """The units of a query that are not in the model's vocabulary, each with the nearest that is.

    Args:
        query: The query.
        embedder: Gives the texts their vectors.
        vocabulary: The known subjects, predicates and objects; None where they are not known, and then nothing is
            called unknown.
    """
    if vocabulary is None:
        return []
    return [
        _nearest(name, text, list(known), embedder)
        for name, text, known in zip(UNITS, query.units, vocabulary, strict=True)
        if text is not None and text.casefold() not in {word.casefold() for word in known}
    ]


def _nearest(unit: str, text: str, known: list[str], embedder: Embedder) -> UnknownUnit:
    if not known:
        return UnknownUnit(unit, text, None, None)
    vectors = embedder.encode_units([text, *known]).detach().float().cpu()
    cosine, place = (vectors[1:] @ vectors[0]).max(dim=0)
    return UnknownUnit(unit, text, known[int(place)], float(cosine))


def _typed_units(text: str) -> list[str]:
    if text.count('"') % 2:
        raise UserError(f"the query {text!r} has a quote that is not closed; {HOW}")
    units = text.split(",") if "," in text else re.findall(r'"[^"]*"|[^\s"]+', text)
    return [unit.strip().strip('"') for unit in units]
