"""Presence of what is asked for in a collection: "nothing here shows that" is an answer, too.

It is given for words that a model answers by what it knew before it was taught (`tripletcl.embedding.base`). For others
the scores do not tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from tripletcl.data.facts import UNITS, Fact, Query
from tripletcl.errors import excerpt
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.index import FactIndex
from tripletcl.retrieval.model import BaseEmbedder, Embedder
from tripletcl.retrieval.request import Request, query_vectors

FAMILIAR = 0.4
"""The least cosine of a word and the description of a class with which the base knows the word."""
SEEN = 0.14
"""The least probability with which one of the first photos shows it. Both are measured in docs/measured/base.md."""
ALIKE = 0.8
"""The least similarity of two spellings (`difflib`) of which one may be meant by the other."""
FIRST = 5
"""Photos that are looked at."""


def absent(
    request: Request, index: FactIndex, embedder: Embedder, where: Filter | None = None, known: Sequence[Fact] = ()
) -> list[str]:
    """Say for each word that photos should show whether the model does not know it, or no photo shows it.

    Args:
        request: The request.
        index: The photos.
        embedder: The model that made the index.
        where: Only photos that meet it are looked at.
        known: Facts whose words a misspelt one may be.

    Returns:
        A sentence each; none for words that photos may show.

    Raises:
        UserError: no photo meets the filter.
    """
    if not isinstance(embedder, BaseEmbedder) or not len(index):
        return []
    sentences: list[str] = []
    for text, unit in dict.fromkeys(_wanted(request)):
        familiarity = embedder.familiarity(text, unit)
        if familiarity is None:
            continue
        if familiarity < FAMILIAR:
            sentences.append(f"{excerpt(text)} is nothing that this model knows: {_advice(text, known)}")
        elif not _is_seen(text, unit, index, embedder, where):
            sentences.append(f"nothing here shows {excerpt(text)}; the closest photos follow")
    return sentences


def _advice(text: str, known: Sequence[Fact]) -> str:
    """Ask for a known word that is spelled nearly like a text; without one, for photos."""
    words = {unit.casefold(): unit for fact in known for unit in fact.units if unit is not None}
    close = get_close_matches(text.casefold(), words, n=1, cutoff=ALIKE)
    return f"did you mean {excerpt(words[close[0]])}?" if close else "teach it by a few photos"


def _wanted(request: Request) -> Iterator[tuple[str, int]]:
    for term in request.terms:
        if isinstance(term.wanted, Query) and not term.excluded:
            yield from ((text, unit) for unit, text in enumerate(term.wanted.units) if text is not None)


def _is_seen(text: str, unit: int, index: FactIndex, embedder: BaseEmbedder, where: Filter | None) -> bool:
    alone = Query(*(text if number == unit else None for number in range(len(UNITS))))
    [(_, rows)] = index.search_rows(query_vectors([alone], embedder), FIRST, where)
    vectors = index.rows(rows).reshape(len(rows), len(UNITS), -1)[:, unit]
    return bool((embedder.seen_by_base(text, vectors, unit) >= SEEN).any())
