"""Photos by shards: a folder, a list of paths, or WebDataset archives, and their content by name."""

from __future__ import annotations

import os
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Literal, cast

from tripletcl.data.images import MOST_BYTES, image_suffixes, list_images, read_photo
from tripletcl.data.media import VIDEO
from tripletcl.errors import UserError
from tripletcl.files import FileStamp, stat_file
from tripletcl.gallery.places import Place, reaching

Kind = Literal["files", "list", "webdataset"]
KINDS: tuple[Kind, ...] = ("files", "list", "webdataset")
"""A folder with its subfolders; a Parquet or CSV file of paths; tar archives, each of which is a shard."""

COLUMNS = ("path", "image_path", "image")
"""Names of the column with the paths, if none is given."""

NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
"""A range of numbers in an address, as in {000..041}.tar."""

MISSING = FileStamp(-1, -1)

Content = tuple[FileStamp, bytes | Path | str]
"""A photo's stamp, and its bytes, or the file of a video, or the reason why they cannot be read."""


@dataclass(frozen=True)
class Shards:
    """The photos of a source.

    Attributes:
        archives: True if a name is that of an archive, and not of a photo.
        names: The full names of each shard.
    """

    archives: bool
    names: list[list[str]]


def list_shards(source: str, size: int, kind: Kind | None = None, column: str | None = None) -> Shards:
    """List the photos of a source, in an order that depends on their names only.

    Args:
        source: A folder, a Parquet or CSV file, or archives, whose numbers may be a range; on this machine or at an
            address.
        size: Photos of a shard; an archive is a shard.
        kind: Of the source; by default told from its name and content.
        column: Of a file of paths; by default one of COLUMNS, or the only one.

    Raises:
        UserError: there is no such source, or no photo in it.
    """
    kind = kind or _kind_of(source)
    if kind == "list":
        names = _read_list(Place.of(source), column)
    else:
        names = _archives(source) if kind == "webdataset" else _photos(Place.of(source))
    if not names:
        raise UserError(f"no {'archive' if kind == 'webdataset' else 'photo'} in {source}")
    if kind == "webdataset":
        return Shards(True, [[name] for name in names])
    return Shards(False, [names[start : start + size] for start in range(0, len(names), size)])


def _kind_of(source: str) -> Kind:
    path = source.partition("?")[0].lower()
    if path.endswith(".tar"):
        return "webdataset"
    return "list" if path.endswith((".parquet", ".csv")) else "files"


def _photos(folder: Place) -> list[str]:
    """The photos of a folder and its subfolders; hidden ones are passed over."""
    if folder.is_local:
        return [str(path) for path in list_images(folder.path)]
    with reaching(folder):
        files = folder.files(below=True)
    hidden = f"{folder.path.rstrip('/')}/"
    suffixes = image_suffixes()
    return sorted(
        str(folder.at(info.path))
        for info in files
        if Path(info.path).suffix.lower() in suffixes and "/." not in f"/{info.path.removeprefix(hidden)}"
    )


def _archives(source: str) -> list[str]:
    """The archives of a folder, or those that a range of numbers names."""
    if source.partition("?")[0].lower().endswith(".tar"):
        return [str(Place.of(each)) for each in expand(source)]
    folder = Place.of(source)
    with reaching(folder):
        return sorted(str(folder.at(info.path)) for info in folder.files() if info.path.lower().endswith(".tar"))


def expand(address: str) -> list[str]:
    """Write out the ranges of numbers of an address: {00..02}.tar is 00.tar, 01.tar, 02.tar."""
    if (match := NUMBERS.search(address)) is None:
        return [address]
    first, last = match.groups()
    numbers = range(int(first), int(last) + 1)
    if not numbers:
        raise UserError(f"{address} names no archive: {last} is less than {first}")
    start, end = match.span()
    return [each for n in numbers for each in expand(f"{address[:start]}{n:0{len(first)}d}{address[end:]}")]


