"""Facts as they are typed for a lesson: "a person riding a unicycle", in the words that a run knows."""

from __future__ import annotations

from collections.abc import Sequence

from tripletcl.data.facts import WILDCARD, Fact, Query, check_request, parse_query
from tripletcl.data.folding import fold_facts
from tripletcl.data.words import singular, spelling, split_words
from tripletcl.errors import UserError, excerpt
from tripletcl.retrieval.lexicon import OBJECT, PREDICATE, SUBJECT, Lexicon, lexicon_of
from tripletcl.retrieval.phrases import read_phrase
from tripletcl.retrieval.request import SIGNS

FORM = "write its units between commas, as in person, riding, unicycle"


def read_fact(typed: str | Fact, facts: Sequence[Fact]) -> Fact:
    """Read the fact of a lesson like a query, in the words that a run knows.

    Units between commas or quotes stand as written, but for spellings and forms of known ones.

    Args:
        typed: A fact, or words such as "a person riding a horse".
        facts: The facts that the run knows.

    Raises:
        UserError: it has a wildcard, a sign, or no subject, says several things, or can be read in several ways.
    """
    if isinstance(typed, Fact):
        return _in_known_words(typed, facts)
    text, lexicon = check_request(typed), lexicon_of(tuple(facts))
    if WILDCARD in text.replace(",", " ").split():
        raise UserError(f"{excerpt(text)} has a {WILDCARD!r}: a fact to be taught has no wildcard")
    known = lexicon.fact_named(text)
    if known is not None and known[SUBJECT]:
        return _fact(text, Query(*known))
    if '"' in text or "," in text:
        return _in_known_words(_fact(text, parse_query(text)), facts)
    if signs := [word for word in text.split() if word in SIGNS or word[0] in SIGNS]:
        raise UserError(
            f"{excerpt(text)} has {excerpt(signs[0])}, which in a query joins or excludes, and a lesson is one fact; "
            f"if it is part of a unit, {FORM}"
        )
    return _read_phrase(text, facts, lexicon)


def _read_phrase(text: str, facts: Sequence[Fact], lexicon: Lexicon) -> Fact:
    reading = read_phrase(text, facts)
    if len(reading.queries) > 1 or reading.left_out:
        parts = " + ".join(map(str, reading.queries))
        rest = f", without {excerpt(' '.join(reading.left_out))}" if reading.left_out else ""
        raise UserError(f"{excerpt(text)} is read as {parts}{rest}, and a lesson teaches one fact; {FORM}")
    query = reading.queries[0]
    if query.subject is None and query.predicate is None:
        query = Query(query.object)
    if not _is_clear(text, query, lexicon):
        words, quoted = ", ".join(split_words(text)), f'"{text}"'
        raise UserError(
            f"{excerpt(text)} can be read in several ways: separate its units by commas, as in {excerpt(words)}, or "
            f"put one of several words in quotes, as in {excerpt(quoted)}"
        )
    return _fact(text, query)


def _is_clear(text: str, query: Query, lexicon: Lexicon) -> bool:
    """True if words that the run knows, or a verb, decide where each unit ends, and no noun stands for another."""
    words = set(map(singular, spelling(text).split()))
    if any(singular(word) not in words for noun in (query.subject, query.object) for word in (noun or "").split()):
        return False  # "painting" is no form of the known "paint"
    if len(spelling(text).split()) == 1:
        return True
    known = [
        unit is None or lexicon.find(unit.split(), place) is not None
        for place, unit in zip((SUBJECT, PREDICATE, OBJECT), query.units, strict=True)
    ]
    verb = (query.predicate or "").split()
    return all(known) or (bool(verb) and (known[PREDICATE] or verb[0].endswith("ing")))


def _fact(text: str, query: Query) -> Fact:
    if query.subject is None:
        raise UserError(f"{excerpt(text)} has no subject; {FORM}")
    if query.object is not None and query.predicate is None:
        raise UserError(f"{excerpt(text)} is read as {query}, which has no predicate; {FORM}")
    return Fact(query.subject, query.predicate, query.object)


def _in_known_words(fact: Fact, facts: Sequence[Fact]) -> Fact:
    return fold_facts({fact: 1}, facts)[0].get(fact, fact)
