"""Known words that are probably meant by unknown ones: "did you mean person riding horse?"."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence

from tripletcl.data.facts import UNITS, WILDCARD, Fact, Query
from tripletcl.data.nouns import kinds_of, known_kind
from tripletcl.errors import excerpt
from tripletcl.retrieval.lexicon import PREDICATE
from tripletcl.retrieval.request import MINUS, PLUS, Request, Term

ALIKE = 0.78
"""The least similarity of two spellings of which one may be meant by the other: one error in five letters."""

CANDIDATES = 5
"""Words spelled nearly like one, among those of a base, that are tried."""

IsKnown = Callable[[str, int], bool]
"""From a text and the number of its unit to whether a model knows it."""


def suggestion(request: Request, facts: Sequence[Fact], is_known: IsKnown, words: Sequence[str] = ()) -> str | None:
    """Write a request again in known words where it has nouns of their kinds, or words that are spelled nearly so.

    The similarity of spellings is `1 - distance / length of the longer word` by the distance of Damerau and Levenshtein
    (OSA), which counts two letters that changed places as one error.

    Args:
        request: The request.
        facts: The facts whose units are known.
        is_known: Of a text and its unit; known ones stay as they are.
        words: Single words that may be meant, too, where they are known: those that describe what a base knows.

    Returns:
        The request; None where no word has another one.
    """
    terms = [_respelled(term, facts, is_known, words) for term in request.terms]
    if all(new is term for new, term in zip(terms, request.terms, strict=True)):
        return None
    words = [f"{MINUS if term.excluded else PLUS} {_words_of(term.wanted)}" for term in terms if _is_words(term)]
    return " ".join(words).removeprefix(f"{PLUS} ")


def known_word(text: str, unit: int, facts: Sequence[Fact], is_known: IsKnown, words: Sequence[str] = ()) -> str | None:
    """The known word that a text of a unit probably means: that of its kind, else the one spelled most nearly so.

    A noun whose kinds are known is no misspelt other one: a fountain is no mountain. See `suggestion`.
    """
    known = {word.casefold(): word for fact in facts for place in _places(unit) if (word := fact.units[place])}
    if unit != PREDICATE and kinds_of(text):
        kind = known_kind(text, known)
        return None if kind is None else known[kind]
    return _similar_word(text, known) or _similar_plain_word(text, unit, words, is_known)


def _places(unit: int) -> list[int]:
    return [PREDICATE] if unit == PREDICATE else [place for place in range(len(UNITS)) if place != PREDICATE]


def _similar_word(text: str, known: Mapping[str, str]) -> str | None:
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    found = process.extractOne(text.casefold(), list(known), scorer=OSA.normalized_similarity, score_cutoff=ALIKE)
    return None if found is None or found[0] == text.casefold() else known[found[0]]


def _similar_plain_word(text: str, unit: int, words: Sequence[str], is_known: IsKnown) -> str | None:
    """The word among many, known as this unit, that a text is spelled most nearly like; None if none is."""
    from rapidfuzz import process
    from rapidfuzz.distance import OSA

    similarity = OSA.normalized_similarity
    found = process.extract(text.casefold(), words, scorer=similarity, score_cutoff=ALIKE, limit=CANDIDATES)
    return next((word for word, *_ in found if word != text.casefold() and is_known(word, unit)), None)


def foreign_script(request: Request) -> str | None:
    """Say that words have letters of another script than the Latin one; None if they have not."""
    for term in request.terms:
        for text in filter(None, term.wanted.units if isinstance(term.wanted, Query) else ()):
            if any(letter.isalpha() and not unicodedata.name(letter, "").startswith("LATIN") for letter in text):
                return (
                    f"{excerpt(text)} is in a script that the bundled text encoder does not know: write it in English"
                )
    return None


def _respelled(term: Term, facts: Sequence[Fact], is_known: IsKnown, words: Sequence[str]) -> Term:
    """The term in known words; the same object if nothing is changed."""
    if not isinstance(term.wanted, Query):
        return term
    units = list(term.wanted.units)
    for unit, text in enumerate(units):
        if text is not None and not is_known(text, unit):
            units[unit] = known_word(text, unit, facts, is_known, words) or text
    return term if tuple(units) == term.wanted.units else Term(Query(*units), term.excluded)


def _is_words(term: Term) -> bool:
    return isinstance(term.wanted, Query)


def _words_of(wanted: object) -> str:
    """A query as it would be typed, units of several words between commas."""
    assert isinstance(wanted, Query)
    units = [unit or WILDCARD for unit in wanted.units]
    while units[-1] == WILDCARD:
        units.pop()
    return ", ".join(units) if any(" " in unit for unit in units) or WILDCARD in units else " ".join(units)
