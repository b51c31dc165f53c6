"""Figures and photographs as data URIs, so that a page needs no other file."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from tripletcl.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FONTS = "system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,'Liberation Sans',sans-serif"


def thumbnail_uri(path: Path | str, size: int = 160) -> str:
    """An image file as a JPEG data URI whose longer side is at most size pixels, without the file's metadata.

    Raises:
        UserError: the file cannot be read as an image.
    """
    try:
        with Image.open(path) as opened:
            opened.draft("RGB", (2 * size, 2 * size))
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"image {path} of the report cannot be read: {error}") from error
    image.thumbnail((size, size), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=82, optimize=True)
    return _data_uri("image/jpeg", buffer.getvalue())


def figure_uri(figure: Figure) -> str:
    """A figure as an SVG data URI in the reader's own font, which follows the reader's light or dark mode."""
    return _in_modes(_svg(figure), "(prefers-color-scheme:dark)")


def figure_uris(figure: Figure) -> tuple[str, str]:
    """`figure_uri` twice, for a light page and for a dark one, where the page and not the reader's system decides."""
    svg = _svg(figure)
    return _in_modes(svg, "not all"), _in_modes(svg, "all")


def _svg(figure: Figure) -> str:
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tripletcl"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _in_modes(svg: str, dark_when: str) -> str:
    """Replace each colour by a variable that has one value in light mode and another where the media query holds."""
    from tripletcl.report.drawing import DARK

    names = {light: f"--c{index}" for index, light in enumerate(DARK)}
    for light, name in names.items():
        svg = svg.replace(light, f"var({name})")
    light_values = "".join(f"{name}:{light};" for light, name in names.items())
    dark_values = "".join(f"{name}:{DARK[light]};" for light, name in names.items())
    style = (
        f"<style>:root{{{light_values}}}@media {dark_when}{{:root{{{dark_values}}}}}"
        f"text{{font-family:{FONTS} !important}}</style>"
    )
    svg = re.sub(r"(<svg\b[^>]*>)", lambda match: match[1] + style, svg, count=1)
    return _data_uri("image/svg+xml", svg.encode())


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
