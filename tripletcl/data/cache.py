"""Decode each image once, into one memory-mapped array on disk."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tripletcl.data.images import (
    Photo,
    PixelBox,
    Region,
    decode_parts,
    map_in_threads,
    photo_digest,
    read_photo,
    unreadable_error,
)
from tripletcl.errors import UserError
from tripletcl.files import RACE_NS, FileStamp, draft_of, locked, stat_file, writable_folder
from tripletcl.progress import report

VERSION = 1
"""Part of every cache's name: raise it when `decode_image` gives other pixels, or the files here change their form."""

ATTEMPTS = 5


class _ImageStamp(NamedTuple):
    """Size, modification time and time of change of an image file; while all are the same, its content is.

    Another photo may be put in its place with the same size and modification time, as `cp -p` and `rsync -t` do; the
    time of change is set by the system only. Caches of earlier versions do not have it.
    """

    size: int
    mtime_ns: int
    ctime_ns: int = 0

    @classmethod
    def of(cls, path: str) -> _ImageStamp:
        """The stamp of a file.

        Raises:
            OSError: There is no such file.
        """
        stat = os.stat(path)  # noqa: PTH116 - building a Path for each of many files costs more than the stat
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


UNKNOWN = _ImageStamp(-1, 0)
"""The stamp of no file: the content is compared at the next opening."""


class _Item(NamedTuple):
    """A file, and the part of it that is decoded; None is all of it."""

    file: str
    box: PixelBox | None = None

    def __str__(self) -> str:
        return self.file if self.box is None else f"{self.file} {list(self.box)}"

    @classmethod
    def of(cls, photo: str | Photo) -> _Item:
        file = os.path.abspath(photo)  # noqa: PTH100 - symbolic links keep their names
        return cls(file, photo.box if isinstance(photo, Region) else None)


class ImageCache:
    """N decoded images of one size, as a memory-mapped uint8 array `[N, 3, size, size]`.

    `cache[ids]` is a new array `[B, 3, size, size]`. Built by `ImageCache.open`.

    Attributes:
        fingerprint: A hash of the images' content, their order and the size.
    """

    def __init__(self, pixels: np.ndarray, rows: np.ndarray, fingerprint: str) -> None:
        self._pixels, self._rows = pixels, rows
        self.fingerprint = fingerprint

    @classmethod
    def open(cls, paths: Sequence[str | Photo], size: int, folder: str | Path) -> ImageCache:
        """Open the cache of these images in `folder`, and decode the images that it lacks.

        A folder has one cache for each size and each common parent folder of images. It holds every image that was ever
        opened and whose file still exists when others are added, so that several lists of the same images share it. An
        image whose stamp (`_ImageStamp`) is unchanged is trusted; otherwise its content is compared, and it is decoded
        again only if that changed: adding, renaming or touching images decodes no others. If two processes open the
        same cache, one builds it while the other waits; a new file is renamed into place, so that no process reads half
        of one.

        Args:
            paths: The images, or regions of them; row i of the cache is image i.
            size: The side of the decoded squares, in pixels.
            folder: The folder of the cache; created if it is missing.

        Raises:
            UserError: Images that cannot be decoded (their number, and the first), a full disk, or a folder that cannot
                be written.
        """
        if not paths:
            raise UserError("an image cache needs at least one image")
        items = [_Item.of(path) for path in paths]
        place = _place(items, size, folder)
        try:
            stored = _load_current(items, size, place)  # usually it is complete, and needs no lock
            if stored is None:
                with writable_folder(Path(folder)) as own, locked(own / f".{place.name}.lock"):
                    stored = _load_or_build(items, size, own / place.name)
            return stored.view(items, size)
        except OSError as error:
            raise UserError(f"the image cache cannot be kept in {folder}: {error.strerror or error}") from error

    @classmethod
    def stored(cls, paths: Sequence[str | Photo], size: int, folder: str | Path) -> ImageCache | None:
        """The cache of these images as it is in the folder, or None if it lacks any; no image file is read.

        For images that may be missing by now: the pixels are those of the time when they were last opened.
        """
        items = [_Item.of(path) for path in paths]
        stored = _load(_place(items, size, folder), size)
        return stored.view(items, size) if stored is not None and stored.entries.keys() >= set(items) else None

    @classmethod
    def contents(cls, paths: Sequence[str | Photo], size: int, folder: str | Path) -> list[str]:
        """The `photo_digest` of each image, "" of one that cannot be read; files that the cache knows are not read.

        That of a region is its photo's.
        """
        items = [_Item.of(path) for path in paths]
        stored = _load(_place(items, size, folder), size) if items else None
        known = {item.file: entry for item in items if (entry := _trusted_entry(item, stored)) is not None}
        others = [_Item(file) for file in dict.fromkeys(item.file for item in items) if file not in known]
        found = dict(zip((item.file for item in others), map_in_threads(_read_entry, others), strict=True))
        entries = [known.get(item.file) or found[item.file] for item in items]
        return [entry.digest if entry is not None else "" for entry in entries]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, ids: np.ndarray | Sequence[int]) -> np.ndarray:
        return self._pixels[self._rows[np.asarray(ids)]]

    @property
    def size(self) -> int:
        """The side of the squares, in pixels."""
        return int(self._pixels.shape[-1])


