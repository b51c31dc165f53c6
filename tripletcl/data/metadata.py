"""The metadata of a photo's file: when, where and by which camera it was taken, and its size in pixels.

Cameras, editors and messengers write EXIF data that is wrong: a year 0, a year 2107, a latitude of 400. What cannot be
true is unknown.
"""

from __future__ import annotations

import datetime
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from tripletcl.data.images import ORIENTATION_TAG
from tripletcl.data.media import JPEG, RAW, VIDEO, heif_image, is_heif, read_raw_head, read_video_head

FIRST_YEAR = 1826
"""The year of the oldest photograph that survives; scans of old prints may carry their date."""

CLOCK_ERROR = datetime.timedelta(days=2)
"""A camera's clock may be ahead, and may be set to another time zone."""

LONGEST_CAMERA = 80
"""Characters of a camera's name that are kept."""

TIME = re.compile(r"\s*(\d{4})[:\-/.](\d\d?)[:\-/.](\d\d?)(?:[ T](\d\d?):(\d\d?)(?::(\d\d?))?)?")

APPLE = "com.apple.quicktime."
"""The tags that phones by Apple write into videos begin so."""

FIRST_VIDEO_YEAR = 1990

ISO_PLACE = re.compile(r"([+-]\d\d(?:\.\d+)?)([+-]\d{3}(?:\.\d+)?)")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Metadata:
    """The metadata of a photo; None for all that its file does not say, or that cannot be true.

    Attributes:
        taken: EXIF DateTimeOriginal, or when a video was made, in the camera's local time.
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
    if path.suffix.lower() in VIDEO:
        return _of_video(*read_video_head(path))
    with path.open("rb") as file:
        start = file.read(64)
        file.seek(0)
        if path.suffix.lower() in RAW and not start.startswith(JPEG):
            return _of_raw(file)
        with _open(file, start) as image:
            exif: Any = _or_none(image.getexif) or {}
            return _of_exif(exif, _upright(image.size, exif))


def _of_exif(exif: Any, size: tuple[int, int]) -> Metadata:
    """Metadata that EXIF data say of a photo of this upright (width, height)."""
    main = _or_none(lambda: dict(exif.items())) or {}
    details = _tags(exif, ExifTags.IFD.Exif)
    latitude, longitude = _or_none(lambda: _place(_tags(exif, ExifTags.IFD.GPSInfo))) or (None, None)
    return Metadata(
        taken=_or_none(lambda: _time(details.get(ExifTags.Base.DateTimeOriginal))),
        camera=_or_none(lambda: _camera(main.get(ExifTags.Base.Make), main.get(ExifTags.Base.Model))),
        width=size[0],
        height=size[1],
        latitude=latitude,
        longitude=longitude,
    )


def _of_raw(file: BinaryIO) -> Metadata:
    """Metadata of a RAW photo: most are TIFF files, the others have the EXIF data in a preview."""
    head = read_raw_head(file)
    exif: Any = Image.Exif()
    file.seek(0)
    if _or_none(lambda: exif.load_from_fp(file) or True) is None and head.preview:
        exif = JpegImageFile(io.BytesIO(head.preview)).getexif()
    read = _of_exif(exif, head.size)
    return read if read.taken else replace(read, taken=_or_none(lambda: _time(head.taken)))


def _of_video(tags: Mapping[str, str], size: tuple[int, int]) -> Metadata:
    """Metadata from the tags of a video; a time with a zone is by the clock there, one in UTC by this machine's."""
    place = _or_none(lambda: _iso_place(tags.get(f"{APPLE}location.iso6709") or tags["location"]))
    latitude, longitude = place or (None, None)
    return Metadata(
        taken=_or_none(lambda: _video_time(tags.get(f"{APPLE}creationdate") or tags["creation_time"])),
        camera=_or_none(lambda: _camera(tags.get(f"{APPLE}make"), tags.get(f"{APPLE}model"))),
        width=size[0],
        height=size[1],
        latitude=latitude,
        longitude=longitude,
    )


def _or_none(read: Callable[[], Value]) -> Value | None:
    """Call a function; None where damaged data make it fail, as Pillow's readers raise nearly anything."""
    try:
        return read()
    except Exception:
        return None


def _open(file: BinaryIO, start: bytes) -> Image.Image:
    """Open an image by its content, whatever its suffix is; no pixel is decoded."""
    if start.startswith(JPEG):  # Image.open refuses a JPEG by its pixels, which nobody decodes here
        return JpegImageFile(file)
    return heif_image(file) if is_heif(start) else Image.open(file)


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
    return time if time.year >= FIRST_YEAR and time <= _latest() else None


def _video_time(text: str) -> datetime.datetime | None:
    """A time as containers of videos write it, `2019-06-30T12:05:59.000000Z`; those of 1904 and 1970 are zeros."""
    time = datetime.datetime.fromisoformat(text)
    local = time.astimezone() if time.tzinfo == datetime.UTC else time
    local = local.replace(microsecond=0, tzinfo=None)
    return local if local.year >= FIRST_VIDEO_YEAR and local <= _latest() else None


def _latest() -> datetime.datetime:
    return datetime.datetime.now() + CLOCK_ERROR


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
    return _on_earth(latitude, longitude)


def _iso_place(text: str) -> tuple[float, float] | None:
    """Latitude and longitude of ISO 6709 as phones write it, `+47.1100+011.3000+574.000/`."""
    match = ISO_PLACE.match(text)
    return _on_earth(float(match[1]), float(match[2])) if match else None


def _on_earth(latitude: float, longitude: float) -> tuple[float, float] | None:
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
