"""Fold texts of units that are one word in several spellings or forms: "Person", "person." and "persons"."""

from __future__ import annotations

import operator
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.words import singular, spelling, stem
from tripletcl.errors import UserError, excerpt

EXAMPLES = 3
"""Folded texts that a sentence names."""

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Fold:
    """A text of some rows that is read as another one.

    Attributes:
        unit: "subject", "predicate" or "object".
        text: As written.
        reading: The text in its place.
        rows: The number of its rows.
    """

    unit: str
    text: str
    reading: str
    rows: int


def fold_facts(rows: Mapping[Fact, int], known: Collection[Fact] = ()) -> tuple[dict[Fact, Fact], list[Fold]]:
    """Fold the facts of a table whose units are spellings or forms of one another, or of known ones.

    Spellings differ in capitals, punctuation or an article in front: they become the known one, else the most frequent.
    A form of a known unit (`persons`, `rides`) becomes it, unless it spells a known text, as in a query. Forms that a
    table has of its own become the most frequent one if the table has a fact in both, `<person, riding, horse>` and
    `<persons, ride, horse>`: otherwise `swinging on bars` and `jumping over bar` are two things.

    Args:
        rows: The number of rows of each fact.
        known: The facts that a model knows.

    Returns:
        The facts that change, with what they become, and the texts that were folded.

    Raises:
        UserError: a text is a form of several known ones.
    """
    columns = list(zip(*(fact.units for fact in known), strict=True)) or [()] * len(UNITS)
    known_texts = [dict.fromkeys(filter(None, column)) for column in columns]
    everywhere = {spelling(text) for texts in known_texts for text in texts}
    counts = _count(rows)
    readings: list[dict[str, str]] = []
    for unit, texts in enumerate(counts):
        spelled = _fold_spellings(unit, texts, known_texts[unit])
        forms = _fold_known_forms(unit, set(spelled.values()), known_texts[unit], everywhere)
        readings.append({text: forms.get(reading, reading) for text, reading in spelled.items()})
    for unit, forms in enumerate(_fold_own_forms(rows, counts, readings, known_texts)):
        readings[unit] = {text: forms.get(reading, reading) for text, reading in readings[unit].items()}
    folds = [
        Fold(UNITS[unit], text, readings[unit][text], count)
        for unit, texts in enumerate(counts)
        for text, count in texts.items()
        if readings[unit][text] != text
    ]
    return {fact: folded for fact in rows if (folded := _read(fact, readings)) != fact} if folds else {}, folds


def describe_folds(folds: Sequence[Fold]) -> str:
    """Say how many texts were folded, with examples."""
    examples = ", ".join(f"{fold.text!r} as {fold.reading!r} ({fold.rows:,} rows)" for fold in folds[:EXAMPLES])
    more = ", ..." if len(folds) > EXAMPLES else ""
    return f"{len(folds):,} spellings or forms of units are read as another: {examples}{more}"


def _count(rows: Mapping[Fact, int]) -> list[Counter[str]]:
    """The number of rows of each text, by unit."""
    counts: list[Counter[str]] = [Counter() for _ in UNITS]
    for fact, count in rows.items():
        for unit, text in enumerate(fact.units):
            if text is not None:
                counts[unit][text] += count
    return counts


def _read(fact: Fact, readings: Sequence[Mapping[str, str]]) -> Fact:
    return Fact(*(text and readings[unit][text] for unit, text in enumerate(fact.units)))  # type: ignore[arg-type]


def _fold_spellings(unit: int, counts: Counter[str], known: Mapping[str, None]) -> dict[str, str]:
    """The reading of each text of a unit, by its spelling."""
    known_spellings = _group(known, spelling)
    readings: dict[str, str] = {}
    for key, texts in _group(counts, spelling).items():
        best = max(texts, key=counts.__getitem__)
        for text in texts:
            readings[text] = text if text in known else _choose(unit, text, known_spellings.get(key, [best]))
    return readings


def _fold_known_forms(
    unit: int, texts: Iterable[str], known: Mapping[str, None], everywhere: Collection[str]
) -> dict[str, str]:
    """The known text of each text that is another form of it."""
    forms = _group(known, lambda text: _form(unit, text))
    new = [text for text in texts if text not in known and spelling(text) not in everywhere]
    return {text: _choose(unit, text, forms[form]) for text in new if (form := _form(unit, text)) in forms}


def _fold_own_forms(
    facts: Iterable[Fact],
    counts: Sequence[Counter[str]],
    readings: Sequence[Mapping[str, str]],
    known: Sequence[Mapping[str, None]],
) -> list[dict[str, str]]:
    """The reading of each text, by unit, that the table has in several forms of one fact."""
    rows: list[Counter[str]] = [Counter() for _ in UNITS]  # of each reading
    for unit, texts in enumerate(counts):
        for text, count in texts.items():
            rows[unit][readings[unit][text]] += count
    forms = [{text: _form(unit, text) for text in texts} for unit, texts in enumerate(rows)]
    several = [{text for same in _group(of, of.__getitem__).values() if len(same) > 1 for text in same} for of in forms]
    if not any(several):
        return [{} for _ in UNITS]
    read = (tuple(text and readings[unit][text] for unit, text in enumerate(fact.units)) for fact in facts)
    concerned = [units for units in read if any(map(operator.contains, several, units))]
    alike: list[dict[tuple[str, ...], set[str]]] = [defaultdict(set) for _ in UNITS]
    by_forms = _group(concerned, lambda units: tuple(text and forms[unit][text] for unit, text in enumerate(units)))
    for same_facts in by_forms.values():
        for unit, column in enumerate(zip(*same_facts, strict=True)):
            new = {text for text in column if text is not None and text not in known[unit]}
            if len(new) > 1:
                alike[unit][forms[unit][min(new)]] |= new
    return [
        {text: max(sorted(same), key=rows[unit].__getitem__) for same in of.values() for text in same}
        for unit, of in enumerate(alike)
    ]


def _group(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _form(unit: int, text: str) -> tuple[str, ...]:
    """The common part of all forms of a text: a noun's number and a verb's inflection do not matter."""
    return tuple(map(stem if UNITS[unit] == "predicate" else singular, spelling(text).split()))


def _choose(unit: int, text: str, readings: Sequence[str]) -> str:
    if len(readings) > 1:
        choices = " or ".join(map(excerpt, readings))
        raise UserError(f"the {UNITS[unit]} {excerpt(text)} is a form of several known ones: write {choices}")
    return readings[0]
