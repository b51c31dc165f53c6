"""RAW photos and videos, which the packages of the extra `media` read."""

from __future__ import annotations

import datetime
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import islice
from typing import Any, BinaryIO

from PIL import Image

from tripletcl.errors import UserError

HEIF = frozenset({".heic", ".heif", ".hif"})
RAW = frozenset(
    f".{suffix}"
    for suffix in (
        *("3fr", "arw", "cr2", "cr3", "dng", "erf", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "srw", "x3f"),
    )
)
VIDEO = frozenset(f".{suffix}" for suffix in ("3gp", "avi", "m4v", "mkv", "mov", "mp4", "mpg", "mts", "webm", "wmv"))
"""The suffixes of files that the extra `media` reads, in lower case."""

INSTALL_MEDIA = 'pip install "tripletcl[media]" reads them'

PACKAGES = {"pillow_heif": HEIF, "rawpy": RAW, "av": VIDEO}

KEY_FRAME = 0.1
"""The part of a video's length before the frame that stands for it: the first frames are often black or blurred."""

MOST_FRAMES, PLAIN = 300, 8.0
"""Frames that are looked at for one that shows something; one shows nothing if its grey levels, 0 to 255, have a lower
standard deviation: those of a fade."""

JPEG = b"\xff\xd8\xff"
"""How a JPEG begins, whatever its suffix is."""


def media_suffixes() -> frozenset[str]:
    """Return the suffixes of the files that the packages installed here read."""
    return frozenset().union(*(suffixes for package, suffixes in PACKAGES.items() if find_spec(package)))


def is_heif(start: bytes) -> bool:
    """True if a file that begins so is HEIF, whatever its suffix is; AVIF, which Pillow reads, is not."""
    return start[4:8] == b"ftyp" and b"avif" not in start[:64]


@contextmanager
def open_heif(raw: bytes) -> Iterator[Image.Image]:
    """Open a HEIF image, which is decoded when it is loaded; its rotation is applied by its decoder."""
    with heif_image(io.BytesIO(raw)) as image:
        yield image


def heif_image(file: BinaryIO) -> Image.Image:
    """Return the HEIF image in a file, whose pixels are not decoded yet."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise UserError(f"an image in HEIF; {INSTALL_MEDIA}") from error
    return HeifImageFile(file)


# --- RAW photos ------------------------------------------------------------------------------------------------------


@contextmanager
def open_raw(raw: bytes) -> Iterator[Image.Image]:
    """Develop a RAW photo at half its size, upright, with the camera's white balance."""
    with _raw_photo(io.BytesIO(raw)) as photo:
        pixels = photo.postprocess(half_size=True, use_camera_wb=True, output_bps=8)  # [H, W, 3]
    yield Image.fromarray(pixels)


@dataclass(frozen=True)
class RawHead:
    """The head of a RAW photo.

    Attributes:
        size: Upright (width, height) of the photo, not of its previews, in pixels.
        taken: By the camera's clock; None if it is not known.
        preview: The JPEG in it, with EXIF data; empty where it has none.
    """

    size: tuple[int, int]
    taken: datetime.datetime | None
    preview: bytes


def read_raw_head(file: BinaryIO) -> RawHead:
    """Read what a RAW photo's file says, without developing it."""
    with _raw_photo(file) as photo:
        import rawpy

        sizes = photo.sizes
        size = (sizes.height, sizes.width) if sizes.flip in (5, 6) else (sizes.width, sizes.height)
        try:
            preview = photo.extract_thumb()
            jpeg = preview.data if preview.format == rawpy.ThumbFormat.JPEG else b""
        except rawpy.LibRawError:
            jpeg = b""
        return RawHead(size, photo.other.timestamp, jpeg)


@contextmanager
def _raw_photo(file: BinaryIO) -> Iterator[Any]:
    try:
        import rawpy
    except ImportError as error:
        raise UserError(f"a RAW photo; {INSTALL_MEDIA}") from error
    try:
        with rawpy.imread(file) as photo:
            yield photo
    except rawpy.LibRawError as error:
        reason = error.args[0]
        text = reason.decode() if isinstance(reason, bytes) else str(reason)
        raise UserError(f"no RAW photo that LibRaw can read: {text}") from error


# --- videos ----------------------------------------------------------------------------------------------------------


@contextmanager
def open_video(source: str | os.PathLike[str] | bytes) -> Iterator[Image.Image]:
    """Decode the frame that stands for a video, upright.

    It is the key frame at or before a tenth of its length; where that is of one colour, the next frame that is not.

    Args:
        source: The file, or its content.

    Raises:
        UserError: it is no regular file, or has no picture.
    """
    with _video(source) as video:
        frame = _frame_of(video)
        image, rotation = frame.to_image(), frame.rotation
    yield image.rotate(rotation, expand=True) if rotation else image


def video_second(path: str | os.PathLike[str]) -> float | None:
    """Compute when in a video the frame is that stands for it, in seconds; None where its container does not say.

    Raises:
        UserError: as `open_video`.
    """
    with _video(path) as video:
        time = _frame_of(video).time
        return None if time is None else max(0.0, time - (video.start_time or 0) / 1e6)


def _frame_of(video: Any) -> Any:
    """The frame that stands for an open video."""
    if video.duration:
        video.seek(int((video.start_time or 0) + KEY_FRAME * video.duration))
    frame = _telling(video)
    if frame is None:  # no key frame follows, and no table says where one is: from the beginning
        video.seek(0)
        frame = _telling(video)
    if frame is None:
        raise UserError("a video without pictures")
    return frame


def read_video_head(path: str | os.PathLike[str]) -> tuple[dict[str, str], tuple[int, int]]:
    """Read the tags of a video, their names in lower case, and its upright (width, height)."""
    with _video(path) as video:
        frame = next(video.decode(video=0))  # the rotation is known with the first frame
        size = (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)
        return {name.lower(): value for name, value in video.metadata.items()}, size


@contextmanager
def _video(source: str | os.PathLike[str] | bytes) -> Iterator[Any]:
    try:
        import av
    except ImportError as error:
        raise UserError(f"a video; {INSTALL_MEDIA}") from error
    if not isinstance(source, bytes):
        about = os.stat(source)  # noqa: PTH116
        if not stat.S_ISREG(about.st_mode):
            raise UserError("no file")  # opening a pipe may never end
        if not about.st_size:
            raise UserError("an empty file")
    with av.open(io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)) as video:
        if not video.streams.video:
            raise UserError("a video without pictures")
        yield video


def _telling(video: Any) -> Any:
    """The next frame that is not of one colour; the first one if all that are looked at are; None if none is left."""
    import av

    first = None
    try:
        for frame in islice(video.decode(video=0), MOST_FRAMES):
            first = first or frame
            if frame.reformat(width=32, height=32, format="gray").to_ndarray().std() >= PLAIN:
                return frame
    except av.FFmpegError:  # a video that was cut short shows what it has
        if first is None:
            raise
    return first
