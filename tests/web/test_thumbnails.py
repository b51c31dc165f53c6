"""Thumbnails are drawn once while they are held, and those that are held are bounded by their bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletcl.web import thumbnails
from tripletcl.web.thumbnails import Thumbnails

COUNT = 6


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    return paths


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The pictures that were drawn, in order."""
    calls: list[tuple[str, int]] = []
    draw = thumbnails._draw
    monkeypatch.setattr(thumbnails, "_draw", lambda path, size: calls.append((path.name, size)) or draw(path, size))
    return calls


def held_bytes(held: Thumbnails) -> int:
    return sum(map(len, held._held.values()))


def test_the_pictures_asked_for_last_are_held(photos: list[Path], drawn: list[tuple[str, int]]) -> None:
    one = len(thumbnails._draw(photos[0], 32))
    held = Thumbnails(most_bytes=int(3.5 * one))
    drawn.clear()
    pictures = [held.jpeg(path, 0, 32) for path in photos[:3]]
    assert [held.jpeg(path, 0, 32) for path in photos[:3]] == pictures
    assert [name for name, _ in drawn] == ["0.png", "1.png", "2.png"]
    held.jpeg(photos[0], 0, 32)  # now 1 was asked for longest ago
    held.jpeg(photos[3], 0, 32)
    drawn.clear()
    for number in (0, 2, 3, 1):
        held.jpeg(photos[number], 0, 32)
    assert [name for name, _ in drawn] == ["1.png"]
    assert held_bytes(held) <= held.most_bytes


def test_another_size_or_a_changed_file_is_another_picture(photos: list[Path], drawn: list[tuple[str, int]]) -> None:
    held = Thumbnails()
    assert len({held.jpeg(photos[0], 0, 16), held.jpeg(photos[0], 0, 32)}) == 2
    held.jpeg(photos[0], 1, 32)
    assert drawn == [("0.png", 16), ("0.png", 32), ("0.png", 32)]


def test_a_picture_that_is_too_large_is_shown_and_not_held(photos: list[Path]) -> None:
    held = Thumbnails(most_bytes=100)
    assert held.jpeg(photos[0], 0, 64)
    assert held_bytes(held) == held._bytes == 0


def test_visitors_at_once_do_not_lose_count(photos: list[Path]) -> None:
    held = Thumbnails(most_bytes=len(thumbnails._draw(photos[0], 32)) * 3)
    with ThreadPoolExecutor(8) as visitors:
        list(visitors.map(lambda number: held.jpeg(photos[number % COUNT], 0, 32), range(60)))
    assert held_bytes(held) == held._bytes <= held.most_bytes
