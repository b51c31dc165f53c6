"""Vectors of photos on disk: a Parquet part for each shard, or the layout that clip-retrieval and autofaiss read.

OUT/about.json                        the model, the photos, and the number of shards
OUT/_photos.parquet                   the names of the photos, a row group for each shard

    of the layout "parts"
OUT/part-00017-of-00031.parquet       path, size, mtime_ns, vector float16 `[3 * D]`, broken

    of the layout "clip-retrieval"
OUT/img_emb/img_emb_17.npy            float16 `[n, 3 * D]` of the photos that can be read
OUT/metadata/metadata_17.parquet      image_path, size, mtime_ns of the same photos, in the same order
OUT/broken/broken_17.parquet          path, size, mtime_ns, broken of the others, if there are any

A part is written beside its place and renamed, and names the shard that it is of: it is there, as a whole, or it is
not. Nothing else is known of what is done.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from tripletcl.files import FileStamp
from tripletcl.gallery.places import Place

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("tripletcl")

ABOUT, PHOTOS = "about.json", "_photos.parquet"
"""Files of OUT beside the parts."""

LayoutName = Literal["parts", "clip-retrieval"]


@dataclass(frozen=True)
class ShardRows:
    """The photos of a shard.

    Attributes:
        photos: Names and stamps.
        vectors: `[n, 3 * D]` float16, zero for a photo that cannot be read.
        broken: For each photo the reason why it cannot be read; None for the others.
    """

    photos: list[tuple[str, FileStamp]]
    vectors: np.ndarray
    broken: list[str | None]

    @property
    def readable(self) -> np.ndarray:
        """`[n]` bool."""
        return np.array([reason is None for reason in self.broken], dtype=bool)


@dataclass(frozen=True)
class ShardResult:
    """The result of a shard: its photos, and the number of them that cannot be read."""

    photos: int
    broken: int


def shard_digest(names: Sequence[str], model: str) -> str:
    """Return 16 hex digits that change with the photos of a shard and with the model."""
    return hashlib.blake2b("\n".join([model, *names]).encode(errors="surrogateescape"), digest_size=8).hexdigest()


class Layout(Protocol):
    """The files of each shard."""

    def find(self, number: int, digest: str) -> ShardResult | None:
        """Return the result of a shard; None unless its files are there, and of this shard and model."""

    def write(self, number: int, rows: ShardRows, about: dict[str, str]) -> None:
        """Write the files of a shard; `about` goes with them."""


@dataclass(frozen=True)
class Parts:
    """One Parquet part for each shard.

    Attributes:
        out: The folder.
        count: The number of shards.
    """

    out: Place
    count: int

    def place(self, number: int) -> Place:
        """Return the part of a shard."""
        digits = max(5, len(str(self.count)))
        return self.out / f"part-{number:0{digits}d}-of-{self.count:0{digits}d}.parquet"

    def find(self, number: int, digest: str) -> ShardResult | None:
        return _find(self.place(number), digest)

    def write(self, number: int, rows: ShardRows, about: dict[str, str]) -> None:
        import pyarrow as pa

        readable = rows.readable
        values = pa.array(rows.vectors.reshape(-1), pa.float16())
        vectors = pa.FixedSizeListArray.from_arrays(values, rows.vectors.shape[1], mask=pa.array(~readable))
        table = _stamps("path", rows, np.ones_like(readable)).append_column("vector", vectors)
        table = table.append_column("broken", pa.array(rows.broken, pa.string()))
        _write(self.place(number), table, rows, about)

    def read(self, number: int) -> Iterator[ShardRows]:
        """Read the photos of a shard, block by block."""
        from pyarrow import parquet

        place = self.place(number)
        with place.filesystem.open_input_file(place.path) as stream:
            for block in parquet.ParquetFile(stream).iter_batches():
                yield _rows_of(block)


@dataclass(frozen=True)
class ClipRetrieval:
    """Arrays, and Parquet files with the paths of their rows; see `Parts` for the attributes."""

    out: Place
    count: int

    def place(self, kind: str, number: int, suffix: str) -> Place:
        """Return a file of a shard."""
        return self.out / kind / f"{kind}_{number:0{len(str(self.count - 1))}d}.{suffix}"

    def find(self, number: int, digest: str) -> ShardResult | None:
        if not self.place("img_emb", number, "npy").info().is_file:
            return None
        return _find(self.place("metadata", number, "parquet"), digest)

    def write(self, number: int, rows: ShardRows, about: dict[str, str]) -> None:
        import pyarrow as pa
        from numpy.lib.format import write_array

        readable = rows.readable
        if not readable.all():
            reasons = pa.array([reason for reason in rows.broken if reason is not None], pa.string())
            broken = _stamps("path", rows, ~readable).append_column("broken", reasons)
            _write(self.place("broken", number, "parquet"), broken, rows, about)
        vectors = np.ascontiguousarray(rows.vectors[readable])
        self.place("img_emb", number, "npy").write(lambda stream: write_array(stream, vectors, allow_pickle=False))
        _write(self.place("metadata", number, "parquet"), _stamps("image_path", rows, readable), rows, about)  # last


LAYOUTS: dict[str, type[Parts] | type[ClipRetrieval]] = {"parts": Parts, "clip-retrieval": ClipRetrieval}


def _stamps(column: str, rows: ShardRows, kept: np.ndarray) -> pa.Table:
    """Paths, sizes and times of modification of some photos."""
    import pyarrow as pa

    photos = [photo for photo, keep in zip(rows.photos, kept, strict=True) if keep]
    columns = {
        column: pa.array([name for name, _ in photos], pa.string()),
        "size": pa.array([stamp.size for _, stamp in photos], pa.int64()),
        "mtime_ns": pa.array([stamp.mtime_ns for _, stamp in photos], pa.int64()),
    }
    return pa.table(columns)


def _write(place: Place, table: pa.Table, rows: ShardRows, about: dict[str, str]) -> None:
    from pyarrow import parquet

    counts = {"photos": str(len(rows.photos)), "broken": str(int((~rows.readable).sum()))}
    table = table.replace_schema_metadata({**about, **counts})
    place.write(lambda stream: parquet.write_table(table, stream))


def _find(place: Place, digest: str) -> ShardResult | None:
    """The counts in a Parquet file of a shard, which are read from its end."""
    from pyarrow import ArrowException, parquet

    if not place.info().is_file:
        return None
    try:
        with place.filesystem.open_input_file(place.path) as stream:
            about = parquet.ParquetFile(stream).schema_arrow.metadata or {}
        result = ShardResult(int(about[b"photos"]), int(about[b"broken"]))
    except (ArrowException, OSError, KeyError, ValueError) as error:
        log.warning("%s is damaged (%s): it is computed again", place, " ".join(str(error).split()))
        return None
    return result if about.get(b"shard") == digest.encode() else None


def _rows_of(block: pa.RecordBatch) -> ShardRows:
    stamps = zip(block.column("size").to_pylist(), block.column("mtime_ns").to_pylist(), strict=True)
    photos = list(zip(block.column("path").to_pylist(), (FileStamp(*stamp) for stamp in stamps), strict=True))
    vectors: Any = block.column("vector")
    width = vectors.type.list_size
    values = vectors.values.slice(vectors.offset * width, len(vectors) * width).to_numpy(zero_copy_only=False)
    return ShardRows(photos, values.reshape(-1, width), block.column("broken").to_pylist())


# --- the list of photos ----------------------------------------------------------------------------------------------


def write_names(out: Place, shards: Sequence[Sequence[str]]) -> None:
    """Write the names of the photos of each shard."""
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([("path", pa.string())])

    def write(stream: Any) -> None:
        with parquet.ParquetWriter(stream, schema) as writer:
            for names in shards:
                writer.write_table(pa.table({"path": pa.array(names, pa.string())}), row_group_size=len(names))

    (out / PHOTOS).write(write)


def read_names(out: Place, number: int) -> list[str]:
    """Read the names of the photos of a shard."""
    from pyarrow import parquet

    place = out / PHOTOS
    with place.filesystem.open_input_file(place.path) as stream:
        return parquet.ParquetFile(stream).read_row_group(number).column("path").to_pylist()
