"""Contact sheets: the photos of a result in a grid, each with its rank, score and name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tripletcl.data.images import decode_image, map_in_threads
from tripletcl.errors import UserError
from tripletcl.files import write_atomically
from tripletcl.retrieval.index import Hit

CELL, CAPTION, GAP, COLUMNS = 192, 36, 8, 5
"""Pixels of a photo's square, of the two lines below it, and between photos; photos in a row."""
MOST_PHOTOS = 200
TEXT = 13
INK, PAPER, MISSING = (32, 32, 32), (255, 255, 255), (160, 160, 160)


def contact_sheet(hits: Sequence[Hit], path: str | Path, title: str = "") -> None:
    """Draw photos in a grid, best first, each cropped to a square like the model's input, and write a PNG file.

    A photo that cannot be read is a grey cell. Long names lose their middle.

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


def draw_sheet(hits: Sequence[Hit], title: str = "") -> Image.Image:
    """Draw the image of `contact_sheet`."""
    hits = hits[:MOST_PHOTOS]
    columns, rows = min(COLUMNS, max(len(hits), 1)), -(-len(hits) // COLUMNS)
    font = ImageFont.load_default(TEXT)
    top = GAP + (TEXT + 2 * GAP if title else 0)
    size = (GAP + columns * (CELL + GAP), top + rows * (CELL + CAPTION + GAP))
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, GAP), shorten(title, font, size[0] - 2 * GAP), fill=INK, font=font)
    for number, (hit, photo) in enumerate(zip(hits, map_in_threads(_load_cell, hits), strict=True)):
        left = GAP + number % COLUMNS * (CELL + GAP)
        upper = top + number // COLUMNS * (CELL + CAPTION + GAP)
        sheet.paste(photo, (left, upper))
        draw.text((left, upper + CELL + 2), f"{number + 1}   {hit.score:.3f}", fill=INK, font=font)
        name = shorten(hit.path.name, font, CELL)
        draw.text((left, upper + CELL + CAPTION // 2), name, fill=INK, font=font)
    return sheet


def shorten(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """Replace the middle of a text that is wider than `width` pixels."""
    text = whole = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    length = len(text)
    while length and font.getlength(text) > width:
        length -= 1
        text = whole[: (length + 1) // 2] + "…" + whole[len(whole) - length // 2 :]
    return text


def _load_cell(hit: Hit) -> Image.Image:
    try:
        return Image.fromarray(decode_image(hit.path, CELL).transpose(1, 2, 0))
    except UserError:
        cell = Image.new("RGB", (CELL, CELL), MISSING)
        ImageDraw.Draw(cell).text((GAP, GAP), "cannot be read", fill=INK, font=ImageFont.load_default(TEXT))
        return cell
