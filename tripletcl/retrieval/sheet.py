"""Contact sheets: the photos of a result in a grid, each with its rank, score and name."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from PIL import Image, ImageDraw, ImageFont, features

from tripletcl.data.images import Photo, Region, decode_image, decode_thumbnail, map_in_threads
from tripletcl.errors import UserError
from tripletcl.files import write_atomically

CELL, CAPTION, GAP, COLUMNS = 192, 36, 8, 5
"""Pixels of a photo's square, of the two lines below it, and between photos; photos in a row."""
MOST_PHOTOS = 200
TEXT = 13
INK, PAPER, MISSING = (32, 32, 32), (255, 255, 255), (160, 160, 160)


class Scored(Protocol):
    """A result: a `Hit`, or a region with its score."""

    @property
    def path(self) -> Photo:
        """The photo's file, or the region."""

    @property
    def score(self) -> float:
        """Higher is better."""


def contact_sheet(hits: Sequence[Scored], path: str | Path, title: str = "") -> None:
    """Draw photos in a grid, best first, each cropped to a square like the model's input, and write a PNG file.

    A region is drawn as its whole photo with a frame around the box.

    A photo that cannot be read is a grey cell. Long names lose their middle, and characters that the font lacks are
    escaped.

    Args:
        hits: The first 200 are drawn.
        path: The file, written atomically.
        title: Above the grid.

    Raises:
        UserError: the name does not end in .png, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError(f"a contact sheet is a PNG file; {path} does not end in .png")
    sheet = draw_sheet(hits, title)
    write_atomically(path, lambda temporary: sheet.save(temporary, format="PNG"))


def draw_sheet(hits: Sequence[Scored], title: str = "") -> Image.Image:
    """Draw the image of `contact_sheet`."""
    hits = hits[:MOST_PHOTOS]
    columns, rows = min(COLUMNS, max(len(hits), 1)), -(-len(hits) // COLUMNS)
    font = sheet_font()
    top = GAP + (TEXT + 2 * GAP if title else 0)
    size = (GAP + columns * (CELL + GAP), top + rows * (CELL + CAPTION + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), shorten(title, size[0] - 2 * GAP), fill=INK, font=font)
    for number, (hit, photo) in enumerate(zip(hits, map_in_threads(_load_cell, hits), strict=True)):
        left = GAP + number % COLUMNS * (CELL + GAP)
        upper = top + number // COLUMNS * (CELL + CAPTION + GAP)
        sheet.paste(photo, (left, upper))
        draw.text((left, upper + CELL + 2), f"{number + 1}   {hit.score:.3f}", fill=INK, font=font)
        name = shorten(hit.path.name, CELL)
        draw.text((left, upper + CELL + CAPTION // 2), name, fill=INK, font=font)
    return sheet


def shorten(text: str, width: int) -> str:
    """Escape the characters that the font lacks, and replace the middle of a text that is wider than `width` pixels."""
    font, letters = sheet_font(), [letter if _is_drawn(letter) else _escaped(letter) for letter in text]
    length, shown = len(letters), "".join(letters)
    while length and font.getlength(shown) > width:
        length -= 1
        shown = "".join([*letters[: (length + 1) // 2], "…", *letters[len(letters) - length // 2 :]])
    return shown


@cache
def sheet_font() -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic, Arabic, Hebrew and more, but no Chinese."""
    return ImageFont.truetype(_font_file(), TEXT)


def _font_file() -> Path:
    from matplotlib import get_data_path

    return Path(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")


@cache
def _drawn() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_font_file())).get_charmap())


def _is_drawn(letter: str) -> bool:
    """True if the font has a character; those written from right to left need a library that Pillow looks for."""
    from_right = unicodedata.bidirectional(letter) in ("R", "AL")
    return letter.isprintable() and ord(letter) in _drawn() and (not from_right or bool(features.check("fribidi")))


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def _load_cell(hit: Scored) -> Image.Image:
    try:
        if not isinstance(hit.path, Region):
            return Image.fromarray(decode_image(hit.path, CELL).transpose(1, 2, 0))
        photo, cell = decode_thumbnail(hit.path, CELL), Image.new("RGB", (CELL, CELL), PAPER)
        cell.paste(photo, ((CELL - photo.width) // 2, (CELL - photo.height) // 2))
        return cell
    except UserError:
        cell = Image.new("RGB", (CELL, CELL), MISSING)
        ImageDraw.Draw(cell).text((GAP, GAP), "cannot be read", fill=INK, font=sheet_font())
        return cell
