"""Filters of photos by what their files say: date, folder, name, camera, orientation, place."""

from __future__ import annotations

import calendar
import datetime
import fnmatch
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from tripletcl.errors import UserError, excerpt
from tripletcl.retrieval.details import EPOCH, NO_TIME
from tripletcl.retrieval.names import BLOCK
from tripletcl.retrieval.table import UNKNOWN, Table, blocks

ORIENTATIONS = ("landscape", "portrait", "square")
EARTH_KM = 6371.0088
"""The mean radius of the Earth."""

DAY = 24 * 60 * 60
DATE = re.compile(r"(\d{4})(?:[-/.](\d\d?))?(?:[-/.](\d\d?))?")


@dataclass(frozen=True)
class Filter:
    """Conditions that a photo must meet to be searched, all that are given. An empty filter keeps every photo.

    The date of a photo is that of its EXIF data (DateTimeOriginal), else its file's time of modification.

    Attributes:
        after: The first day.
        before: The last day.
        folder: A folder in the photo's path, or several in a row (`2019/Alps`); upper and lower case are the same.
        name: A pattern of the file's name, as a shell's: `IMG_*`; upper and lower case are the same.
        camera: A part of the camera's name; upper and lower case are the same.
        orientation: "landscape", "portrait" or "square".
        near: Latitude and longitude in degrees, and the greatest distance in km.

    Raises:
        UserError: a value cannot be met by any photo.
    """

    after: datetime.date | None = None
    before: datetime.date | None = None
    folder: str | None = None
    name: str | None = None
    camera: str | None = None
    orientation: str | None = None
    near: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        if self.after and self.before and self.after > self.before:
            raise UserError(f"no day is from {self.after} on and up to {self.before}: the two are the wrong way round")
        if self.orientation is not None and self.orientation not in ORIENTATIONS:
            raise UserError(f"{excerpt(self.orientation)} is no orientation; allowed are {', '.join(ORIENTATIONS)}")
        for field in ("folder", "name", "camera"):
            text = getattr(self, field)
            if text is not None and not text.strip("/ "):
                raise UserError(f"the {field} of a filter is empty; leave it out for photos of any {field}")
        if self.near is not None:
            latitude, longitude, distance = self.near
            if not (abs(latitude) <= 90 and abs(longitude) <= 180 and 0 < distance < np.inf):
                raise UserError(
                    f"{latitude:g},{longitude:g},{distance:g} is no place; give a latitude in [-90, 90], a longitude "
                    "in [-180, 180] and a distance in km, as in 47.1,11.3,20"
                )

    @classmethod
    def parse(
        cls,
        *,
        after: str | None = None,
        before: str | None = None,
        folder: str | None = None,
        name: str | None = None,
        camera: str | None = None,
        orientation: str | None = None,
        near: str | None = None,
    ) -> Filter:
        """Make a filter from texts; an empty text is the same as None.

        Args:
            after: A year, month or day, from its first day on: `2019`, `2019-06`, `2019-06-30`.
            before: A year, month or day, up to its last day.
            folder: As the attribute.
            name: As the attribute.
            camera: As the attribute.
            orientation: As the attribute, in upper or lower case.
            near: `latitude,longitude,km`.

        Raises:
            UserError: a text cannot be read; the sentence says what is allowed.
        """
        return cls(
            after=_parse_days(after)[0] if after else None,
            before=_parse_days(before)[1] if before else None,
            folder=folder or None,
            name=name or None,
            camera=camera or None,
            orientation=orientation.lower() if orientation else None,
            near=_parse_place(near) if near else None,
        )

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) is not None for field in fields(self))

    def __str__(self) -> str:
        """`from 2019-06-01 to 2019-08-31, folder Alps`."""
        parts = [
            _span(self.after, self.before),
            self.folder and f"folder {self.folder}",
            self.name and f"name {self.name}",
            self.camera and f"camera {self.camera}",
            self.orientation,
            self.near and "within {2:g} km of {0:g}, {1:g}".format(*self.near),
        ]
        return ", ".join(part for part in parts if part)

    def within(self, other: Filter) -> Filter:
        """This filter and another one, both to be met.

        Raises:
            UserError: they have no day in common, or another one has another value of what has only one.
        """
        after = max((day for day in (self.after, other.after) if day), default=None)
        before = min((day for day in (self.before, other.before) if day), default=None)
        values: dict[str, Any] = {}
        for name in ("folder", "name", "camera", "orientation", "near"):
            own, others = getattr(self, name), getattr(other, name)
            if own and others and own != others:
                raise UserError(f"there are two filters by {name}, {own} and {others}; give one")
            values[name] = own or others
        return Filter(after=after, before=before, **values)

    def rows(self, table: Table) -> np.ndarray:
        """Find the photos that meet it: `[rows]` bool, False for removed ones."""
        kept = ~table.deleted.rows
        if self.after or self.before:
            kept &= _is_between(table, self.after, self.before)
        if self.orientation is not None:
            kept &= _has_orientation(table, self.orientation)
        if self.camera is not None:
            part = self.camera.casefold()
            numbers = [number for number, camera in enumerate(table.cameras) if part in camera.casefold()]
            kept &= np.isin(table.column("camera"), numbers)
        if self.near is not None:
            kept &= _is_near(table, *self.near)
        if self.folder is not None:
            folder = f"/{self.folder.strip('/ ').lower()}/"
            _keep(kept, table, lambda names: [folder in f"/{name}" for name in names])
        if self.name is not None:
            _keep(kept, table, _name_test(self.name.lower()))
        return kept


