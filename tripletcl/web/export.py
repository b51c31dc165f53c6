"""Chosen photos as a file to take along: a list of paths, a table, JSON, or an archive of the photos."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tripletcl.errors import UserError
from tripletcl.retrieval.details import PhotoDetails
from tripletcl.retrieval.export import path_lines, write_archive
from tripletcl.web.jobs import NotHere
from tripletcl.web.photo_library import shown

SUFFIXES = {"list": "txt", "csv": "csv", "json": "json", "zip": "zip"}
ZIP_BYTES = 4 * 10**9
"""Most bytes of the photos in an archive."""

COLUMNS = ("path", "name", "folder", "taken", "modified", "camera", "width", "height", "size", "latitude", "longitude")


def write_export(photos: Sequence[PhotoDetails], form: str) -> Path:
    """Write chosen photos into a temporary file, which the caller removes.

    Args:
        photos: The photos.
        form: A key of SUFFIXES.

    Raises:
        UserError: the photos are too large for one archive, or a file does not exist any more.
    """
    handle, name = tempfile.mkstemp(prefix="tripletcl-export-", suffix=f".{SUFFIXES[form]}")
    os.close(handle)
    file = Path(name)
    try:
        if form == "zip":
            _write_zip(photos, file)
        else:
            file.write_bytes(_text(photos, form))
    except BaseException:
        file.unlink()
        raise
    return file


def _text(photos: Sequence[PhotoDetails], form: str) -> bytes:
    if form == "list":
        return path_lines([photo.path for photo in photos])
    rows = [_row(photo) for photo in photos]
    if form == "json":
        return json.dumps(rows, ensure_ascii=False, indent=1).encode()
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue().encode()


def _row(photo: PhotoDetails) -> dict[str, Any]:
    times = {
        "taken": photo.taken and photo.taken.isoformat(),
        "modified": photo.modified and photo.modified.isoformat(),
    }
    names = {"path": shown(photo.path), "name": shown(photo.name), "folder": shown(photo.folder)}
    return {name: {**asdict(photo), **names, **times}[name] for name in COLUMNS}


def _write_zip(photos: Sequence[PhotoDetails], file: Path) -> None:
    if (total := sum(photo.size or 0 for photo in photos)) > ZIP_BYTES:
        raise UserError(
            f"these photos take {total / 1e9:.1f} GB, and an archive holds {ZIP_BYTES // 10**9}; choose fewer, or "
            "export a list"
        )
    for photo in photos:
        if not photo.path.is_file():
            raise NotHere(f"{shown(photo.path)} does not exist any more")
    write_archive(file, [photo.path for photo in photos])
