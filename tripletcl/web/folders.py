"""Photos written into a folder of the server's machine, as copies or as links."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from tripletcl.errors import UserError, excerpt
from tripletcl.files import translate_errors
from tripletcl.files.addresses import is_address
from tripletcl.retrieval.export import write_into
from tripletcl.web.api_models import IntoFolder, Job
from tripletcl.web.jobs import Job as Work
from tripletcl.web.jobs import Jobs
from tripletcl.web.photo_library import Library, shown


def add_folders(api: FastAPI, library: Library, jobs: Jobs) -> None:
    """Add the route to an interface whose visitors may write into folders.

    It takes JSON only, which no page of another site can send without asking the server first; the guard answers no
    such question.
    """

    @api.post("/export/folder", status_code=202, tags=["photos"], summary="Copy or link photos into a folder")
    def export(wanted: IntoFolder) -> Job:
        """Answers at once; `/jobs/{id}` tells how far it is. No file is replaced: a number tells equal names apart."""
        photos = [library.path(each) for each in wanted.ids]
        own = [library.run, *([] if is_address(library.index) else [Path(library.index)])]
        folder = folder_to_write(wanted.folder, own)
        work = Work("export", shown(folder))
        jobs.start(work, lambda _: _write(folder, photos, wanted.form == "links"))
        return Job.of(work)


def folder_to_write(text: str, own: Iterable[Path]) -> Path:
    """Read the folder that a visitor typed, and make it if it is missing.

    Args:
        text: What was typed.
        own: Folders that nothing is written into: those of the run and of its index.

    Raises:
        UserError: it is relative, a file, inside one of those folders, or cannot be written.
    """
    try:
        folder = Path(text.strip()).expanduser()
        if not folder.is_absolute() or "\0" in text:
            raise ValueError
    except (ValueError, RuntimeError):  # there is no such user's home
        raise UserError(
            f"{excerpt(text)} is no absolute path; write a folder as in /home/me/found or ~/found"
        ) from None
    for kept in own:
        if folder.resolve().is_relative_to(kept.resolve()):
            raise UserError(f"{shown(folder)} is inside {shown(kept)}, the run or its index; name another folder")
    with translate_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{shown(folder)} is a file; name a folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # it can be written
            return folder


def _write(folder: Path, photos: list[Path], links: bool) -> dict[str, Any]:
    found = {photo: photo.is_file() for photo in photos}
    written = write_into(folder, [photo for photo, is_there in found.items() if is_there], links)
    missing = [shown(photo.name) for photo, is_there in found.items() if not is_there]
    return {"folder": shown(folder), "written": [shown(file.name) for file in written], "missing": missing}
