"""Files and folders on this machine or at an address, such as s3://bucket/photos, by pyarrow or else fsspec."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tripletcl.errors import UserError
from tripletcl.files import sync_to_disk

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

DRAFT = ".tmp"
"""The suffix of a file that is being written; it is renamed when it is complete."""

OWN_SCHEMES = frozenset({"s3", "gs", "gcs", "abfs", "abfss", "hdfs", "viewfs"})
"""Addresses that pyarrow reads itself; others need fsspec and its package for them."""

OBJECT_STORES = frozenset({"s3", "gcs", "abfs"})
"""File systems of pyarrow whose files appear when they are complete, and which cannot rename."""


@dataclass(frozen=True)
class Place:
    """A file or a folder, which need not exist.

    Attributes:
        filesystem: Where it is.
        path: Its path there.
        prefix: What precedes the path in the full name, without a password; empty on this machine.
    """

    filesystem: FileSystem
    path: str
    prefix: str = ""

    @classmethod
    def of(cls, address: str | Path) -> Place:
        """Find a place by its path on this machine, or by its address.

        Raises:
            UserError: nothing here reads addresses of this kind, or the address is malformed.
        """
        from pyarrow import ArrowException, fs

        text = str(address)
        scheme, separator, rest = text.partition("://")
        if not separator or scheme == "file":
            here = Path(rest if separator else text).expanduser()
            return cls(fs.LocalFileSystem(), os.path.abspath(here))  # noqa: PTH100 - links keep their names
        try:
            filesystem, path = fs.FileSystem.from_uri(text) if scheme in OWN_SCHEMES else _by_fsspec(text)
        except (ArrowException, ImportError, OSError, ValueError) as error:
            raise UserError(f"{scheme}://... cannot be read: {' '.join(str(error).split())}") from error
        named = rest.partition("?")[0].rpartition("@")[2].rstrip("/")
        return cls(filesystem, path, f"{scheme}://{named.removesuffix(path.strip('/'))}")

    def __truediv__(self, name: str) -> Place:
        return replace(self, path=f"{self.path.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.path if self.is_local else self.prefix + self.path.lstrip("/")

    @property
    def is_local(self) -> bool:
        """True for a place on this machine."""
        return not self.prefix

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Place:
        """The folder that it is in."""
        return replace(self, path=self.path.rstrip("/").rpartition("/")[0])

    def at(self, path: str) -> Place:
        """Return another place of the same file system."""
        return replace(self, path=path)

    def info(self) -> Any:
        """Return what the file system knows of it: `pyarrow.fs.FileInfo`."""
        return self.filesystem.get_file_info(self.path)

    def files(self, *, below: bool = False) -> list[Any]:
        """List the files in the folder, and with `below` in its subfolders; none if it does not exist."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.path, recursive=below, allow_not_found=True)
        return [info for info in self.filesystem.get_file_info(selector) if info.is_file]

    def write(self, write: Callable[[Any], object]) -> None:
        """Let `write` fill the file, which then is there as a whole or not at all."""
        if self.filesystem.type_name in OBJECT_STORES:
            with self.filesystem.open_output_stream(self.path) as stream:
                write(stream)
            return
        self.filesystem.create_dir(self.parent.path)
        draft = f"{self.parent.path}/.{self.name}.{uuid.uuid4().hex}{DRAFT}"
        try:
            with self.filesystem.open_output_stream(draft) as stream:
                write(stream)
            if self.is_local:
                sync_to_disk(Path(draft))
            self.filesystem.move(draft, self.path)
        except BaseException:
            if self.filesystem.get_file_info(draft).is_file:
                self.filesystem.delete_file(draft)
            raise


def _by_fsspec(address: str) -> tuple[FileSystem, str]:
    from fsspec.core import url_to_fs
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    filesystem, path = url_to_fs(address)
    return PyFileSystem(FSSpecHandler(filesystem)), path


@contextmanager
def reaching(place: Place) -> Iterator[None]:
    """Turn the errors of a file system into one sentence.

    Raises:
        UserError: one of them happened within the block.
    """
    try:
        yield
    except OSError as error:  # those of pyarrow as well
        raise UserError(f"{place} cannot be read or written: {' '.join(str(error).split())}") from error
