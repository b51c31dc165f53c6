"""A file of text vectors that many processes share, and that is neither read nor written for each new text."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import numpy as np

from tripletcl.errors import UserError
from tripletcl.files import FileStamp, stat_file
from tripletcl.files.arrays import ArrayFile, read_arrays, read_cached, write_arrays

PAUSE = 10.0
"""Seconds between two times that a process writes the file, which is written as a whole: a server gets new texts all
the time."""

Encoded = dict[str, np.ndarray]
"""Vectors `[E]` by their texts."""


class TextFile:
    """The file of what an encoder has encoded; it only saves time, so a damaged or full one is done without.

    Args:
        path: The file, which may be missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: FileStamp | None = None
        self._texts: frozenset[str] = frozenset()  # of the file when it had this stamp
        self._unwritten: Encoded = {}
        self._pause_end = 0.0
        weakref.finalize(self, _add_last, path, self._unwritten)  # at the end of the process at the latest

    def find(self, texts: Collection[str]) -> Encoded:
        """Read the vectors of those of some texts that the file has."""
        stamp = _stamp(self.path)
        if stamp == self._stamp and self._texts.isdisjoint(texts):
            return {}
        stored = read_texts(self.path)
        self._stamp, self._texts = stamp, frozenset(stored)
        return {text: stored[text].copy() for text in texts if text in stored}  # no views of the vectors of all texts

    def add(self, encoded: Encoded) -> None:
        """Write new vectors into the file, at once or after PAUSE with later ones."""
        self._unwritten.update(encoded)
        if time.monotonic() >= self._pause_end:
            self._pause_end = time.monotonic() + PAUSE
            _add(self.path, self._unwritten)


def read_texts(path: Path) -> Encoded:
    """Read all vectors of a file; a missing or damaged one has none."""
    return read_cached(path, _parse, read_arrays) or {}


def write_texts(path: Path, encoded: Encoded) -> None:
    """Write a file of vectors, whole or not at all."""
    write_arrays(path, {"vectors": np.stack(list(encoded.values()))}, {"texts": json.dumps(list(encoded))})


def _add(path: Path, unwritten: Encoded) -> None:
    """Add vectors to those of a file, and forget them."""
    new = dict(unwritten)
    if not new:
        return
    with suppress(UserError):  # a full disk, or a folder that may not be written
        write_texts(path, read_texts(path) | new)
    for text in new:
        unwritten.pop(text, None)


def _add_last(path: Path, unwritten: Encoded) -> None:
    """`_add`, unless somebody has removed the file, or all of its folder."""
    if path.exists():
        _add(path, unwritten)


def _parse(stored: ArrayFile) -> Encoded:
    return dict(zip(json.loads(stored.about["texts"]), stored.arrays["vectors"], strict=True))


def _stamp(path: Path) -> FileStamp | None:
    try:
        return stat_file(path)
    except OSError:
        return None
