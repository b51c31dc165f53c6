"""The details of photos: when, where and by which camera they were taken, as records and as a person reads them."""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tripletcl.data.metadata import Metadata

PHOTO_TYPE = np.dtype(
    [
        ("start", "<i8"),
        ("hash", "<u8"),
        ("size", "<i8"),
        ("mtime_ns", "<i8"),
        ("taken", "<i8"),
        ("latitude", "<f8"),
        ("longitude", "<f8"),
        ("length", "<i4"),
        ("camera", "<i4"),
        ("width", "<i4"),
        ("height", "<i4"),
        ("read", "<i8"),
    ]
)
"""The record of a photo.

`start` and `length` say which bytes of the names are its path, and `hash` is the path's hash. `size` and `mtime_ns` are
its stamp. The others are its details, 1 in `read` once they were read: seconds of the camera's clock since 1970,
degrees, the camera's number, pixels. What is unknown is NO_TIME, NaN, NO_CAMERA and 0.
"""

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


def unread_records(count: int) -> np.ndarray:
    """Records of photos whose details were not read, `[count]`; all else is 0."""
    records = np.zeros(count, PHOTO_TYPE)
    set_details(records, [Metadata()] * count, [])
    records["read"] = 0
    return records


def set_details(records: np.ndarray, metadata: Sequence[Metadata | None], cameras: list[str]) -> None:
    """Write the details of photos into their records, but for None; new cameras are added to the list."""
    number_of = {camera: number for number, camera in enumerate(cameras)}
    for record, each in zip(records, metadata, strict=True):
        if each is None:
            continue
        record["read"] = 1
        record["camera"] = NO_CAMERA if each.camera is None else number_of.setdefault(each.camera, len(number_of))
        record["taken"] = NO_TIME if each.taken is None else (each.taken - EPOCH) // datetime.timedelta(seconds=1)
        record["width"], record["height"] = each.width or 0, each.height or 0
        is_placed = each.latitude is not None and each.longitude is not None
        record["latitude"], record["longitude"] = (each.latitude, each.longitude) if is_placed else (np.nan, np.nan)
    cameras[:] = number_of


def photo_details(name: str, record: np.void, cameras: Sequence[str]) -> PhotoDetails:
    """Convert the record of a photo to what a person reads."""
    values = dict(zip(PHOTO_TYPE.names or (), record.item(), strict=True))  # one by one takes much longer
    taken, camera, size = values["taken"], values["camera"], values["size"]
    is_placed = not math.isnan(values["latitude"])
    return PhotoDetails(
        path=Path(name),
        taken=None if taken == NO_TIME else EPOCH + datetime.timedelta(seconds=taken),
        modified=_local_time(values["mtime_ns"]),
        camera=None if camera == NO_CAMERA else cameras[camera],
        width=values["width"] or None,
        height=values["height"] or None,
        size=None if size < 0 else size,
        latitude=values["latitude"] if is_placed else None,
        longitude=values["longitude"] if is_placed else None,
    )


def _local_time(mtime_ns: int) -> datetime.datetime | None:
    if mtime_ns == -1:  # a missing file
        return None
    try:
        return datetime.datetime.fromtimestamp(mtime_ns // 10**9)
    except (OverflowError, ValueError, OSError):  # a file system may store any number
        return None
