"""The paths of the photos of an index, as bytes one after another: a path is decoded when it is asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

END = b"\0"
"""After each path, which cannot have it."""

BLOCK = 2**16
"""Paths that are decoded at a time when all are."""


def name_bytes(names: Sequence[str]) -> np.ndarray:
    """The bytes of some paths, each with its END, uint8; a path may be no Unicode."""
    return np.frombuffer(b"".join(os.fsencode(name) + END for name in names), np.uint8)


def name_hash(name: str) -> int:
    """A hash of 64 bits, the same on every machine."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "little")


class Names(Sequence[str]):
    """The paths of rows; empty for removed photos.

    Args:
        text: The bytes of all paths, in the order of the rows (`name_bytes`).
        records: `[rows]` of PHOTO_TYPE.
        deleted: `[rows]` bool.
    """

    def __init__(self, text: np.ndarray, records: np.ndarray, deleted: np.ndarray) -> None:
        self._text, self._records, self._deleted = text, records, deleted

    def __len__(self) -> int:
        return len(self._deleted)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> list[str]: ...

    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[row] for row in range(*at.indices(len(self)))]
        if self._deleted[at]:
            return ""
        record = self._records[at]
        return os.fsdecode(self._text[record["start"] : record["start"] + record["length"]].tobytes())

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), BLOCK):
            block = slice(first, first + BLOCK)
            for name, deleted in zip(self.texts(block), self._deleted[block].tolist(), strict=True):
                yield "" if deleted else name

    def texts(self, block: slice, lower: bool = False) -> list[str]:
        """The paths of some rows in a row, also of removed photos; `lower` in lower case."""
        records = self._records[block]
        if not len(records):
            return []
        end = int(records["start"][-1] + records["length"][-1])
        text = os.fsdecode(self._text[records["start"][0] : end].tobytes())
        return (text.lower() if lower else text).split(END.decode())
