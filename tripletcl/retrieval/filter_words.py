"""Filters in the words of a request: `dog folder:Alps camera:"Canon EOS"`, and days, `dog, summer 2019`."""

from __future__ import annotations

import re

from tripletcl.errors import UserError
from tripletcl.retrieval.days import split_days
from tripletcl.retrieval.filters import Filter

NAMES = {name: name for name in ("after", "before", "folder", "name", "camera", "orientation", "near")} | {
    "shape": "orientation"
}
"""Words before a colon, and the filters that they name."""

NAMED = re.compile(rf"(?:(?<=\s)|^)({'|'.join(NAMES)}):(?:\"([^\"]*)\"|(\S+?)(?=,?(?:\s|$)))", re.IGNORECASE)


def split_filters(text: str) -> tuple[str, Filter]:
    """Separate the filters of a request from its other words.

    They are `name:value` for each field of `Filter.parse`, `shape` for the orientation, anywhere, a value of several
    words in quotes; and days at the end (`split_days`).

    Returns:
        The other words, and the filter; an empty one where there is none.

    Raises:
        UserError: a filter is given twice, or cannot be read.
    """
    values: dict[str, str] = {}
    for match in NAMED.finditer(text):
        name = NAMES[match[1].lower()]
        if name in values:
            raise UserError(f"the request has {name} twice; give it once")
        values[name] = match[2] or match[3] or ""
    if not values:
        return split_days(text)
    rest = " ".join(NAMED.sub(" ", text).split()).strip(" ,")
    rest, days = split_days(rest)
    return rest, Filter.parse(**values).within(days)
