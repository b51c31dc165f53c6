"""Photos that were found, written where other programs take them: a list, a table, a folder, an archive."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tripletcl.errors import UserError, excerpt
from tripletcl.files import translate_errors, write_atomically
from tripletcl.progress import report
from tripletcl.retrieval.details import PhotoDetails
from tripletcl.retrieval.searched import Hit

LISTS = (".txt", ".csv", ".json")
PLACES = ("folder", "links", "zip")
DETAILS = ("name", "folder", "date", "taken", "camera", "width", "height", "size", "latitude", "longitude")
FIELDS = ("path", "score", *DETAILS)


@dataclass(frozen=True)
class Export:
    """A place to write photos to.

    Attributes:
        kind: ".txt", ".csv", ".json", "folder" (copies), "links" (symbolic links) or "zip".
        path: The file or folder.
    """

    kind: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Export:
        """Read `list.txt`, `list.csv`, `list.json`, `folder:DIR`, `links:DIR` or `zip:FILE`.

        Raises:
            UserError: the text is none of them.
        """
        kind, _, place = text.partition(":")
        if kind in PLACES and place:
            return cls(kind, Path(place))
        suffix = Path(text).suffix.lower()
        if suffix in LISTS:
            return cls(suffix, Path(text))
        raise UserError(
            f"{excerpt(text)} is no place to export to; give a file that ends in .txt, .csv or .json, or folder:DIR, "
            "links:DIR or zip:FILE"
        )

    def write(self, hits: Sequence[Hit], details: Sequence[PhotoDetails]) -> None:
        """Write photos, best first; of those whose file is missing there are no copies.

        A list has a photo a line, in its bytes; tables have the details; copies keep their names, with a number where
        two photos have the same one. No file in a folder is replaced; a list or an archive is replaced whole.

        Raises:
            UserError: the place cannot be written.
        """
        if self.kind in LISTS:
            data = {".txt": _text, ".csv": _table, ".json": _json}[self.kind](hits, details)
            write_atomically(self.path, lambda draft: draft.write_bytes(data))
            return
        photos = [hit.path for hit in hits if hit.path.is_file()]
        if self.kind == "zip":
            write_atomically(self.path, lambda draft: write_archive(draft, photos))
        else:
            write_into(self.path, photos, links=self.kind == "links")


def write_into(folder: Path, photos: Sequence[Path], links: bool = False) -> list[Path]:
    """Write copies of photos, or symbolic links to them, into a folder, and report progress.

    They keep their names, with a number where another file has the same one. No file is replaced, also none that
    appears meanwhile.

    Args:
        folder: The folder; made if it is missing.
        photos: Files that exist.
        links: Make links.

    Returns:
        The new files.

    Raises:
        UserError: the folder, or a file in it, cannot be written.
    """
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        taken = {path.name for path in folder.iterdir()}
    targets = [folder / name for name in free_names(photos, taken)]
    for done, (photo, target) in enumerate(zip(photos, targets, strict=True), 1):
        with translate_errors(target):
            _link(photo, target) if links else _copy(photo, target)
        report("copying photos", done, len(photos))
    return targets


def free_names(photos: Sequence[Path], taken: set[str]) -> list[str]:
    """A name for each photo that no other has, also in capitals: `IMG_1.jpg`, `IMG_1 (2).jpg`."""
    used = {name.casefold() for name in taken}
    names = []
    for photo in photos:
        name, number = photo.name, 1
        while name.casefold() in used:
            number += 1
            name = f"{photo.stem} ({number}){photo.suffix}"
        used.add(name.casefold())
        names.append(name)
    return names


def write_archive(file: Path, photos: Sequence[Path]) -> None:
    """Write photos into an archive as they are: they hardly become smaller."""
    legible = [Path(os.fsencode(photo.name).decode(errors="replace")) for photo in photos]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive:
        for photo, name in zip(photos, free_names(legible, set()), strict=True):
            archive.write(photo, name)


def path_lines(photos: Sequence[Path]) -> bytes:
    """The paths of photos in their bytes, one a line."""
    return b"".join(os.fsencode(photo) + b"\n" for photo in photos)


def hit_fields(hit: Hit, details: PhotoDetails) -> dict[str, Any]:
    """A photo that was found, with its details, as JSON takes it."""
    date, taken = details.date, details.taken
    times = {"date": date and str(date), "taken": taken and taken.isoformat()}
    return {"path": str(hit.path), "score": hit.score} | {field: getattr(details, field) for field in DETAILS} | times


def _text(hits: Sequence[Hit], details: Sequence[PhotoDetails]) -> bytes:
    return path_lines([hit.path for hit in hits])


def _json(hits: Sequence[Hit], details: Sequence[PhotoDetails]) -> bytes:
    rows = [hit_fields(hit, each) for hit, each in zip(hits, details, strict=True)]
    return (json.dumps(rows, indent=2) + "\n").encode()


def _table(hits: Sequence[Hit], details: Sequence[PhotoDetails]) -> bytes:
    stream = io.StringIO(newline="")
    table = csv.DictWriter(stream, FIELDS)
    table.writeheader()
    table.writerows(hit_fields(hit, each) for hit, each in zip(hits, details, strict=True))
    return stream.getvalue().encode(errors="surrogateescape")


def _copy(photo: Path, copy: Path) -> None:
    """Copy a file with its times to a place where there is none; what cannot be finished is removed."""
    target = copy.open("xb")
    try:
        with photo.open("rb") as source, target:
            shutil.copyfileobj(source, target)
        shutil.copystat(photo, copy)
    except BaseException:
        copy.unlink()
        raise


def _link(photo: Path, link: Path) -> None:
    link.symlink_to(photo.absolute())
