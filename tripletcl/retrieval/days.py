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

_MONTH_OR_SEASON = "|".join([*MONTHS, *SEASONS])


def _date(name: str) -> str:
    """A year, perhaps with a month or a season before it, as the groups `part` and `year` with a number."""
    return rf"(?:(?P<part{name}>{_MONTH_OR_SEASON})\.?\s+(?:of\s+)?)?(?P<year{name}>19\d\d|20\d\d)"


DAYS = re.compile(
    r"(?P<rest>.*?)(?:\s*,\s*|\s+(?=(?:in|since|from|until|between)\s))(?:in\s+)?(?:the\s+)?"
    rf"(?:(?P<open>since|until)\s+{_date('')}|(?:(?:from|between)\s+)?{_date('1')}\s*(?:to|until|and|-|\u2013)\s*"
    rf"{_date('2')}|(?:from\s+)?{_date('3')})\s*",
    re.IGNORECASE | re.DOTALL,
)


RELATIVE = re.compile(
    rf"(?P<rest>.*?)(?:\s*,|\s)\s*(?:(?:in|from)\s+)?(?:(?P<day>today|yesterday)|"
    rf"(?P<which>last|this)\s+(?P<part>year|{'|'.join(SEASONS)}))\s*",
    re.IGNORECASE | re.DOTALL,
)


def split_days(text: str, today: datetime.date | None = None) -> tuple[str, Filter]:
    """Separate the days at the end of a request from its other words.

    They are a year, a month and a year, or a season and a year, after a comma, "in" or "from"; two of them with "to",
    "until", "and" or a dash between, "from" or "between" before; or one after "since" or "until". They may also be last
    or this year or season, today or yesterday: last summer is the latest that has ended. Everything else stays, and so
    does a year that may belong to something else: one after a term that photos must not show.

    A winter has the year of its January, as in the records of meteorologists: winter 2019 is December 2018 to February
    2019.

    Args:
        text: The request.
        today: By the clock, if None.

    Returns:
        The other words, and the days as a filter; an empty one where there are none.
    """
    match = DAYS.fullmatch(text) or RELATIVE.fullmatch(text)
    if match is None or not match["rest"].strip() or _ends_excluded(match["rest"]):
        return text, Filter()
    return match["rest"].strip(), _span(match) if match.re is DAYS else _relative(match, today or datetime.date.today())


def _span(match: re.Match[str]) -> Filter:
    def days(name: str) -> tuple[datetime.date, datetime.date]:
        return _days(int(match[f"year{name}"]), (match[f"part{name}"] or "").lower())

    if match["year1"]:
        return Filter(after=days("1")[0], before=days("2")[1])
    if match["year3"]:
        return Filter(*days("3"))
    first, last = days("")
    return Filter(before=last) if match["open"].lower() == "until" else Filter(after=first)


def _relative(match: re.Match[str], today: datetime.date) -> Filter:
    if day := match["day"]:
        day = today - datetime.timedelta(days=day.lower() == "yesterday")
        return Filter(after=day, before=day)
    part, is_last = match["part"].lower(), match["which"].lower() == "last"
    if part == "year":
        return Filter(*_days(today.year - is_last, ""))
    year = today.year + (part == "winter" and today.month == 12)  # this winter has the year of its January
    spans = (_days(each, part) for each in (year, year - 1, year - 2))
    return Filter(*next(span for span in spans if not is_last or span[1] < today))


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
