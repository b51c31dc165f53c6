"""The interface between a photo index and where it is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import numpy as np

from tripletcl.data.metadata import Metadata
from tripletcl.files import FileStamp
from tripletcl.retrieval.database import About
from tripletcl.retrieval.details import PhotoDetails
from tripletcl.retrieval.exact_search import ScoredRows
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.precision import Precision
from tripletcl.retrieval.store import Writer
from tripletcl.retrieval.table import Broken

RowFunction = Callable[[np.ndarray, Sequence[str]], np.ndarray]
"""From a block of rows, float32 `[n, *]`, and the names of their photos, to new rows `[n, 3 * D]`."""


class PhotoTable(Protocol):
    """The photos of an index by their rows, which are numbered from 0."""

    @property
    def rows(self) -> int:
        """The number of rows, those of removed photos included."""

    @property
    def living(self) -> int:
        """The number of photos."""

    @property
    def width(self) -> int:
        """3 * D; 0 before the first photo."""

    @property
    def names(self) -> Sequence[str]:
        """The path of each row's photo; empty where it was removed."""

    @property
    def features(self) -> np.ndarray | None:
        """`[rows, C]`, the representation of each photo; None where they are not stored."""

    @property
    def broken(self) -> Mapping[str, Broken]:
        """The photos that cannot be read, by name."""

    def read(self, numbers: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Read the vectors of some rows, `[n, 3 * D]` float32."""

    def column(self, name: str) -> np.ndarray:
        """Read a field of all records, `[rows]`."""

    def details(self, rows: Sequence[int]) -> list[PhotoDetails]:
        """Read the details of some rows."""

    def unread(self, rows: Sequence[int]) -> list[int]:
        """List those of some rows whose details were never read from their files."""

    def find(self, names: Sequence[str]) -> np.ndarray:
        """Find the row of each photo, `[n]`; -1 for one that is not in the table."""

    def row_of(self, name: str) -> int | None:
        """Find the row of a photo; None for one that is not in the table."""

    def stamps_of(self, names: Sequence[str]) -> list[FileStamp | None]:
        """Read the stamps that photos had when they were read, or could not be; None for each that is not known."""


class RowStore(Protocol):
    """The rows of an index, in memory or stored: appended, removed, replaced and searched.

    Attributes:
        about: The description of the index.
    """

    about: About

    @property
    def table(self) -> PhotoTable:
        """The photos."""

    def append(
        self,
        photos: Sequence[tuple[str, FileStamp]],
        metadata: Sequence[Metadata | None],
        arrays: Mapping[str, np.ndarray],
        broken: Mapping[str, Broken] | None = None,
    ) -> None:
        """Append photos, those that cannot be read, and rows by role; former rows of the same photos are removed.

        Only rows in memory take None as metadata, of photos whose file nobody has read.
        """

    def set_details(self, rows: Sequence[int], metadata: Sequence[Metadata]) -> None:
        """Replace the details of some rows."""

    def remove(self, rows: Sequence[int], broken: Sequence[str] = ()) -> None:
        """Remove photos by their rows, and broken photos by their names."""

    def describe(self, about: About) -> None:
        """Replace the description."""

    def recompute(self, about: About, role: str, function: RowFunction, kept: Sequence[str] = ()) -> None:
        """Replace all vectors by a function of the stored vectors, or features, and the description, atomically.

        Args:
            about: The new description.
            role: What the function takes, VECTORS or FEATURES.
            function: Called in the order of rows.
            kept: Roles whose rows stay.
        """

    def store_as(self, precision: Precision) -> None:
        """Store the vectors in another precision."""

    def search(self, queries: np.ndarray, k: int, where: Filter | None = None) -> list[ScoredRows]:
        """Find the k best rows for each query `[3 * D]`, best first, ties by path, scored by the stored vectors."""

    def kept(self, where: Filter | None) -> np.ndarray:
        """Find the rows that a filter keeps, `[rows]` bool; False for removed photos.

        Raises:
            UserError: it keeps none.
        """

    def settle(self) -> None:
        """Bring what searches are sped up by up to date, where enough has changed."""

    def write_to(self, writer: Writer) -> None:
        """Write the index into a folder."""


class Store(Protocol):
    """A place where an index is stored, or may be."""

    def about(self) -> About:
        """Read the description of the index, without its rows.

        Raises:
            UserError: there is no index, or it cannot be read.
        """

    def version(self) -> object:
        """Return what differs after each change; None where there is no index."""

    def read(self) -> AbstractContextManager[RowStore]:
        """Open the index as it is now; later changes do not reach the rows, nor changes of these the store."""

    def write(self) -> AbstractContextManager[RowStore]:
        """Open the index, or create an empty one, for changes that go to the store."""

    def size(self) -> int:
        """Return the number of bytes of the index as it is now."""

    def check(self) -> None:
        """Compare what is stored with its checksums.

        Raises:
            UserError: it has changed since it was written.
        """
