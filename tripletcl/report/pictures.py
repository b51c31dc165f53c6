"""Figures and photographs as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tripletcl.data.images import Photo, decode_thumbnail

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Liberation Sans',sans-serif"

WIDE_INCHES = 6.3
"""Figures wider than this take the width of a page."""


def thumbnail_uri(path: Photo | str, size: int = 160) -> str:
    """An image file as a JPEG data URI whose longer side is at most size pixels, without the file's metadata.

    A region is its photo with a frame around the box.

    Raises:
        UserError: the file cannot be read as an image.
    """
    buffer = io.BytesIO()
    decode_thumbnail(path, size).save(buffer, "JPEG", quality=82, optimize=True)
    return _data_uri("image/jpeg", buffer.getvalue())


@dataclass(frozen=True)
class Picture:
    """A figure for a page; the style sheet inverts it in dark mode.

    Attributes:
        title: Its title.
        uri: See `figure_uri`.
        wide: True if it is as wide as a page.
    """

    title: str
    uri: str
    wide: bool = False

    @classmethod
    def of(cls, figure: Figure) -> Picture:
        """Render a figure."""
        return cls(str(figure.get_label()), figure_uri(figure), figure.get_figwidth() > WIDE_INCHES)


def figure_uri(figure: Figure) -> str:
    """A figure as an SVG data URI in the reader's own font, the same for the same figure."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tripletcl"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    style = f"<style>text{{font-family:{FONTS} !important}}</style>"
    svg = re.sub(r"(<svg\b[^>]*>)", lambda match: match[1] + style, buffer.getvalue(), count=1)
    return _data_uri("image/svg+xml", svg.encode())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