@dataclass(frozen=True, slots=True)
class _Entry:
    """An image file as it was when it was last checked, and the part of it that is decoded."""

    stamp: _ImageStamp
    digest: str
    box: PixelBox | None = None

    @property
    def content(self) -> str:
        """All that the pixels depend on."""
        return self.digest if self.box is None else f"{self.digest}{list(self.box)}"


_Decoded = tuple[_Entry, np.ndarray] | str
"""An image's entry and pixels, or the reason why it cannot be decoded."""


@dataclass(frozen=True)
class _Stored:
    """A cache in the folder: its pixels, and the manifest with the content that they were decoded from."""

    manifest: dict[str, Any]
    pixels: np.ndarray
    data_stamp: FileStamp

    @cached_property
    def entries(self) -> dict[_Item, _Entry]:
        return dict(map(_parse_row, self.manifest["images"]))

    @cached_property
    def contents(self) -> list[str]:
        return [_parse_row(row)[1].content for row in self.manifest["images"]]

    @cached_property
    def rows(self) -> dict[str, int]:
        return {content: row for row, content in enumerate(self.contents)}

    def view(self, items: list[_Item], size: int) -> ImageCache:
        """The images of some items, all of which have an entry."""
        contents = [self.entries[item].content for item in items]
        rows = np.array([self.rows[content] for content in contents])
        return ImageCache(self.pixels, rows, _fingerprint(contents, size))

    def updated(self, items: list[_Item], entries: Sequence[_Entry | None]) -> dict[_Item, _Entry | None]:
        """The entries of all stored items, with new ones for these; stamps that were not trusted stay untrusted."""
        trusted_ns = self.manifest["checked_ns"] - RACE_NS
        old = {
            item: entry if entry.stamp.mtime_ns <= trusted_ns else replace(entry, stamp=UNKNOWN)
            for item, entry in self.entries.items()
        }
        return old | dict(zip(items, entries, strict=True))


def _load_or_build(items: list[_Item], size: int, place: Path) -> _Stored:
    """The stored cache of the items' content, built if it is missing or outdated."""
    for _ in range(ATTEMPTS):  # the images may change while they are read
        stored = _load_current(items, size, place, _build)
        if stored is not None:
            return stored
    raise UserError(f"the image cache in {place.parent} does not settle: its images change while they are read")


def _load_current(
    items: list[_Item], size: int, place: Path, build: Callable[..., None] | None = None
) -> _Stored | None:
    """The stored cache if it has the files' content; else None, after building it with `build`, if given."""
    checked_ns = time.time_ns()  # before any file is read
    stored = _load(place, size)
    trusted = [_trusted_entry(item, stored) for item in items]
    entries = _known_entries(items, trusted, stored)
    updated = dict(zip(items, entries, strict=True)) if stored is None else stored.updated(items, entries)
    if stored is None or [entry and entry.content for entry in updated.values()] != stored.contents:
        if build is not None:
            asked = set(items)  # of the others, those whose file is missing by now are dropped
            updated = {item: entry for item, entry in updated.items() if item in asked or os.path.lexists(item.file)}
            build(list(updated), list(updated.values()), stored, size, place, checked_ns)
        return None
    if None in trusted or stored.data_stamp != FileStamp(*stored.manifest["data_stat"]):
        checked = {
            "data_stat": stored.data_stamp,
            "checked_ns": checked_ns,
            "images": _rows_of(updated, updated.values()),
        }
        with suppress(OSError):  # only saves the next opening the comparison, and the folder may be read-only
            _write_manifest(place, stored.manifest | checked)
    return stored


