"""Contact sheets, by their pixels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from tripletcl.data.images import BOX_COLOUR, Region
from tripletcl.errors import UserError
from tripletcl.report import ExampleHit
from tripletcl.retrieval import Hit, contact_sheet
from tripletcl.retrieval.sheet import CAPTION, CELL, COLUMNS, GAP, MISSING, MOST_PHOTOS, draw_sheet, sheet_font, shorten


def cell(sheet: Image.Image, row: int, column: int, top: int = GAP) -> np.ndarray:
    """The photo in a cell of the grid, without its edge."""
    left, upper = GAP + column * (CELL + GAP), top + row * (CELL + CAPTION + GAP)
    return np.asarray(sheet)[upper + 4 : upper + CELL - 4, left + 4 : left + CELL - 4]


@pytest.fixture
def photos(tmp_path: Path) -> Callable[..., list[Hit]]:
    def write(count: int) -> list[Hit]:
        for number in range(count):
            Image.new("RGB", (30, 20), (number, 2 * number, 3 * number)).save(tmp_path / f"{number:03}.png")
        return [Hit(tmp_path / f"{number:03}.png", 1 - number / 100) for number in range(count)]

    return write


def test_each_photo_is_in_its_cell(photos: Callable[..., list[Hit]], tmp_path: Path) -> None:
    contact_sheet(photos(7), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (GAP + COLUMNS * (CELL + GAP), GAP + 2 * (CELL + CAPTION + GAP))
        for number in range(7):
            assert (cell(sheet, number // COLUMNS, number % COLUMNS) == [number, 2 * number, 3 * number]).all()
        assert (cell(sheet, 1, 2) == 255).all()
        captions = np.asarray(sheet)[GAP + CELL : GAP + CELL + CAPTION]
    for number in range(COLUMNS):
        under = captions[:, GAP + number * (CELL + GAP) :][:, :CELL]
        assert (under[: CAPTION // 2] < 128).any(), "rank and score"
        assert (under[CAPTION // 2 :] < 128).any(), "name"


def test_a_photo_that_cannot_be_read_is_a_grey_cell(photos: Callable[..., list[Hit]], tmp_path: Path) -> None:
    hits = photos(3)
    hits[0].path.write_bytes(b"no image at all")
    hits[1].path.unlink()
    sheet = draw_sheet(hits)
    for column in (0, 1):
        pixels = cell(sheet, 0, column)
        assert (pixels[40:] == MISSING).all()
        assert (pixels[:40] != MISSING).any(), "the words"
    assert (cell(sheet, 0, 2) == [2, 4, 6]).all()


def test_a_region_is_framed_in_its_whole_photo(photos: Callable[..., list[Hit]]) -> None:
    photo = photos(2)[1].path
    drawn = cell(draw_sheet([ExampleHit(Region(photo, (0, 0, 15, 20)), 0.5, True)]), 0, 0)
    frame = (drawn == BOX_COLOUR).all(axis=2)
    assert frame.any()
    assert not frame[:, CELL // 2 - 4 :].any()
    assert (drawn[CELL // 2 - 4, CELL // 2 + 4] == [1, 2, 3]).all(), "the photo goes on beside the box"


def test_a_title_moves_the_grid_down_and_is_shortened_to_its_width(photos: Callable[..., list[Hit]]) -> None:
    plain, titled = draw_sheet(photos(1)), draw_sheet(photos(1), "a long title " * 20)
    assert titled.width == plain.width == 2 * GAP + CELL
    lower = titled.height - plain.height
    assert lower > 0
    assert np.array_equal(np.asarray(titled)[lower + GAP :], np.asarray(plain)[GAP:])
    assert (np.asarray(titled)[: lower + GAP, -GAP:] == 255).all()


def test_a_sheet_is_limited(photos: Callable[..., list[Hit]]) -> None:
    hit = photos(1)[0]
    assert draw_sheet([hit] * (MOST_PHOTOS + 60)).height == draw_sheet([hit] * MOST_PHOTOS).height
    assert draw_sheet([]).height == GAP


def test_long_names_lose_their_middle() -> None:
    font = sheet_font()
    short = shorten("holiday-" * 10 + "4711.jpg", 120)
    assert font.getlength(short) <= 120
    assert short.startswith("holiday")
    assert "…" in short
    assert short.endswith("711.jpg")
    assert shorten("a.jpg", 120) == "a.jpg"
    assert shorten("a.jpg", 0) == "…"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Año β жук.jpg", "Año β жук.jpg"),
        ("犬.jpg", r"\u72ac.jpg"),
        ("หมา", r"\u0e2b\u0e21\u0e32"),
        ("🦄.png", r"\U0001f984.png"),
        ("a\nb\x1b[31m.jpg", r"a\nb\x1b[31m.jpg"),
        ("\udcff.jpg", r"\udcff.jpg"),
        ("a\u202egpj.exe", r"a\u202egpj.exe"),
    ],
)
def test_a_letter_is_drawn_or_escaped_and_no_box(name: str, shown: str) -> None:
    assert shorten(name, 1000) == shown
    font = sheet_font()
    box = font.getmask("\U0010ffff")  # no font has it
    assert all(bytes(font.getmask(letter)) != bytes(box) for letter in shown)


def test_letters_from_right_to_left_are_drawn_only_where_they_can_be_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: name == "fribidi")
    assert shorten("صورة", 1000) == "صورة"
    monkeypatch.setattr(features, "check", lambda _: False)
    assert shorten("ab ص", 1000) == r"ab \u0635"


def test_only_whole_png_files(photos: Callable[..., list[Hit]], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sheet\.jpg does not end in \.png"):
        contact_sheet(photos(1), tmp_path / "sheet.jpg")
    contact_sheet(photos(1), tmp_path / "new folder" / "sheet.PNG")
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["sheet.PNG"]
