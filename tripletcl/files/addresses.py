"""Paths of this machine, and addresses such as s3://bucket/photos.lance, which are no paths."""

from __future__ import annotations

import os
from pathlib import Path

Place = str | Path
"""A path of this machine, or an address as text: a Path would lose one of its slashes."""


def is_address(place: Place) -> bool:
    """True for an address."""
    return "://" in str(place)


def may_hold_index(place: Place) -> bool:
    """True for an address, since only its store knows, and for a folder that exists."""
    return is_address(place) or Path(place).is_dir()


def relative_place(place: Place, folder: Path) -> str:
    """Return a path as seen from a folder; an address stays."""
    return str(place) if is_address(place) else os.path.relpath(place, folder)


def place_from(folder: Path, place: str) -> Place:
    """Invert `relative_place`."""
    return place if is_address(place) else folder / place
