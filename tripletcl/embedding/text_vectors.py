"""Vectors that a text encoder gives, each computed once: remembered, and kept in files for later processes."""

from __future__ import annotations

import json
import time
import weakref
from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tripletcl.embedding.minilm import bundled_encoder
from tripletcl.embedding.word_vectors import WordVectors
from tripletcl.errors import UserError
from tripletcl.files import FileStamp, stat_file
from tripletcl.files.arrays import ArrayFile, read_arrays, read_cached, write_arrays

if TYPE_CHECKING:
    from torch import Tensor

TEXTS_NAMED = 3
"""Texts that a message names."""

PAUSE = 10.0
"""Seconds between two times that a process writes the file, which is written as a whole: a server gets new texts all
the time."""

Encoded = dict[str, np.ndarray]
"""Vectors `[E]` by their texts."""


class TextEncoder(Protocol):
    """A frozen encoder without any state that is trained or saved; one with a `fingerprint` may be cached in files."""

    width: int

    def encode(self, texts: Sequence[str]) -> np.ndarray | Tensor:
        """Encode texts as vectors `[n, width]` float32 on the CPU; a text's vector does not depend on the others."""
        ...


def text_encoder(spec: str) -> TextEncoder:
    """Build a text encoder, see `build_text_encoder`; the bundled one and word vectors need no torch."""
    if spec == "minilm":
        return bundled_encoder()
    if Path(spec).is_file():
        return WordVectors(Path(spec))
    from tripletcl.embedding.text_encoders import build_text_encoder

    return build_text_encoder(spec)


class TextVectors:
    """Vectors of texts as an encoder gives them, float32 on the CPU.

    Args:
        encoder: The encoder.
        name: Its name (`text_encoder`) where none is given: it is built for the first text whose vector is not stored.
        kept: Texts that are remembered, the latest; None for all.
    """

    def __init__(self, encoder: TextEncoder | None = None, name: str = "minilm", kept: int | None = None) -> None:
        self._given, self._name, self._kept = encoder, name, kept
        self._encoded: dict[str, np.ndarray] = {}
        self._folder: Path | None = None
        self._opened: TextFile | None = None

    @cached_property
    def encoder(self) -> TextEncoder:
        """The encoder."""
        return text_encoder(self._name) if self._given is None else self._given

    def __deepcopy__(self, memo: dict) -> TextVectors:
        return self

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """The vectors `[n, E]` of one or more texts."""
        found = {text: vector for text in dict.fromkeys(texts) if (vector := self._encoded.get(text)) is not None}
        if new := [text for text in dict.fromkeys(texts) if text not in found]:
            encoded = self._encode(new)
            found |= encoded
            self._encoded |= encoded
            self._forget()
        return np.stack([found[text] for text in texts])

    def _forget(self) -> None:
        """Forget the oldest texts; others may ask at the same time."""
        if self._kept is not None and len(self._encoded) > self._kept:
            for text in list(self._encoded)[: -self._kept]:
                self._encoded.pop(text, None)

    def cache_in(self, folder: Path) -> None:
        """Keep what an encoder with a fingerprint encodes in a folder, for all runs with it."""
        self._folder = folder

    def save(self, path: Path) -> None:
        """Write the vectors of all texts so far, whole or not at all, unless the file has them all."""
        if self._encoded.keys() - read_texts(path).keys():
            write_texts(path, self._encoded)

    def load(self, path: Path) -> None:
        """Read the vectors that `save` wrote with the same encoder; a missing or damaged file has none."""
        self._encoded |= read_texts(path)

    @property
    def _file(self) -> TextFile | None:
        """That of the folder for the encoder."""
        fingerprint = getattr(self.encoder, "fingerprint", None)
        if self._folder is None or fingerprint is None:
            return None
        path = self._folder / f"texts-{fingerprint}.safetensors"
        if self._opened is None or self._opened.path != path:
            self._opened = TextFile(path)
        return self._opened

    def _encode(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Encode texts, or take them from the folder."""
        file = self._file
        found = {} if file is None else file.find(texts)
        if new := [text for text in texts if text not in found]:
            encoded = dict(zip(new, np.asarray(self.encoder.encode(new)), strict=True))
            if file is not None:
                file.add(encoded)
            found |= encoded
        return found


# --- on disk ---------------------------------------------------------------------------------------------------------


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
