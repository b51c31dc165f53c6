"""Days that the words of a request name: `dogs in the snow, winter 2019`, `person riding horse in June 2018`."""

from __future__ import annotations

import calendar
import datetime
import re

from tripletcl.retrieval.filters import Filter

MONTHS = {
    **{name.lower(): number for number, name in enumerate(calendar.month_name) if name},
    **{name.lower(): number for number, name in enumerate(calendar.month_abbr) if name},
    "sept": 9,
}
SEASONS = {"winter": 12, "spring": 3, "summer": 6, "autumn": 9, "fall": 9}
"""The month that each begins with, in the north."""

DAYS = re.compile(
    rf"(?P<rest>.*?)(?:\s*,\s*(?:in\s+)?(?:the\s+)?|\s+in\s+(?:the\s+)?)"
    rf"(?:(?P<part>{'|'.join([*MONTHS, *SEASONS])})\.?\s+(?:of\s+)?)?(?P<year>19\d\d|20\d\d)\s*",
    re.IGNORECASE | re.DOTALL,
)


def split_days(text: str) -> tuple[str, Filter]:
    """Separate the days at the end of a request from its other words.

    They are a year, a month and a year, or a season and a year, after a comma or "in". Everything else stays, and so
    does a year that may belong to something else: one after a term that photos must not show.

    A winter has the year of its January, as in the records of meteorologists: winter 2019 is December 2018 to February
    2019.

    Returns:
        The other words, and the days as a filter; an empty one where there are none.
    """
    match = DAYS.fullmatch(text)
    if match is None or not match["rest"].strip() or _ends_excluded(match["rest"]):
        return text, Filter()
    first, last = _days(int(match["year"]), (match["part"] or "").lower())
    return match["rest"].strip(), Filter(after=first, before=last)


def _days(year: int, part: str) -> tuple[datetime.date, datetime.date]:
    if not part:
        return datetime.date(year, 1, 1), datetime.date(year, 12, 31)
    if part in MONTHS:
        return _months(year, MONTHS[part], 1)
    return _months(year - (part == "winter"), SEASONS[part], 3)


def _months(year: int, month: int, count: int) -> tuple[datetime.date, datetime.date]:
    """The first and the last day of some months in a row."""
    last_year, last = divmod(year * 12 + month - 1 + count - 1, 12)
    end = calendar.monthrange(last_year, last + 1)[1]
    return datetime.date(year, month, 1), datetime.date(last_year, last + 1, end)


def _ends_excluded(text: str) -> bool:
    """True if the last term of a text is one that photos must not show."""
    return re.search(r"(?:^|\s)[-!\u2212\u2013\u2014](?:\s[^+]*|\S*)$", text) is not None
