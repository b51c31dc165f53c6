"""Presence of what is asked for in a collection: "nothing here shows that" is an answer, too.

The evidence for a word that a model was not taught is what its base sees in the photos (`TextBase.seen`); for a taught
fact it is the fact's score in a photo, relative to the mean of those that taught it. The **presence** is one scale for
both: the share of words, or of facts, shown by some photo of a large collection, for which there is no more evidence
(a conformal p-value: Vovk et al., "Algorithmic Learning in a Random World", 2005). Whatever has less than LEAST is said
to be shown by nothing, so that a tenth of what photos show is wrongly said to be missing. docs/measured/base.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tripletcl.data.facts import UNITS, Query
from tripletcl.errors import excerpt
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.index import FactIndex
from tripletcl.retrieval.model import BaseEmbedder, Embedder
from tripletcl.retrieval.request import Request, query_vectors

FAMILIAR = 0.4
"""The least cosine of a word and the description of a class with which the base knows the word."""
LEAST = 0.1
"""The presence below which nothing is said to show it."""
FIRST = 50
"""Photos that are looked at for a word; for a taught fact all are."""
BEST = 2
"""The photo whose score is the evidence of a taught fact, counted from the best: the best one may be an accident."""

SHARES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
SEEN = (0.033, 0.056, 0.077, 0.164, 0.258, 0.473, 0.757, 0.958, 0.999)
SCORED = (0.318, 0.446, 0.465, 0.501, 0.555, 0.606, 0.665, 0.84, 1.455)
"""Quantiles of the evidence for words and for taught facts that photos show, at these shares. Measured in
docs/measured/base.md."""


@dataclass(frozen=True)
class Presence:
    """Presence of something that photos should show.

    Attributes:
        text: The word, or the query that asks taught facts.
        value: The share of what photos show that has no more evidence, in [0, 1]; None for a word that the model does
            not know.
    """

    text: str
    value: float | None

    @property
    def sentence(self) -> str | None:
        """The answer for a reader; None where photos may show it."""
        if self.value is None:
            return f"{excerpt(self.text)} is nothing that this model knows: teach it by a few photos"
        if self.value >= LEAST:
            return None
        return (
            f"nothing here shows {excerpt(self.text)} (presence {self.value:.2f}, where {LEAST:g} of what photos show "
            f"has less than {LEAST:g}); the closest photos follow"
        )


def presences(request: Request, index: FactIndex, embedder: Embedder, where: Filter | None = None) -> list[Presence]:
    """Measure the presence of each taught fact that a request asks, and of each word of it that was not taught.

    Args:
        request: The request.
        index: The photos.
        embedder: The model that made the index.
        where: Only photos that meet it are looked at.

    Returns:
        One each; empty for a model without a base, whose scores do not tell.

    Raises:
        UserError: no photo meets the filter.
    """
    if not isinstance(embedder, BaseEmbedder) or not len(index):
        return []
    queries = (term.wanted for term in request.terms if isinstance(term.wanted, Query) and not term.excluded)
    found = (each for query in queries for each in _of_query(query, index, embedder, where))
    return list({each.text: each for each in found}.values())


def _of_query(query: Query, index: FactIndex, embedder: BaseEmbedder, where: Filter | None) -> Iterator[Presence]:
    taught = embedder.encode_levelled(query.units)
    value = _share(_best_score(taught, index, where), SCORED) if len(taught) else 0.0
    others, cosine = embedder.also_asked(query.units)
    if len(taught) and (value >= LEAST or not others):
        yield Presence(" ".join(filter(None, query.units)), value)
        return
    for unit, text in enumerate(query.units):
        if text is None or (familiarity := embedder.familiarity(text, unit)) is None:
            continue
        if familiarity < FAMILIAR:
            yield Presence(text, value if others and cosine is None else None)
        else:
            yield Presence(text, _share(best_seen(text, unit, index, embedder, where), SEEN))


def _best_score(taught: np.ndarray, index: FactIndex, where: Filter | None) -> float:
    """The evidence for the best of the taught facts whose vectors these are."""
    found = index.search_rows(taught.reshape(len(taught), -1), BEST, where)
    return max(float(scores[-1]) for scores, _ in found)


def best_seen(text: str, unit: int, index: FactIndex, embedder: BaseEmbedder, where: Filter | None) -> float:
    """Measure the evidence for a word that was not taught: the most of its FIRST photos."""
    alone = Query(*(text if number == unit else None for number in range(len(UNITS))))
    [(_, rows)] = index.search_rows(query_vectors([alone], embedder), FIRST, where)
    vectors = index.rows(rows).reshape(len(rows), len(UNITS), -1)[:, unit]
    return float(embedder.seen_by_base(text, vectors, unit).max())


def _share(evidence: float, quantiles: Sequence[float]) -> float:
    return float(np.interp(evidence, quantiles, SHARES))
