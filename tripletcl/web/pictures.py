"""Photos as small pictures inside the page, made in memory: no file is ever served by its path."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tripletcl.errors import UserError
from tripletcl.report.pictures import thumbnail_uri
from tripletcl.web.newest import Newest

SMALL, LARGE = 176, 640
"""Pixels of a picture in a grid and of one looked at."""

PICTURES_HELD = 4000
"""Small pictures in memory, some 8 kB each."""

GREY = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='8' height='8'%3E%3C/svg%3E"

_pictures: Newest[str] = Newest(PICTURES_HELD)


def picture(path: Path, size: int = SMALL) -> str:
    """A photo as a data URI, the longer side at most so many pixels; an empty picture where it cannot be read now."""

    def make() -> str:
        try:
            return thumbnail_uri(checked(path), size)
        except UserError:
            return GREY

    return make() if size > SMALL else _pictures.get((path, size), make)


def checked(path: Path, name: str | None = None) -> Path:
    """The path of a photo that may be decoded.

    Args:
        path: A file, perhaps an uploaded one.
        name: What a message calls it; its own name by default.

    Raises:
        UserError: it is no image that Pillow reads, or has more pixels than Pillow's limit.
    """
    name = name or path.name
    limit = Image.MAX_IMAGE_PIXELS or 1 << 40
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Image.DecompressionBombError:
        raise UserError(f"{name} has too many pixels; photos of up to {limit // 10**6} megapixels are read") from None
    except (OSError, ValueError, SyntaxError):
        raise UserError(f"{name} is not an image, or of a format that Pillow cannot read") from None
    if width * height > limit:
        raise UserError(
            f"{name} has {width * height / 1e6:.0f} megapixels; photos of up to {limit // 10**6} megapixels are read"
        )
    return path
