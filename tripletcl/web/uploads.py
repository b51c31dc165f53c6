"""The photos that visitors upload: images only, in a folder of this server, removed as soon as no page shows them."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tripletcl.data.images import decode_thumbnail
from tripletcl.errors import UserError
from tripletcl.files import locked

PHOTO_BYTES, REQUEST_BYTES, REQUEST_PHOTOS = 25 * 10**6, 400 * 10**6, 64
"""Limits of one photo, and of all photos of one request."""

STORED_BYTES, STORED_PHOTOS = 800 * 10**6, 400
"""Limits of all photos of all visitors at a time."""

FULL = (
    f"The uploads of all visitors may take {STORED_BYTES // 10**6} MB and {STORED_PHOTOS} photos; take some out again, "
    "or wait until others have."
)

SHOWN_SECONDS, UNSHOWN_SECONDS, SWEPT_SECONDS = 6 * 3600, 600, 60
"""Time after which a photo is removed that a page shows, one that none does, and between two checks."""

CHECKED_PIXELS = 32
"""The size at which a photo is decoded to see whether it is one."""

PREFIX = "tripletcl-uploads-"
NAME_CHARACTERS = 60
"""Of a photo's name; some file systems end at 255 bytes, and a character has up to four."""


class TooLarge(UserError):
    """An upload that is larger than what is stored."""


@contextmanager
def private_uploads() -> Iterator[Uploads]:
    """Make a folder for uploads that only this user can read, removed when the block ends; no telemetry.

    The folders of servers that were killed are removed first. The lock next to a folder tells whether its server lives;
    it is acquired first, so that no folder is without one. Gradio reads both settings from the environment when a page
    is built.
    """
    folder = Path(tempfile.gettempdir()) / f"{PREFIX}{secrets.token_hex(8)}"
    settings = {"GRADIO_TEMP_DIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "False"}
    before = {name: os.environ.get(name) for name in settings}
    with locked(folder.with_suffix(".lock")):
        _remove_orphans(folder)
        folder.mkdir(mode=0o700)
        os.environ.update(settings)
        try:
            yield Uploads(folder)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            shutil.rmtree(folder, ignore_errors=True)


def _remove_orphans(own: Path) -> None:
    """Remove the folders of this user's servers that were killed."""
    user = own.with_suffix(".lock").stat().st_uid
    for lock in own.parent.glob(f"{PREFIX}*.lock"):
        with suppress(UserError, OSError):
            if lock.lstat().st_uid == user:
                with locked(lock, busy="its server lives"):
                    shutil.rmtree(lock.with_suffix(""), ignore_errors=True)


class Uploads:
    """The uploaded photos in a folder; each is owned by the part of a visit's page that shows it.

    Args:
        folder: The folder; only this server writes there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._owners: dict[Path, tuple[str, str]] = {}
        self._arriving = 0  # bytes
        self._lock = threading.Lock()

    def holds(self, path: str) -> bool:
        """Tell whether a path is that of an uploaded photo."""
        try:
            return Path(path).is_relative_to(self.folder) and str(Path(path).resolve(strict=True)) == path
        except (OSError, ValueError):
            return False

    def photos(self) -> list[Path]:
        """The files of all photos."""
        return [Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names]

    async def take(self, request: Request) -> Response:
        """Store the photos of a request, and answer their paths; the content-length was checked before."""
        length = int(request.headers["content-length"])
        if sum(map(_size, self.photos())) + self._arriving + length > STORED_BYTES:
            return PlainTextResponse(FULL, 413)
        self._arriving += length
        try:
            async with request.form(max_files=REQUEST_PHOTOS, max_fields=REQUEST_PHOTOS, max_part_size=1024) as form:
                files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
                return JSONResponse([str(path) for path in await run_in_threadpool(self.store, files)])
        except TooLarge as error:
            return PlainTextResponse(str(error), 413)
        except UserError as error:
            return PlainTextResponse(f"{error}.", 415)
        except HTTPException as error:
            return PlainTextResponse(error.detail, error.status_code)
        except ClientDisconnect:
            return Response(status_code=400)
        finally:
            self._arriving -= length

    async def progress(self, _: Request) -> Response:
        """Answer at once that an upload is done: the browser asks for its progress, which nobody watches."""
        return PlainTextResponse('data: {"msg": "done"}\n\n', media_type="text/event-stream")

    def store(self, files: Sequence[UploadFile]) -> list[Path]:
        """Write files into folders of their own, whose names nobody can guess.

        Raises:
            TooLarge: one is too large, or all visitors' photos together are.
            UserError: one is no image, or has too many pixels; none is stored then.
        """
        if any((file.size or 0) > PHOTO_BYTES for file in files):
            raise TooLarge(f"A photo may have up to {PHOTO_BYTES // 10**6} MB.")
        stored, length = self.photos(), sum(file.size or 0 for file in files)
        if len(stored) + len(files) > STORED_PHOTOS or sum(map(_size, stored)) + length > STORED_BYTES:
            raise TooLarge(FULL)
        paths: list[Path] = []
        try:
            for file in files:
                path = self.folder / secrets.token_hex(16) / photo_name(file.filename or "")
                paths.append(path)
                path.parent.mkdir(mode=0o700)
                with path.open("wb") as target:
                    shutil.copyfileobj(file.file, target)
                decode_thumbnail(path, CHECKED_PIXELS, path.name)
        except BaseException:
            self._remove(paths)
            raise
        return paths

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove photos that nothing needs any more."""
        with self._lock:
            self._remove(paths)

    def show(self, visit: str | None, part: str, paths: Collection[Path]) -> None:
        """Note which photos a part of a visit's page shows from now on, and remove those that it showed before."""
        owner = (visit or "", part)
        with self._lock:
            self._owners |= dict.fromkeys(paths, owner)
            self._remove([path for path, each in self._owners.items() if each == owner and path not in paths])
        for path in paths:
            with suppress(OSError):
                os.utime(path)

    def forget(self, visit: str | None) -> None:
        """Remove the photos of a visit that has ended."""
        with self._lock:
            self._remove([path for path, (owner, _) in self._owners.items() if owner == visit])

    def sweep(self) -> None:
        """Remove the photos that have been here for too long."""
        now = time.time()
        with self._lock:
            kept = {path: SHOWN_SECONDS if path in self._owners else UNSHOWN_SECONDS for path in self.photos()}
            self._remove([path for path, seconds in kept.items() if _shown_at(path) + seconds < now])

    @asynccontextmanager
    async def swept(self, _app: Any) -> AsyncIterator[None]:
        """Sweep while an application lives."""

        async def sweep_regularly() -> None:
            while True:
                await asyncio.sleep(SWEPT_SECONDS)
                await run_in_threadpool(self.sweep)

        task = asyncio.create_task(sweep_regularly())
        try:
            yield
        finally:
            task.cancel()

    def _remove(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._owners.pop(path, None)
            shutil.rmtree(path.parent, ignore_errors=True)


def photo_name(given: str) -> str:
    """A file name from the one that a visitor gave: without folders and signs that mean something to a system."""
    plain = given.replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter for letter in plain if letter.isalnum() or letter in " -_.")[-NAME_CHARACTERS:]
    return kept if kept.strip(" .") else "photo"


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # removed meanwhile


def _shown_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
