"""Queries over photos: a fact with wildcards, `person, riding, ?`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tripletcl.data.facts import UNITS, Fact
from tripletcl.errors import UserError

WILDCARD = "?"
USAGE = 'write a query as up to three words, person riding horse, with "?" for any, and quote or separate by commas a '
USAGE += 'unit of several words: "black dog" running ?, or black dog, running, ?'


@dataclass(frozen=True, slots=True)
class Query:
    """A fact to search for; a unit that is None (or "?") may be anything.

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

    def matches(self, fact: Fact) -> bool:
        """True if the fact has every unit that the query names; capitals do not matter."""
        pairs = zip(self.units, fact.units, strict=True)
        return all(unit is None or unit.casefold() == (own or "").casefold() for unit, own in pairs)

    def __str__(self) -> str:
        return f"<{', '.join(unit or WILDCARD for unit in self.units)}>"


def parse_query(words: str | Sequence[str]) -> Query:
    """Parse a query as a user types it.

    Words are the units in order, `?` is any unit, and units omitted at the end may be anything: `["person", "riding"]`,
    `["?", "riding"]`, `["black dog", "running"]`. If there is a comma, commas separate the units:
    `"black dog, running, ?"`. A string without a comma is split at spaces, and double quotes keep a unit together.

    Raises:
        UserError: there are more than three units, only wildcards, or a quote is not closed.
    """
    text = words if isinstance(words, str) else " ".join(words)
    units = _typed_units(text) if isinstance(words, str) or "," in text else list(words)
    if len(units) > len(UNITS):
        raise UserError(f"the query {text!r} has {len(units)} units, and a fact has three; {USAGE}")
    return Query(*units)


def as_query(query: str | Query | Fact) -> Query:
    """Convert a string (parsed) or a fact (a unit that it lacks becomes a wildcard) to a query."""
    if isinstance(query, str):
        return parse_query(query)
    return Query(*query.units) if isinstance(query, Fact) else query


def _typed_units(text: str) -> list[str]:
    if text.count('"') % 2:
        raise UserError(f"the query {text!r} has a quote that is not closed; {USAGE}")
    units = text.split(",") if "," in text else re.findall(r'"[^"]*"|[^\s"]+', text)
    return [unit.strip().strip('"') for unit in units]
