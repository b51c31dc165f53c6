"""Atomic writes (a draft that is synced, then renamed), locks between processes, and stamps of files."""

from __future__ import annotations

import errno
import hashlib
import itertools
import logging
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple

from filelock import FileLock, Timeout

from tripletcl.errors import UserError

log = logging.getLogger("tripletcl")

POLL_SECONDS = 0.02
"""Time between two attempts to acquire a lock that another process holds."""

RACE_NS = 2_000_000_000
"""A file that is written again within this time may keep its stamp: FAT counts time in steps of 2 s."""

HOST = re.sub(r"\W", "-", socket.gethostname())[:32]
"""The name of this machine in those of drafts: several may write to a shared folder."""

DRAFT = re.compile(r"\..+\.(\d{1,9})(-\d+)?(@[\w-]+)?\.tmp")
"""Names of drafts, with the process that writes each, and its machine."""

DRAFTS = itertools.count()
"""Numbers of this process's drafts: two threads may write one file."""


class FileStamp(NamedTuple):
    """Size in bytes and modification time in ns; while both are the same, a file's content is taken to be the same."""

    size: int
    mtime_ns: int


def stat_file(path: str | Path) -> FileStamp:
    """The stamp of a file.

    Raises:
        OSError: there is no such file.
    """
    stat = os.stat(path)  # noqa: PTH116 - building a Path for each of many files costs more than the stat
    return FileStamp(stat.st_size, stat.st_mtime_ns)


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a draft of a file, sync it, and rename it to path.

    Raises:
        UserError: the disk is full or the folder cannot be written; an existing file at path is unchanged.
    """
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(path) as draft:
            draft.touch()
            mode = draft.stat().st_mode  # follows the umask, where some libraries let nobody else read
            write(draft)
            draft.chmod(mode)
            sync_to_disk(draft)
            draft.replace(path)
            sync_to_disk(path.parent)


@contextmanager
def writable_folder(folder: Path) -> Iterator[Path]:
    """Name a folder for what can be computed again: this one, or a temporary one where it may not be written."""
    existing = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if os.access(existing, os.W_OK):
        yield folder
        return
    log.warning("%s may not be written: what it should hold is computed for this command only", folder)
    with TemporaryDirectory(ignore_cleanup_errors=True) as own:
        yield Path(own)


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """Name a draft of a file or folder, next to it, to be renamed to it when it is complete; else it is removed."""
    remove_drafts(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}-{next(DRAFTS)}@{HOST}.tmp")
    try:
        yield draft
    finally:
        _remove(draft)


@cache  # a folder may have many files: once for each process is enough
def remove_drafts(folder: Path) -> None:
    """Remove the drafts that processes of this machine left in a folder when they were killed."""
    with suppress(OSError):
        for path in folder.iterdir():
            match = DRAFT.fullmatch(path.name)
            if match and match[3] in (None, f"@{HOST}") and not _is_alive(int(match[1])):
                _remove(path)


def is_draft(path: Path) -> bool:
    """Tell whether a path has the name of a draft."""
    return DRAFT.fullmatch(path.name) is not None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process of another user
        return True
    return True


def _remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def append_line(path: Path, line: str) -> None:
    """Append one line to a text file, after dropping a last line that was cut short, with a warning.

    Raises:
        UserError: the disk is full or the file cannot be written.
    """
    with translate_errors(path), path.open("a+b") as file:
        _drop_fragment(file, path)
        file.write(line.encode() + b"\n")


def _drop_fragment(file: BinaryIO, path: Path) -> None:
    """Truncate a file to its complete lines."""
    size = file.seek(0, os.SEEK_END)
    if not size:
        return
    file.seek(size - 1)
    if file.read(1) != b"\n":
        file.seek(0)
        complete = file.read().rfind(b"\n") + 1
        log.warning("the last line of %s was cut short; its %d bytes are dropped", path, size - complete)
        file.truncate(complete)


@contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """Turn the errors of the system, as of a full disk or a forbidden folder, into sentences; others pass unchanged.

    Raises:
        UserError: one of them happened within the block, while `path` was written.
    """
    try:
        yield
    except Exception as error:
        message = _message(error, path)
        if message is None:
            raise
        raise UserError(message) from error


@contextmanager
def locked(path: Path, busy: str | None = None) -> Iterator[None]:
    """Hold a lock file against other processes; the system releases it when this process ends, however it ends.

    Args:
        path: The lock file. It is removed on release; a process that was killed leaves the file, but not the lock.
        busy: The message if another process holds the lock; None waits until it is released.

    Raises:
        UserError: another process holds the lock and `busy` is given, or the file cannot be written.
    """
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            if busy is not None:
                raise UserError(busy) from error
            log.info("waiting for another process, which holds %s", path)
            lock.acquire(poll_interval=POLL_SECONDS)
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file, but does so itself on release
            path.unlink()  # while the lock is held: waiting processes notice that their file is deleted, and retry
        lock.release()


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, would survive a power cut."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folder, and syncs a file only if open to write
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _message(error: Exception, path: Path) -> str | None:
    """The sentence for an error of the system, None for other errors."""
    code = error.errno if isinstance(error, OSError) else _code_in(str(error))
    if code in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full: {path} could not be written; what was saved before is untouched"
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path} may not be written: {os.strerror(code)}"
    return None if code is None else f"{path} cannot be written: {os.strerror(code)}"


def _code_in(text: str) -> int | None:
    """The system's error code that some libraries name only in their message."""
    if "disk is full" in text:
        return errno.ENOSPC
    code = re.search(r"os error (\d+)", text)
    return int(code[1]) if code else None