def _load(place: Path, size: int) -> _Stored | None:
    """The cache in `place`, None if it is missing or damaged."""
    try:
        manifest = json.loads(_manifest(place).read_text(encoding="utf-8"))
        data = place.with_name(manifest["data"])
        pixels = np.asarray(np.load(data, mmap_mode="r"))
        stored = _Stored(manifest, pixels, stat_file(data))
        whole = pixels.dtype == np.uint8 and pixels.shape == (len(stored.contents), 3, size, size)
        if whole and stored.data_stamp != FileStamp(*manifest["data_stat"]):
            whole = zlib.crc32(pixels.data) == manifest["crc32"]
        return stored if whole and len(stored.entries) and manifest["checked_ns"] else None
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _trusted_entry(item: _Item, stored: _Stored | None) -> _Entry | None:
    """The stored entry of an item if the stamp of its file is unchanged; the file is not read."""
    entry = stored.entries.get(item) if stored is not None else None
    if stored is None or entry is None or entry.stamp.mtime_ns > stored.manifest["checked_ns"] - RACE_NS:
        return None
    with suppress(OSError):
        return entry if _ImageStamp.of(item.file) == entry.stamp else None
    return None


def _known_entries(items: list[_Item], trusted: list[_Entry | None], stored: _Stored | None) -> list[_Entry | None]:
    """`trusted`, and the entries of other items whose content has stored pixels; None: must be decoded."""
    entries = list(trusted)
    others = [i for i, entry in enumerate(trusted) if entry is None] if stored is not None else []
    for i, entry in zip(others, map_in_threads(_read_entry, [items[i] for i in others]), strict=True):
        if stored is not None and entry is not None and entry.content in stored.rows:
            entries[i] = entry
    return entries


def _build(
    items: list[_Item],
    entries: list[_Entry | None],
    stored: _Stored | None,
    size: int,
    place: Path,
    checked_ns: int,
) -> None:
    """Write the pixels of all items, decoding those without an entry, and then the manifest that makes them valid."""
    shape = (len(items), 3, size, size)
    _check_space(int(np.prod(shape)), place.parent)
    known, unreadable = dict(zip(items, entries, strict=True)), dict[_Item, str]()
    decode = partial(_entries_and_pixels, known=known, stored=stored, size=size)
    rows = _decode_readable(items, decode, unreadable)
    with draft_of(place) as draft, closing(rows):
        with draft.open("wb") as file:
            new_entries, crc32 = _write_pixels(file, shape, rows)
        if unreadable:
            first, reason = next(iter(unreadable.items()))
            raise UserError(
                f"{len(unreadable)} of {len(items)} images cannot be decoded; the first, {first}: {reason}; "
                "`tripletcl data check` lists them all"
            )
        name = _fingerprint([entry.content for entry in new_entries], size)[:16]
        data = place.with_name(f"{place.name}-{name}.npy")
        draft.replace(data)
    manifest = {"data": data.name, "data_stat": stat_file(data), "crc32": crc32, "checked_ns": checked_ns}
    _write_manifest(place, manifest | {"images": _rows_of(items, new_entries)})
    _remove_old_files(place, data)


def _decode_readable(
    items: list[_Item], decode: Callable[[list[_Item]], list[_Decoded]], unreadable: dict[_Item, str]
) -> Generator[tuple[_Item, tuple[_Entry, np.ndarray]], None, None]:
    """Decode items in threads; those of one file that follow each other are decoded together.

    Args:
        items: The items.
        decode: Decodes items of one file.
        unreadable: Receives the reason for each item that cannot be decoded.

    Yields:
        Each of the others, in order, with its entry and pixels.

    Raises:
        UserError: none of them can be decoded.
    """
    groups, done = [list(group) for _, group in itertools.groupby(items, lambda item: item.file)], 0
    with closing(map_in_threads(decode, groups)) as results:
        for group, decoded in zip(groups, results, strict=True):
            done += len(group)
            report("decoding images", done, len(items))
            for item, result in zip(group, decoded, strict=True):
                if isinstance(result, str):
                    unreadable[item] = result
                else:
                    yield item, result
    if len(unreadable) == len(items):
        raise unreadable_error(unreadable)


