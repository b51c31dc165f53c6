"""Files that are whole or not there: written beside their place, synced, then renamed over it; and locks."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tripletcl.errors import UserError

log = logging.getLogger("tripletcl")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside path, sync it, and rename it to path.

    Raises:
        UserError: the disk is full or the folder cannot be written; what lay at path before is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with explained(path):
            write(temporary)
            sync_to_disk(temporary)
            temporary.replace(path)
            sync_to_disk(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def append_line(path: Path, line: str) -> None:
    """Add one line to a text file.

    Raises:
        UserError: the disk is full or the file cannot be written.
    """
    with explained(path), path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say what is written when the disk is full or the folder may not be written.

    Raises:
        UserError: one of the two happened within the block; any other error is passed on.
    """
    try:
        yield
    except Exception as error:
        raise _explained(error, path) from error


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold a lock file against other processes; the system lets go when this one ends, however it ends.

    Args:
        path: The lock file, there only as long as a process holds it (or was killed holding it, which does no harm).
        busy: What to say where another process holds it; without a word, wait until it lets go.

    Raises:
        UserError: another process holds it and `busy` is given, or the file cannot be written.
    """
    with _held(path, busy):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: whoever waits for this file finds it gone, and asks anew


def _held(path: Path, busy: str | None) -> IO[str]:
    """The open lock file, held."""
    while True:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if busy is not None:
                raise UserError(busy) from error
            log.info("waiting for another process, which holds %s", path)
            fcntl.flock(file, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_to_disk(path: Path) -> None:
    """Return when a file's content, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: Exception, path: Path) -> Exception:
    """A full disk or a forbidden folder in words; libraries below hide the errno in their message."""
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error) for words in ("No space left", "disk is full")):
        return UserError(f"the disk is full: {path} could not be written; what was saved before is untouched")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UserError(f"{path} may not be written: {os.strerror(code)}")
    return error
