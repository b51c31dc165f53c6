"""RAW photos and videos, which the packages of the extra `media` read."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

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


def media_suffixes() -> frozenset[str]:
    """Return the suffixes of the files that the packages installed here read."""
    return frozenset().union(*(suffixes for package, suffixes in PACKAGES.items() if find_spec(package)))


@contextmanager
def open_heif(raw: bytes) -> Iterator[Image.Image]:
    """Open a HEIF image, which is decoded when it is loaded; its rotation is applied by its decoder."""
    try:
        from pillow_heif import HeifImageFile
    except ImportError as error:
        raise UserError(f"an image in HEIF; {INSTALL_MEDIA}") from error
    with HeifImageFile(io.BytesIO(raw)) as image:
        yield image


@contextmanager
def open_raw(raw: bytes) -> Iterator[Image.Image]:
    """Develop a RAW photo at half its size, upright, with the camera's white balance."""
    try:
        import rawpy
    except ImportError as error:
        raise UserError(f"a RAW photo; {INSTALL_MEDIA}") from error
    with rawpy.imread(io.BytesIO(raw)) as photo:
        pixels = photo.postprocess(half_size=True, use_camera_wb=True, output_bps=8)  # [H, W, 3]
    yield Image.fromarray(pixels)


@contextmanager
def open_video(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    """Decode the frame that stands for a video, upright: the key frame at or before a tenth of its length.

    Raises:
        UserError: it is no regular file, or has no picture.
    """
    try:
        import av
    except ImportError as error:
        raise UserError(f"a video; {INSTALL_MEDIA}") from error
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (opening a pipe may never end)
        raise UserError("no file")
    with av.open(os.fspath(path)) as video:
        if not video.streams.video:
            raise UserError("a video without pictures")
        if video.duration:
            video.seek(int((video.start_time or 0) + KEY_FRAME * video.duration))
        frame = next(video.decode(video=0), None)
        if frame is None:
            raise UserError("a video without pictures")
        image, rotation = frame.to_image(), frame.rotation
    yield image.rotate(rotation, expand=True) if rotation else image
