"""Images that do not exist under the name in a table, and the form in which they do."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from tripletcl.errors import UserError, excerpt

BACKSLASHES = "a backslash where the disk has '/': write '/'"
UNICODE_FORM = "letters in another Unicode form than the file's name (NFC or NFD): write names as the disk has them"
CAPITALS = "other capitals than the file's name: write names as the disk has them"


def require_images(root: Path, images: Sequence[str]) -> None:
    """Check that all images of a table exist.

    Raises:
        UserError: some do not; names the first, and the form in which it exists.
    """
    missing = [image for image in images if not (root / image).exists()]
    if missing:
        form = other_form(root, missing[0])
        hint = f"; its path has {form}" if form else ""
        raise UserError(
            f"{len(missing)} of {len(images)} images do not exist, the first {root / missing[0]}{hint}; "
            "`tripletcl data check` lists them all"
        )


def other_form(root: Path, image: str) -> str | None:
    """Say how the path of a missing image differs from that of a file that exists; None if there is no such file."""
    slashed = image.replace("\\", "/")
    if slashed != image and (root / slashed).exists():
        return BACKSLASHES
    if any((root / unicodedata.normalize(form, image)).exists() for form in ("NFC", "NFD")):
        return UNICODE_FORM
    path = root / image
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    return CAPITALS if path.name.casefold() in {name.casefold() for name in names} else None


def by_other_form(root: Path, images: Iterable[str]) -> dict[str | None, list[str]]:
    """Group missing images by `other_form`."""
    groups: dict[str | None, list[str]] = {}
    for image in images:
        groups.setdefault(other_form(root, image), []).append(image)
    return groups


def describe_form(images: Sequence[str], form: str) -> str:
    """Say that some paths are written in another form than the files' names."""
    return f"{len(images)} image paths have {form}; the first is {excerpt(images[0])}"
