"""Features on disk in shards: each is written whole, has its SHA-256 in an index, and is mapped into memory.

FOLDER/index.json           for each shard its SHA-256, size and time of modification
FOLDER/0000000-0004096.npy  float16 `[SHARD, V, ...]`, the features of these images; the last shard is shorter

A shard counts once the index has it. Whatever process is killed, those that count are not computed again; one that was
damaged is.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from tripletcl.errors import UserError
from tripletcl.files import read_json, reading, sha256, stat_file, write_atomically, write_json

log = logging.getLogger("tripletcl")

SHARD = 4096
"""Images of a shard, a multiple of the batch that computes features."""

INDEX = "index.json"
COMPUTED_AGAIN = "its features are computed again"


class ShardedArray:
    """Arrays `[n, V, ...]`, of one length but the last, read as one `[N, V, ...]`.

    Attributes:
        parts: The arrays.
        shape: That of the whole.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = [np.asarray(part) for part in parts]  # no memmap: a view of one takes a microsecond
        self.shape = (sum(map(len, parts)), *parts[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: tuple[np.ndarray, np.ndarray | int]) -> np.ndarray:
        """Copy the rows `[B, ...]` of ids `[B]`, each of one view."""
        ids, views = at[0], np.broadcast_to(at[1], at[0].shape)
        part, row = np.divmod(ids, len(self.parts[0]))
        if len(ids) and (part == part[0]).all():
            return self.parts[part[0]][row, views]
        rows = np.empty((len(ids), *self.shape[2:]), self.parts[0].dtype)
        # One by one: to select those of each shard takes five times longer, for a batch has few in each.
        for place, (number, own, view) in enumerate(zip(part.tolist(), row.tolist(), views.tolist(), strict=True)):
            rows[place] = self.parts[number][own, view]
        return rows


class FeatureShards:
    """The shards of the features of some images in a folder, which need not exist.

    Args:
        folder: The folder.
        count: N, the number of images.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.ranges = folder, [range(at, min(at + SHARD, count)) for at in range(0, count, SHARD)]
        self._index = self._read_index()

    def open(self) -> ShardedArray | None:
        """Map all shards into memory; None if one is missing or damaged."""
        before = dict(self._index)
        if not all(self._is_intact(number) for number in range(len(self.ranges))):
            return None
        if self._index != before:
            with suppress(UserError):  # only saves the next opening to read all bytes; the folder may be read-only
                write_json(self.folder / INDEX, self._index)
        return ShardedArray([np.load(self._path(number), mmap_mode="r") for number in range(len(self.ranges))])

    def missing(self) -> list[int]:
        """Return the numbers of the shards that have to be computed; a warning names those that are damaged."""
        numbers = [number for number in range(len(self.ranges)) if not self._is_intact(number)]
        for number in numbers:
            if self._path(number).name in self._index:
                log.warning("%s is damaged: %s", self._path(number), COMPUTED_AGAIN)
        return numbers

    def write(self, number: int, shape: Sequence[int], blocks: Iterable[np.ndarray]) -> None:
        """Write a shard.

        Args:
            number: Its number.
            shape: Of the features of an image, (V, ...).
            blocks: Those of its images in order, float16 `[n, V, ...]`.

        Raises:
            UserError: the disk is full or the folder cannot be written; what was written before is kept.
        """
        path, digest = self._path(number), hashlib.sha256()

        def write(draft: Path) -> None:
            # In blocks and not through a memory map, where a full disk would end the process without an error.
            with draft.open("wb") as file:
                for data in (_header((len(self.ranges[number]), *shape)), *(block.tobytes() for block in blocks)):
                    digest.update(data)
                    file.write(data)

        try:
            write_atomically(path, write)
        except BaseException:
            with suppress(OSError):  # a folder with shards stays
                self.folder.rmdir()
            raise
        self._index[path.name] = [digest.hexdigest(), *stat_file(path)]
        write_json(self.folder / INDEX, self._index)

    def _path(self, number: int) -> Path:
        images = self.ranges[number]
        return self.folder / f"{images.start:07d}-{images.stop:07d}.npy"

    def _read_index(self) -> dict[str, list]:
        path = self.folder / INDEX
        if not path.exists():
            return {}
        try:
            stored = read_json(path, COMPUTED_AGAIN)
            with reading(path, COMPUTED_AGAIN):
                return {name: [str(digest), int(size), int(time)] for name, (digest, size, time) in stored.items()}
        except UserError as error:
            log.warning("%s", error)
            return {}

    def _is_intact(self, number: int) -> bool:
        """True for a shard that is as it was written: its stamp is known, or its content has the SHA-256."""
        path = self._path(number)
        digest, *stamp = self._index.get(path.name, ("",))
        try:
            found = stat_file(path)
            if not digest or (stamp != list(found) and sha256(path) != digest):
                return False
        except OSError:
            return False
        self._index[path.name] = [digest, *found]
        return True


def _header(shape: tuple[int, ...]) -> bytes:
    """The header of an .npy file of float16."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": shape})
    return header.getvalue()
