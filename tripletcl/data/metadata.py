"""The metadata of a photo's file: when, where and by which camera it was taken, and its size in pixels.

Cameras, editors and messengers write EXIF data that is wrong: a year 0, a year 2107, a latitude of 400. What cannot be
true is unknown.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from tripletcl.data.images import ORIENTATION_TAG
from tripletcl.data.media import HEIF

FIRST_YEAR = 1826
"""The year of the oldest photograph that survives; scans of old prints may carry their date."""

CLOCK_ERROR = datetime.timedelta(days=2)
"""A camera's clock may be ahead, and may be set to another time zone."""

LONGEST_CAMERA = 80
"""Characters of a camera's name that are kept."""

TIME = re.compile(r"\s*(\d{4})[:\-/.](\d\d?)[:\-/.](\d\d?)(?:[ T](\d\d?):(\d\d?)(?::(\d\d?))?)?")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of a photo; None for all that its file does not say, or that cannot be true.

    Attributes:
        taken: EXIF DateTimeOriginal, in the camera's local time.
        camera: Maker and model.
        width: Of the upright photo, in pixels.
        height: Of the upright photo, in pixels.
        latitude: In degrees, positive to the north.
        longitude: In degrees, positive to the east.
    """

    taken: datetime.datetime | None = None
    camera: str | None = None
    width: int | None = None
    height: int | None = None
    latitude: float | None = None
    longitude: float | None = None


def read_metadata(path: str | Path) -> Metadata:
    """Read the metadata at the beginning of a photo's file; no pixel is decoded.

    No file is an error: of one that is missing or damaged nothing is known.
    """
    return _or_none(lambda: _read(Path(path))) or Metadata()


def _read(path: Path) -> Metadata:
    if not path.is_file():  # opening a pipe may never end
        return Metadata()
    with path.open("rb") as file, _open(path, file) as image:
        exif: Any = _or_none(image.getexif) or {}
        width, height = _upright(image.size, exif)
        main = _or_none(lambda: dict(exif.items())) or {}
        details = _tags(exif, ExifTags.IFD.Exif)
        latitude, longitude = _or_none(lambda: _place(_tags(exif, ExifTags.IFD.GPSInfo))) or (None, None)
        return Metadata(
            taken=_or_none(lambda: _time(details.get(ExifTags.Base.DateTimeOriginal))),
            camera=_or_none(lambda: _camera(main.get(ExifTags.Base.Make), main.get(ExifTags.Base.Model))),
            width=width,
            height=height,
            latitude=latitude,
            longitude=longitude,
        )


def _or_none(read: Callable[[], Value]) -> Value | None:
    """Call a function; None where damaged data make it fail, as Pillow's readers raise nearly anything."""
    try:
        return read()
    except Exception:
        return None


def _open(path: Path, file: Any) -> Image.Image:
    if path.suffix.lower() in HEIF:
        from pillow_heif import HeifImageFile

        return HeifImageFile(file)
    if file.read(3) == b"\xff\xd8\xff":  # Image.open refuses a JPEG by its pixels, which nobody decodes here
        file.seek(0)
        return JpegImageFile(file)
    file.seek(0)
    return Image.open(file)


def _tags(exif: Any, part: ExifTags.IFD) -> Mapping[int, Any]:
    return _or_none(lambda: exif.get_ifd(part)) or {}


def _upright(size: tuple[int, int], exif: Mapping[int, Any]) -> tuple[int, int]:
    """The (width, height) after the rotation that EXIF asks for."""
    turned = _or_none(lambda: exif.get(ORIENTATION_TAG)) in (5, 6, 7, 8)
    return (size[1], size[0]) if turned else size


def _time(value: Any) -> datetime.datetime | None:
    """A time as EXIF writes it, `2019:06:30 14:05:59`."""
    text = value.decode("ascii") if isinstance(value, bytes) else str(value)
    if (match := TIME.match(text)) is None:
        return None
    time = datetime.datetime(*(int(number or 0) for number in match.groups()))  # type: ignore[arg-type]
    latest = datetime.datetime.now() + CLOCK_ERROR
    return time if time.year >= FIRST_YEAR and time <= latest else None


def _camera(maker: Any, model: Any) -> str | None:
    """Maker and model, the maker once: `Canon EOS 80D`."""
    maker, model = _printable(maker), _printable(model)
    if maker and not model.casefold().startswith(maker.split()[0].casefold()):
        model = f"{maker} {model}".strip()
    return model[:LONGEST_CAMERA].strip() or None


def _printable(value: Any) -> str:
    text = str(value or "").split("\0")[0]
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _place(tags: Mapping[int, Any]) -> tuple[float, float] | None:
    """Latitude and longitude in degrees; 0, 0 is what receivers write before they know where they are."""
    latitude = _degrees(tags[ExifTags.GPS.GPSLatitude], tags[ExifTags.GPS.GPSLatitudeRef], "NS")
    longitude = _degrees(tags[ExifTags.GPS.GPSLongitude], tags[ExifTags.GPS.GPSLongitudeRef], "EW")
    is_place = abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude, longitude) != (0, 0)
    return (latitude, longitude) if is_place else None


def _degrees(parts: Sequence[Any], direction: Any, directions: str) -> float:
    """Degrees, minutes and seconds as one number, negative in the second direction.

    Raises:
        ValueError: a part is no number, or the direction is none.
    """
    name = (direction.decode("ascii") if isinstance(direction, bytes) else str(direction)).strip("\0 ").upper()
    value = sum(float(part) / 60**place for place, part in enumerate(parts))
    if not math.isfinite(value) or len(name) != 1:
        raise ValueError("no angle")
    return -value if directions.index(name) else value
