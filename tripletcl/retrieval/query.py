"""Queries as vectors, and the units of a query that a model was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.data.query import Query
from tripletcl.retrieval.model import Embedder


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
