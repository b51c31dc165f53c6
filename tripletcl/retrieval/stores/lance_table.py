"""The photos of a Lance table. A row is a position in the version that was opened, which never changes.

Columns: path, hash (of the path), size, mtime_ns, taken, latitude, longitude, camera, width, height, and for generation
g of the model's vectors whole_g `[3 * D]`, subject_g, predicate_g, object_g `[D]`, float16. The metadata of the column
whole_g name the model, and the latest generation counts, so that one commit adds vectors and names their model. Photos
that cannot be read are in a small table next to it; without it they are tried again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.errors import UserError
from tripletcl.files import FileStamp
from tripletcl.retrieval.database import About
from tripletcl.retrieval.details import NO_CAMERA, NO_TIME, PHOTO_TYPE, PhotoDetails, photo_details
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.names import name_hash
from tripletcl.retrieval.stores.search import Block
from tripletcl.retrieval.stores.sql import filter_sql
from tripletcl.retrieval.stores.stored_names import StoredNames
from tripletcl.retrieval.table import Broken, blocks

if TYPE_CHECKING:
    import pyarrow as pa
    from lance import LanceDataset

KEY, FORMAT = "tripletcl", 1
WHOLE = re.compile(r"whole_(\d+)")
POSITION = "_rowoffset"
NUMBERS = {"size": -1, "mtime_ns": -1, "taken": NO_TIME, "latitude": np.nan, "longitude": np.nan, "width": 0}
NUMBERS |= {"height": 0}
"""The columns of numbers that a record has, and what stands for an unknown one."""

FEWEST_PROBED, PROBED_SHARE = 16, 8
"""Lists that are searched at least, and one in how many of them; Lance goes on to further ones by itself."""

FOUND_AT_ONCE = 5_000
"""Paths that are looked up at a time."""


@dataclass(frozen=True)
class Header:
    """The description of a table: that of the index, and the generation of its vectors."""

    about: About
    generation: int = 1

    @property
    def whole(self) -> str:
        """The column of whole rows."""
        return f"whole_{self.generation}"

    @property
    def units(self) -> list[str]:
        """The column of each unit."""
        return [f"{unit}_{self.generation}" for unit in UNITS]

    def entry(self) -> dict[str, str]:
        """Return the metadata of the column of whole rows."""
        about = self.about
        said = {"format": FORMAT, "model": about.model, "stage": about.stage, "asked": about.asked}
        return {KEY: json.dumps(said)}

    @classmethod
    def of(cls, dataset: LanceDataset, address: str) -> Header:
        """Read the header of a table.

        Raises:
            UserError: something else wrote the table, or another version.
        """
        schema = dataset.schema
        try:
            generation = max(int(name[1]) for each in schema.names if (name := WHOLE.fullmatch(each)))
            said = json.loads(schema.field(f"whole_{generation}").metadata[KEY.encode()])
            found = said["format"]
            about = About(said["model"], said["stage"], asked=said["asked"], precision="float16")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{address} is a Lance table, but no photo index: name another address") from error
        if found != FORMAT:
            raise UserError(f"the index in {address} has format {found}, which another version of tripletcl wrote")
        return cls(about, generation)


class LanceTable:
    """The photos of a version of a table; without a table there are none.

    Args:
        dataset: The version.
        header: Its description.
        broken: The photos that cannot be read.
        lists: The number of lists; 0 for none.
    """

    def __init__(
        self, dataset: LanceDataset | None, header: Header, broken: Mapping[str, Broken], lists: int = 0
    ) -> None:
        self.dataset, self.header, self.broken, self.lists = dataset, header, broken, lists
        self.names = StoredNames(self)
        self.features: np.ndarray | None = None
        self._counts: dict[Filter, int] = {}

    @cached_property
    def rows(self) -> int:
        """The number of photos."""
        return 0 if self.dataset is None else self.dataset.count_rows()

    @property
    def living(self) -> int:
        """The number of photos."""
        return self.rows

    @cached_property
    def width(self) -> int:
        """3 * D."""
        return 0 if self.dataset is None else self.dataset.schema.field(self.header.whole).type.list_size

    def count(self, where: Filter) -> int:
        """The number of photos that meet a filter."""
        if where not in self._counts:
            self._counts[where] = self.dataset.count_rows(filter_sql(where)) if self.dataset is not None else 0
        return self._counts[where]

    def scan(self, columns: Sequence[str], sql: str = "") -> Iterator[pa.RecordBatch]:
        """Read columns block by block, in the order of rows."""
        if self.dataset is not None:
            yield from self.dataset.scanner(columns=list(columns), filter=sql or None, scan_in_order=True).to_batches()

    @property
    def is_listed(self) -> bool:
        """True if photos are in lists."""
        return self.lists > 0

    def blocks(self, sql: str) -> Iterator[Block]:
        """Read all photos that meet a condition."""
        for batch in self.scan([POSITION, "path", self.header.whole], sql):
            yield _block(batch, self.header)

    def nearest(self, unit: int | None, query: np.ndarray, count: int, sql: str, share: float) -> Block:
        """Propose photos of the lists that are nearest; of more lists, the fewer photos meet the condition."""
        assert self.dataset is not None
        probed = int(max(self.lists // PROBED_SHARE, FEWEST_PROBED) / share)
        column = self.header.whole if unit is None else self.header.units[unit]
        scanner = self.dataset.scanner(
            columns=[POSITION, "path", self.header.whole],
            nearest={"column": column, "q": query, "k": count, "minimum_nprobes": min(self.lists, probed)},
            filter=sql or None,
            prefilter=bool(sql),
            disable_scoring_autoprojection=True,
        )
        return _block(scanner.to_table(), self.header)

    def take(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str]) -> pa.Table:
        """Read columns of some rows, in their order."""
        assert self.dataset is not None
        return self.dataset.take([int(row) for row in rows], columns=list(columns))

    def paths_of(self, rows: Sequence[int]) -> list[str]:
        """Read the paths of some rows, in their order."""
        return self.take(rows, ["path"])["path"].to_pylist()

    def all_paths(self) -> Iterator[str]:
        """Read the paths of all rows."""
        for batch in self.scan(["path"]):
            yield from batch.column("path").to_pylist()

    def read(self, numbers: Sequence[int] | np.ndarray | slice) -> np.ndarray:
        """Read the vectors of some rows, `[n, 3 * D]` float32."""
        rows = np.arange(self.rows)[numbers] if isinstance(numbers, slice) else np.asarray(numbers, np.int64)
        if not len(rows):
            return np.zeros((0, self.width), np.float32)
        return to_array(self.take(rows.ravel(), [self.header.whole])[self.header.whole]).astype(np.float32)

    def column(self, name: str) -> np.ndarray:
        """Read a field of all records, `[rows]`."""
        parts = [batch.column(name).fill_null(NUMBERS[name]).to_numpy(False) for batch in self.scan([name])]
        return np.concatenate(parts) if parts else np.zeros(0, PHOTO_TYPE[name])

    def details(self, rows: Sequence[int]) -> list[PhotoDetails]:
        """Read the details of some rows."""
        if not len(rows):
            return []
        read = self.take(rows, ["path", "camera", *NUMBERS])
        records, cameras = np.zeros(len(rows), PHOTO_TYPE), read["camera"].to_pylist()
        for name, unknown in NUMBERS.items():
            records[name] = read[name].fill_null(unknown).to_numpy()
        records["camera"] = [NO_CAMERA if camera is None else number for number, camera in enumerate(cameras)]
        pairs = zip(read["path"].to_pylist(), records, strict=True)
        return [photo_details(path, record, cameras) for path, record in pairs]

    def unread(self, rows: Sequence[int]) -> list[int]:
        """No photo: details are read before a photo is stored."""
        return []

    def find(self, names: Sequence[str]) -> np.ndarray:
        """Find the row of each photo, `[n]`; -1 for one that is not in the table."""
        found = dict(self._matches(names, [POSITION]))
        return np.array([found.get(name, -1) for name in names], np.int64)

    def row_of(self, name: str) -> int | None:
        """Find the row of a photo; None for one that is not in the table."""
        row = int(self.find([name])[0])
        return None if row < 0 else row

    def stamps_of(self, names: Sequence[str]) -> list[FileStamp | None]:
        """Read the stamps of photos; None for each that is not known."""
        stamps = {path: FileStamp(*stamp) for path, *stamp in self._matches(names, ["size", "mtime_ns"])}
        broken = {name: self.broken[name][0] for name in names if name in self.broken}
        return [stamps.get(name, broken.get(name)) for name in names]

    def _matches(self, names: Sequence[str], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The path and some columns of each photo of some names; others with the same hash do no harm."""
        for block in blocks(len(names), FOUND_AT_ONCE):
            for batch in self.scan(["path", *columns], hash_sql(names[block])):
                yield from zip(*(batch.column(name).to_pylist() for name in ("path", *columns)), strict=True)


def _block(read: Any, header: Header) -> Block:
    """A block of what was read, with its paths."""
    import pyarrow as pa

    def paths(numbers: np.ndarray) -> list[str]:
        return read.column("path").take(pa.array(numbers, pa.int64())).to_pylist()

    rows = read.column(POSITION).to_numpy().astype(np.int64)
    return Block(rows, to_array(read.column(header.whole)), paths)


def signed_hash(name: str) -> int:
    """The hash of a path as a signed number of 64 bits."""
    return int(np.uint64(name_hash(name)).astype(np.int64))


def hash_sql(names: Sequence[str]) -> str:
    """The condition that a photo has the hash of one of some paths."""
    return f"hash IN ({', '.join(str(signed_hash(name)) for name in names)})"


def to_array(vectors: Any) -> np.ndarray:
    """A column of vectors of one width as an array `[n, width]`."""
    chunk = vectors.combine_chunks() if hasattr(vectors, "combine_chunks") else vectors
    return chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(vectors), -1)