def _entries_and_pixels(
    items: list[_Item], known: Mapping[_Item, _Entry | None], stored: _Stored | None, size: int
) -> list[_Decoded]:
    """The entry and pixels of each item of one file, decoded unless they are known."""
    entries = {item: known[item] if stored is not None else None for item in items}
    new = [item for item, entry in entries.items() if entry is None]
    decoded: dict[_Item, _Decoded] = {}
    if new:
        try:
            first, raw = _read(new[0])
        except OSError as error:
            decoded = dict.fromkeys(new, error.strerror or str(error))
        else:
            pixels = decode_parts(raw, size, [item.box for item in new], name=new[0].file)
            for item, part in zip(new, pixels, strict=True):
                decoded[item] = part if isinstance(part, str) else (replace(first, box=item.box), part)
    for item, entry in entries.items():
        if stored is not None and entry is not None:
            decoded[item] = entry, stored.pixels[stored.rows[entry.content]]
    return [decoded[item] for item in items]


def _write_pixels(
    file: BinaryIO, shape: tuple[int, ...], rows: Iterable[tuple[_Item, tuple[_Entry, np.ndarray]]]
) -> tuple[list[_Entry], int]:
    """Write an .npy file row by row; on a full disk, writing fails where a memory map would kill the process."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    entries: list[_Entry] = []
    checksum = 0
    for _, (entry, pixels) in rows:
        entries.append(entry)
        checksum = zlib.crc32(pixels.data, checksum)
        file.write(pixels.data)
    file.flush()
    os.fsync(file.fileno())
    return entries, checksum


def _write_manifest(place: Path, manifest: dict[str, Any]) -> None:
    with draft_of(place) as draft:
        with draft.open("w", encoding="utf-8") as file:
            json.dump(manifest, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(_manifest(place))


def _remove_old_files(place: Path, data: Path) -> None:
    """Remove the pixels that `data` replaces, and those that no manifest names: their process was killed."""
    for file in place.parent.glob(f"{place.name}-*.npy"):
        if file != data:
            with suppress(OSError):  # in use on a system that keeps files in use
                file.unlink()


def _check_space(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"the image cache needs {needed / 2**30:.2f} GiB in {folder}, but only {free / 2**30:.2f} are free"
        )


def _read(item: _Item) -> tuple[_Entry, bytes]:
    stamp = _ImageStamp.of(item.file)  # before the content: a change in between is detected at the next opening
    raw = read_photo(item.file)
    return _Entry(stamp, photo_digest(raw), item.box), raw


def _read_entry(item: _Item) -> _Entry | None:
    with suppress(OSError):  # reported when the file is decoded
        return _read(item)[0]
    return None


def _rows_of(items: Iterable[_Item], entries: Iterable[_Entry | None]) -> list[list[Any]]:
    """The entries as rows of the manifest: path, the numbers of the stamp, digest, and the box if there is one."""
    return [
        [item.file, *entry.stamp, entry.digest, *([item.box] if item.box else [])]
        for item, entry in zip(items, entries, strict=True)
        if entry is not None
    ]


def _parse_row(row: Sequence[Any]) -> tuple[_Item, _Entry]:
    """Invert `_rows_of` for a row."""
    file, *stamp = row
    box: Any = None if isinstance(stamp[-1], str) else tuple(stamp.pop())
    digest = stamp.pop()
    return _Item(file, box), _Entry(_ImageStamp(*stamp), digest, box)


def _manifest(place: Path) -> Path:
    return place.with_name(f"{place.name}.json")


def _place(items: list[_Item], size: int, folder: str | Path) -> Path:
    """The path of the files of a cache, without their suffixes."""
    parent = os.path.commonpath({os.path.dirname(item.file) for item in items})  # noqa: PTH120 - as in `_Item.of`
    key = hashlib.blake2b(f"{VERSION} ".encode() + os.fsencode(parent), digest_size=6).hexdigest()
    return Path(folder) / f"images-{size}-{key}"


def _fingerprint(contents: list[str], size: int) -> str:
    return hashlib.blake2b(f"{VERSION} {size} {' '.join(contents)}".encode(), digest_size=16).hexdigest()