def _read_list(file: Place, column: str | None) -> list[str]:
    """The paths in a file, each once; relative ones are relative to its folder."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    with reaching(file):
        try:
            with file.filesystem.open_input_file(file.path) as stream:
                if file.path.lower().endswith(".csv"):
                    table = csv.read_csv(stream)
                else:
                    opened = parquet.ParquetFile(stream)
                    table = opened.read(columns=[_path_column(file, opened.schema_arrow.names, column)])
        except pa.ArrowInvalid as error:
            raise UserError(f"{file} is no Parquet or CSV file of paths: {error}") from error
    paths = table.column(_path_column(file, table.column_names, column)).to_pylist()
    if empty := [number for number, path in enumerate(paths, 1) if not isinstance(path, str) or not path]:
        raise UserError(f"{file} has no path in row {empty[0]}")
    folder = file.parent
    return list(dict.fromkeys(_full_name(folder, path) for path in paths))


def _path_column(file: Place, columns: Sequence[str], asked: str | None) -> str:
    found = [name for name in ([asked] if asked else COLUMNS) if name in columns] or list(columns)
    if (asked and asked not in columns) or (len(found) > 1 and found[0] not in COLUMNS):
        raise UserError(f"{file} has no column {asked or 'path'!r}; it has {', '.join(columns)}: name one by --column")
    return found[0]


def _full_name(folder: Place, path: str) -> str:
    if "://" in path or path.startswith("/"):
        return path
    return str(folder / path) if not folder.is_local else os.path.normpath(f"{folder.path}/{path}")


# --- content ---------------------------------------------------------------------------------------------------------


@dataclass
class Files:
    """Photos by their full names, on this machine and at addresses.

    Attributes:
        known: Places whose file system is open; that of the source may have settings that names do not have.
    """

    known: list[Place] = field(default_factory=list)

    def place(self, name: str) -> Place:
        """Find the place of a full name."""
        if "://" not in name:
            return Place.of(name)
        for place in self.known:
            if not place.is_local and name.startswith(place.prefix):
                root = "/" if place.path.startswith("/") else ""
                return place.at(root + name.removeprefix(place.prefix))
        self.known.append(Place.of(name))
        return self.known[-1]

    def read(self, name: str) -> Content:
        """Read a photo. The stamp is taken before the content, so that a later change is noticed."""
        if "://" not in name:
            return _read_here(name)
        try:
            place = self.place(name)
            info = place.info()
            stamp = FileStamp(info.size or 0, info.mtime_ns or 0) if info.is_file else MISSING
            if stamp.size > MOST_BYTES:
                return stamp, f"too large: a file of {stamp.size / 2**20:,.0f} MiB; allowed are {MOST_BYTES // 2**20}"
            with place.filesystem.open_input_stream(place.path) as stream:
                return stamp, stream.read()
        except FileNotFoundError:
            return MISSING, "no such file"
        except (OSError, UserError) as error:
            return MISSING, " ".join(str(error).split())


def _read_here(name: str) -> Content:
    stamp = MISSING
    try:
        stamp = stat_file(name)
        return stamp, path if (path := Path(name)).suffix.lower() in VIDEO else read_photo(name)
    except FileNotFoundError:
        return stamp, "no such file"
    except OSError as error:
        return stamp, error.strerror or str(error)


@contextmanager
def open_shard(names: list[str], files: Files, archives: bool) -> Iterator[tuple[list[str], Callable[[str], Content]]]:
    """Open the photos of a shard: their names, and what reads one of them."""
    if not archives:
        yield names, files.read
        return
    (name,) = names
    place = files.place(name)
    with reaching(place), _local_copy(place) as file:
        archive = _Archive(name, file)
        yield archive.names, archive.read


@contextmanager
def _local_copy(place: Place) -> Iterator[BinaryIO]:
    """Open a file for reads at any position; one at an address is copied to a temporary file."""
    if place.is_local:
        with open(place.path, "rb") as file:  # noqa: PTH123 - the path may be no Path's
            yield file
        return
    with TemporaryFile() as copy, place.filesystem.open_input_stream(place.path) as stream:
        while block := stream.read(2**24):
            copy.write(block)
        copy.flush()
        yield cast(BinaryIO, copy)


class _Archive:
    """The photos of a tar archive; what cannot be read of it has the archive's name.

    Attributes:
        names: Those of the photos, below that of the archive.
    """

    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name, self.file = name, file
        self.reason: str | None = None
        suffixes = image_suffixes()
        members: list[tarfile.TarInfo] = []
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                members.extend(member for member in archive if member.isfile())
        except (tarfile.TarError, EOFError) as error:
            self.reason = f"the archive is damaged: {error}"
        end = os.fstat(file.fileno()).st_size
        if any(member.offset_data + member.size > end for member in members):
            self.reason = "the archive is cut short"
        photos = [
            m for m in members if Path(m.name).suffix.lower() in suffixes and not Path(m.name).name.startswith(".")
        ]
        self.members: dict[str, Any] = {f"{name}/{member.name.removeprefix('./')}": member for member in photos}
        self.names = [*self.members, *([name] if self.reason else [])]

    def read(self, name: str) -> Content:
        """Read a photo."""
        if name == self.name:
            return MISSING, self.reason or ""
        member = self.members[name]
        stamp = FileStamp(member.size, int(member.mtime * 10**9))
        if member.size > MOST_BYTES:
            return stamp, f"too large: a file of {member.size / 2**20:,.0f} MiB; allowed are {MOST_BYTES // 2**20}"
        content = os.pread(self.file.fileno(), member.size, member.offset_data)  # from any thread
        return stamp, content if len(content) == member.size else "the archive is cut short"