def _keep(kept: np.ndarray, table: Table, test: Callable[[list[str]], list[bool]]) -> None:
    """Drop the rows whose path in lower case fails a test, block by block."""
    for block in blocks(len(kept), BLOCK):
        if kept[block].any():
            kept[block] &= test(table.names.texts(block, lower=True))


def _name_test(pattern: str) -> Callable[[list[str]], list[bool]]:
    """Test the names of files against a pattern, those that have its longest part without wildcards."""
    part = max(re.split(r"\[.*?\]|[*?\[]", pattern), key=len)
    match = re.compile(fnmatch.translate(pattern)).match
    return lambda paths: [part in path and match(path.rpartition("/")[2]) is not None for path in paths]


# --- dates -----------------------------------------------------------------------------------------------------------


def _is_between(table: Table, after: datetime.date | None, before: datetime.date | None) -> np.ndarray:
    taken, modified = table.column("taken"), table.column("mtime_ns") // 10**9
    by_camera, by_file = taken != NO_TIME, modified != UNKNOWN.mtime_ns // 10**9
    if after is not None:
        first, first_here = midnight(after.toordinal())
        by_camera, by_file = by_camera & (taken >= first), by_file & (modified >= first_here)
    if before is not None:
        end, end_here = midnight(before.toordinal() + 1)
        by_camera, by_file = by_camera & (taken < end), by_file & (modified < end_here)
    return np.where(taken == NO_TIME, by_file, by_camera)


def midnight(day: int) -> tuple[int, int]:
    """The beginning of a day, by its ordinal: seconds of a camera's clock since 1970, and of this machine's."""
    seconds = (day - EPOCH.toordinal()) * DAY
    try:
        here = int(datetime.datetime.fromordinal(day).timestamp())
    except (OverflowError, ValueError, OSError):  # beyond the calendar there is no time zone
        here = seconds
    return seconds, here


def _parse_days(text: str) -> tuple[datetime.date, datetime.date]:
    """The first and the last day of a year, a month or a day."""
    match = DATE.fullmatch(text.strip())
    try:
        year, month, day = (int(number or 0) for number in match.groups())  # type: ignore[union-attr]
        first = datetime.date(year, month or 1, day or 1)
        last = datetime.date(year, month or 12, day or calendar.monthrange(year, month or 12)[1])
    except (AttributeError, ValueError, calendar.IllegalMonthError):
        raise UserError(f"{excerpt(text)} is no date; write 2019, 2019-06 or 2019-06-30") from None
    return first, last


def _span(after: datetime.date | None, before: datetime.date | None) -> str | None:
    if after and before:
        return f"on {after}" if after == before else f"from {after} to {before}"
    return f"from {after} on" if after else f"up to {before}" if before else None


# --- shape and place -------------------------------------------------------------------------------------------------


def _has_orientation(table: Table, orientation: str) -> np.ndarray:
    width, height = table.column("width"), table.column("height")
    known = (width > 0) & (height > 0)
    return known & {"landscape": width > height, "portrait": width < height, "square": width == height}[orientation]


def _is_near(table: Table, latitude: float, longitude: float, distance: float) -> np.ndarray:
    """True within a distance in km on a sphere, by the haversine formula; False where the place is unknown."""
    there = np.radians(table.column("latitude")), np.radians(table.column("longitude"))
    here = np.radians(latitude), np.radians(longitude)
    half = np.sin((there[0] - here[0]) / 2) ** 2
    half += np.cos(here[0]) * np.cos(there[0]) * np.sin((there[1] - here[1]) / 2) ** 2
    return 2 * EARTH_KM * np.arcsin(np.sqrt(np.minimum(half, 1))) <= distance


def _parse_place(text: str) -> tuple[float, float, float]:
    try:
        latitude, longitude, distance = map(float, text.split(","))
    except ValueError:
        raise UserError(
            f"{excerpt(text)} is no place; write latitude, longitude and a distance in km, as in 47.1,11.3,20"
        ) from None
    return latitude, longitude, distance
