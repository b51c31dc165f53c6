"""The details of photos: when, where and by which camera they were taken, as rows of an index and as a person reads."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tripletcl.data.metadata import Metadata
from tripletcl.files import FileStamp

DETAILS_TYPE = np.dtype(
    [
        ("read", "<i4"),
        ("camera", "<i4"),
        ("taken", "<i8"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("latitude", "<f8"),
        ("longitude", "<f8"),
    ]
)
"""The details of a row: 1 once its file was read; the camera's number; seconds of its clock since 1970; in pixels; in
degrees. What is unknown is NO_CAMERA, NO_TIME, 0 and NaN."""

NO_CAMERA, NO_TIME = -1, np.iinfo(np.int64).min
EPOCH = datetime.datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class PhotoDetails:
    """The details of a photo in an index; None for what is unknown.

    Attributes:
        path: The photo's file.
        taken: When it was taken, by its EXIF data, in the camera's local time.
        modified: When its file was modified, in local time.
        camera: Maker and model.
        width: Of the upright photo, in pixels.
        height: Of the upright photo, in pixels.
        size: Of the file, in bytes.
        latitude: In degrees, positive to the north.
        longitude: In degrees, positive to the east.
    """

    path: Path
    taken: datetime.datetime | None = None
    modified: datetime.datetime | None = None
    camera: str | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None
    latitude: float | None = None
    longitude: float | None = None

    @property
    def name(self) -> str:
        """The name of the file."""
        return self.path.name

    @property
    def folder(self) -> str:
        """The folder of the file."""
        return str(self.path.parent)

    @property
    def date(self) -> datetime.date | None:
        """The day that filters compare: when it was taken, else when its file was modified."""
        time = self.taken or self.modified
        return None if time is None else time.date()


def unread_rows(count: int) -> np.ndarray:
    """Rows of photos whose file was not read for its details, `[count]`."""
    row = np.array((0, NO_CAMERA, NO_TIME, 0, 0, np.nan, np.nan), DETAILS_TYPE)
    return np.full(count, row)


def detail_rows(metadata: Sequence[Metadata], cameras: list[str]) -> np.ndarray:
    """The rows of some photos, `[n]`; new cameras are added to the list, whose positions are their numbers."""
    number_of = {camera: number for number, camera in enumerate(cameras)}
    rows = unread_rows(len(metadata))
    for row, each in zip(rows, metadata, strict=True):
        row["read"] = 1
        if each.camera is not None:
            row["camera"] = number_of.setdefault(each.camera, len(number_of))
        if each.taken is not None:
            row["taken"] = (each.taken - EPOCH) // datetime.timedelta(seconds=1)
        row["width"], row["height"] = each.width or 0, each.height or 0
        if each.latitude is not None and each.longitude is not None:
            row["latitude"], row["longitude"] = each.latitude, each.longitude
    cameras[:] = number_of
    return rows


def photo_details(name: str, stamp: FileStamp, row: np.void, cameras: Sequence[str]) -> PhotoDetails:
    """A row as a person reads it."""
    _, camera, taken, width, height, latitude, longitude = row.item()
    is_placed = not np.isnan(latitude)
    return PhotoDetails(
        path=Path(name),
        taken=None if taken == NO_TIME else EPOCH + datetime.timedelta(seconds=taken),
        modified=_local_time(stamp.mtime_ns),
        camera=None if camera == NO_CAMERA else cameras[camera],
        width=width or None,
        height=height or None,
        size=None if stamp.size < 0 else stamp.size,
        latitude=latitude if is_placed else None,
        longitude=longitude if is_placed else None,
    )


def _local_time(mtime_ns: int) -> datetime.datetime | None:
    if mtime_ns == -1:  # a missing file
        return None
    try:
        return datetime.datetime.fromtimestamp(mtime_ns // 10**9)
    except (OverflowError, ValueError, OSError):  # a file system may store any number
        return None
