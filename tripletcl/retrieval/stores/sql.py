"""Filters as conditions in SQL, so that a store drops photos before it searches them."""

from __future__ import annotations

import datetime

import numpy as np

from tripletcl.retrieval.filters import EARTH_KM, Filter, midnight
from tripletcl.retrieval.table import UNKNOWN

ORIENTATIONS = {"landscape": "width > height", "portrait": "width < height", "square": "width = height"}
SPECIAL = frozenset(r"\.+^$(){}|[]*?")
"""Characters that a regular expression does not take literally."""

LAST = int(np.iinfo(np.int64).max)


def filter_sql(where: Filter) -> str:
    """Write a filter as a condition on the columns of a store; empty for an empty filter.

    The columns are path, taken and mtime_ns, latitude and longitude, camera, width and height, NULL where unknown.
    """
    parts = [
        _days(where.after, where.before) if where.after or where.before else "",
        f"width > 0 AND height > 0 AND {ORIENTATIONS[where.orientation]}" if where.orientation else "",
        f"strpos(lower(camera), {quoted(where.camera.lower())}) > 0" if where.camera else "",
        _near(*where.near) if where.near else "",
        f"strpos(concat('/', lower(path)), {quoted('/' + where.folder.strip('/ ').lower() + '/')}) > 0"
        if where.folder
        else "",
        f"regexp_like(lower(path), {quoted(_name_pattern(where.name.lower()))})" if where.name else "",
    ]
    return " AND ".join(f"({part})" for part in parts if part)


def quoted(text: str) -> str:
    """Write a text as a literal."""
    return "'" + text.replace("'", "''") + "'"


def _days(after: datetime.date | None, before: datetime.date | None) -> str:
    """The time of the camera, else of the file."""
    by_camera, by_file = ["taken IS NOT NULL"], ["taken IS NULL", f"mtime_ns <> {UNKNOWN.mtime_ns}"]
    if after is not None:
        first, first_here = midnight(after.toordinal())
        by_camera.append(f"taken >= {first}")
        by_file.append(f"mtime_ns >= {_nanoseconds(first_here)}")
    if before is not None:
        end, end_here = midnight(before.toordinal() + 1)
        by_camera.append(f"taken < {end}")
        by_file.append(f"mtime_ns < {_nanoseconds(end_here)}")
    return f"({' AND '.join(by_camera)}) OR ({' AND '.join(by_file)})"


def _nanoseconds(seconds: int) -> int:
    return max(-LAST, min(LAST, seconds * 10**9))


def _near(latitude: float, longitude: float, distance: float) -> str:
    """The haversine formula; NULL, which is no match, where the place is unknown."""
    half = (
        f"power(sin(radians(latitude - ({latitude!r})) / 2), 2) + cos(radians({latitude!r})) * cos(radians(latitude)) "
        f"* power(sin(radians(longitude - ({longitude!r})) / 2), 2)"
    )
    return f"2 * {EARTH_KM!r} * asin(sqrt(least({half}, 1))) <= {distance!r}"


def _name_pattern(pattern: str) -> str:
    """The regular expression of the paths whose last part a pattern of a shell matches."""
    written, at = "", 0
    while at < len(pattern):
        character, end = pattern[at], pattern.find("]", at + 2 + pattern.startswith("!", at + 1))
        if character == "[" and end > 0:
            inside = pattern[at + 1 : end]
            negated = inside.startswith("!")
            members = "".join(f"\\{each}" if each in SPECIAL | {"&", "~"} else each for each in inside[negated:])
            written += f"[{'^/' if negated else ''}{members}]"
            at = end + 1
            continue
        written += {"*": "[^/]*", "?": "[^/]"}.get(character, f"\\{character}" if character in SPECIAL else character)
        at += 1
    return f"(^|/){written}$"
