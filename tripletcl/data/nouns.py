"""Nouns by the kinds of things that they name: a motorbike is a motorcycle, a child a person.

From WordNet 3.0 (Miller, "WordNet: a lexical database for English", Communications of the ACM 38, 1995), in the file
nouns.txt: the common nouns of what photos can show, each by its first sense. `benchmarks/wordnet.py` makes it.
"""

from __future__ import annotations

from collections.abc import Container
from functools import cache, lru_cache
from pathlib import Path

from tripletcl.data.words import singular

FILE = Path(__file__).with_name("nouns.txt")


@lru_cache(maxsize=2**16)
def kinds_of(noun: str) -> tuple[str, ...]:
    """Return the nouns that name a thing: its own, those of the same meaning and those of broader ones, nearest first.

    A motorbike is a motorcycle and a vehicle. A meaning comes after all that are narrower.

    Args:
        noun: The noun, in any number and case.

    Returns:
        In lower case, the noun itself in the singular; empty for one that is rare, a name, no noun of what photos can
        show, or many things.
    """
    nouns, broader = _table()
    noun = plain_noun(noun)
    meanings = [nouns[noun]] if noun in nouns else []
    for meaning in meanings:  # grows, layer by layer: the broader ones follow
        meanings += broader[meaning]
    farthest = reversed(dict.fromkeys(reversed(meanings)))  # each one once, in its last layer
    others = (each for meaning in farthest for each in meaning if each != noun)
    return (noun, *others) if meanings else ()


def known_kind(noun: str, known: Container[str]) -> str | None:
    """Return the nearest of the nouns that name a thing (`kinds_of`) which is among known ones; None if none is."""
    return next((each for each in kinds_of(noun) if each in known), None)


def plain_noun(noun: str) -> str:
    """Return a noun as `kinds_of` names it: in lower case, and in the singular."""
    noun = noun.casefold()
    *front, last = noun.split() or [noun]
    return noun if noun in _table()[0] else " ".join([*front, singular(last)])


def all_nouns() -> list[str]:
    """Return the nouns whose kinds are known."""
    return list(_table()[0])


@cache
def _table() -> tuple[dict[str, tuple[str, ...]], dict[tuple[str, ...], list[tuple[str, ...]]]]:
    """The meaning of each noun, and the broader meanings of each meaning; a meaning is the tuple of its nouns."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    parts = [line.partition(": ") for line in lines]
    parents = {tuple(nouns.split(", ")): above.split(", ") if above else [] for nouns, _, above in parts}
    nouns = {noun: meaning for meaning in parents for noun in meaning}
    return nouns, {meaning: [nouns[first] for first in above] for meaning, above in parents.items()}
