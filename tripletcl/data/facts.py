"""Facts `<subject, predicate, object>`, and queries: facts with wildcards, `person, riding, ?`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tripletcl.data.words import plain_text, visible_text
from tripletcl.errors import UserError, excerpt

UNITS = ("subject", "predicate", "object")
"""The three units of a fact, in the order of every array's unit axis."""

WILDCARD = "?"
USAGE = 'write a query as up to three words, person riding horse, with "?" for any, and quote or separate by commas a '
USAGE += 'unit of several words: "black dog" running ?, or black dog, running, ?'

LONGEST_REQUEST = 2000
"""Characters of a query, a request or a phrase, however it is given."""

CURLY_QUOTES = str.maketrans("\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}", '""')


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of order 1 `<S>`, 2 `<S, P>` or 3 `<S, P, O>`; a unit it lacks is None.

    Units have single blanks and Unicode's composed form (NFC); invisible characters are dropped.

    Raises:
        UserError: the subject is empty, or there is an object but no predicate.
    """

    subject: str
    predicate: str | None = None
    object: str | None = None

    def __post_init__(self) -> None:
        for unit in UNITS:
            text = getattr(self, unit)
            object.__setattr__(self, unit, plain_text(text) or None if text is not None else None)
        if self.subject is None:
            raise UserError("a fact needs a subject, but its subject is empty")
        if self.object is not None and self.predicate is None:
            raise UserError(f"fact <{self.subject}, , {self.object}> has an object but no predicate")

    @property
    def units(self) -> tuple[str, str | None, str | None]:
        """(subject, predicate, object)."""
        return self.subject, self.predicate, self.object

    @property
    def order(self) -> int:
        """The number of units: 1, 2 or 3."""
        return sum(unit is not None for unit in self.units)

    def __str__(self) -> str:
        return f"<{', '.join(unit for unit in self.units if unit is not None)}>"


@dataclass(frozen=True, slots=True)
class Query:
    """A fact to search for; a unit that is None (or "?") may be anything.

    Raises:
        UserError: no unit is given, one is no text, or they are too long.
    """

    subject: str | None = None
    predicate: str | None = None
    object: str | None = None

    def __post_init__(self) -> None:
        for unit in UNITS:
            if not isinstance(getattr(self, unit), str | None):
                raise UserError(f"the {unit} of a query is a text or None, not {getattr(self, unit)!r:.60}")
        check_request("".join(unit or "" for unit in self.units))
        for unit in UNITS:
            text = plain_text(getattr(self, unit) or "")
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
    text = check_request(words if isinstance(words, str) else " ".join(words))
    units = _typed_units(text) if isinstance(words, str) or "," in text else list(words)
    if len(units) > len(UNITS):
        raise UserError(f"the query {excerpt(text)} has {len(units)} units, and a fact has three; {USAGE}")
    return Query(*units)


def as_query(query: str | Query | Fact) -> Query:
    """Convert a string (parsed) or a fact (a unit that it lacks becomes a wildcard) to a query.

    Raises:
        UserError: it is none of these, or the string cannot be read.
    """
    if isinstance(query, str):
        return parse_query(query)
    if not isinstance(query, Query | Fact):
        raise UserError(f"a query is a text, a Query or a Fact, not {type(query).__name__}")
    return Query(*query.units) if isinstance(query, Fact) else query


def check_request(text: str) -> str:
    """Return a text as typed, with straight quotes and in Unicode's composed form.

    Raises:
        UserError: it is longer than LONGEST_REQUEST, or no Unicode.
    """
    if len(text) > LONGEST_REQUEST:
        raise UserError(
            f"the request {excerpt(text)} has {len(text):,} characters, and at most {LONGEST_REQUEST:,} are read"
        )
    if any("\ud800" <= letter <= "\udfff" for letter in text):  # bytes of a command line that are no UTF-8
        raise UserError(f"the request {excerpt(text)} has bytes that are no text in this terminal's encoding")
    return visible_text(text).translate(CURLY_QUOTES)


def _typed_units(text: str) -> list[str]:
    """The units of a text: between commas if there is one outside quotes, else between spaces."""
    if text.count('"') % 2:
        raise UserError(f"the query {excerpt(text)} has a quote that is not closed; {USAGE}")
    pieces = re.findall(r'"[^"]*"|,|[^,"]+', text)
    if "," not in pieces:
        return [unit.strip('"') for unit in re.findall(r'"[^"]*"|[^\s"]+', text)]
    units = [""]
    for piece in pieces:
        if piece == ",":
            units.append("")
        else:
            units[-1] += piece
    return [unit.strip().strip('"') for unit in units]
