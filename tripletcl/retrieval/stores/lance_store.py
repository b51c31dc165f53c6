"""An index in a Lance table, on this machine or in an object store; the package pylance reads and writes it.

Every change is a commit of a new version, which readers of earlier ones do not see. There is no lock: of two writers
whose commits do not fit together, Lance refuses the later one. New vectors of all photos are new columns, which one
commit switches to together with the name of their model.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.data.metadata import Metadata
from tripletcl.errors import UserError
from tripletcl.files import FileStamp
from tripletcl.progress import report
from tripletcl.retrieval.database import About
from tripletcl.retrieval.details import set_details, unread_records
from tripletcl.retrieval.exact_search import ScoredRows
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.precision import Precision, round_to, to_float32
from tripletcl.retrieval.store import Writer
from tripletcl.retrieval.stores.lance_table import (
    NUMBERS,
    POSITION,
    Header,
    LanceTable,
    hash_sql,
    signed_hash,
    to_array,
)
from tripletcl.retrieval.stores.protocol import RowFunction
from tripletcl.retrieval.stores.search import nothing_meets, search_rows
from tripletcl.retrieval.stores.sql import filter_sql, quoted
from tripletcl.retrieval.structures import FLAT
from tripletcl.retrieval.table import VECTORS, Broken, blocks

if TYPE_CHECKING:
    import pyarrow as pa
    from lance import LanceDataset

log = logging.getLogger("tripletcl")

AUTO, LISTS = "auto", "lists"

FEWEST_LISTED = 20_000
"""Photos from which on they are put into lists."""

LIST_RATIO = 5
"""Square root of the number of photos, divided by the number of lists."""

STALE = 0.1
"""The lists are brought up to date when this share of the photos is new."""

MOST_FRAGMENTS = 64
"""Files of photos, from which on they are united."""

KEPT = timedelta(days=1)
"""Age of the versions that readers may still have opened; older ones are removed."""

REMOVED_AT_ONCE = 1_000
BLOCK_ROWS = 8_192
"""Rows that are computed at a time for a new model."""


@dataclass(frozen=True)
class LanceStore:
    """The index in a Lance table.

    Attributes:
        address: Of the table, which need not exist.

    Raises:
        UserError: pylance is not installed.
    """

    address: str

    def __post_init__(self) -> None:
        if find_spec("lance") is None:
            raise UserError(f"{self.address} needs pylance, which is not installed: pip install 'tripletcl[cluster]'")

    def __str__(self) -> str:
        return self.address

    def about(self) -> About:
        with reaching(self.address):
            return LanceRows(self.address, self._existing()).about

    def version(self) -> object:
        with reaching(self.address):
            dataset = open_dataset(self.address)
            return None if dataset is None else dataset.version

    @contextmanager
    def read(self) -> Iterator[LanceRows]:
        with reaching(self.address):
            rows = LanceRows(self.address, self._existing())
        yield rows

    @contextmanager
    def write(self) -> Iterator[LanceRows]:
        with reaching(self.address):
            rows = LanceRows(self.address, open_dataset(self.address), may_write=True)
            rows.sweep()
        try:
            yield rows
        finally:
            rows.may_write = False

    def size(self) -> int:
        with reaching(self.address):
            dataset = self._existing()
            files = [file.file_size_bytes for each in dataset.get_fragments() for file in each.metadata.files]
            return sum(size or 0 for size in files) + sum(each.total_size_bytes for each in dataset.describe_indices())

    def check(self) -> None:
        with reaching(self.address):
            self._existing().validate()

    def _existing(self) -> LanceDataset:
        if (dataset := open_dataset(self.address)) is None:
            raise UserError(f"no index in {self.address}: make one with tripletcl index RUN PHOTOS --store ADDRESS")
        return dataset


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turn the errors of Lance into one sentence.

    Raises:
        UserError: one of them happened within the block.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        words = " ".join(str(error).split()).partition(", /home/")[0]
        if "conflict" in words.lower():
            raise UserError(
                f"another process changed the index in {address} at the same time: repeat the command, which goes on"
            ) from error
        raise UserError(f"{address} cannot be read or written: {words[:300]}") from error


def open_dataset(address: str) -> LanceDataset | None:
    """Open the latest version of a table; None where there is none."""
    import lance

    try:
        return lance.dataset(address)
    except ValueError as error:
        if "was not found" in str(error):
            return None
        raise


class LanceRows:
    """The rows of a version of an index; a writer's move on with each of its commits.

    Args:
        address: Of the table.
        dataset: The version; None for an index that is to be created.
        may_write: True if changes go to the table.
    """

    def __init__(self, address: str, dataset: LanceDataset | None, *, may_write: bool = False) -> None:
        self.address, self.may_write = address, may_write
        header = Header(About(precision="float16")) if dataset is None else Header.of(dataset, address)
        broken = {} if dataset is None else self._read_broken()
        self.table = LanceTable(dataset, header, broken, _list_count(dataset, header))
        self.about = self._fitted(header.about)
        self._kept: dict[Filter, np.ndarray] = {}

    # --- reading -----------------------------------------------------------------------------------------------------

    def search(self, queries: np.ndarray, k: int, where: Filter | None = None) -> list[ScoredRows]:
        """Find the k best rows for each query `[3 * D]`, best first, ties by path, scored by the stored vectors."""
        with reaching(self.address):
            return search_rows(self.table, queries, k, where)

    def kept(self, where: Filter | None) -> np.ndarray:
        """Find the rows that a filter keeps, `[rows]` bool.

        Raises:
            UserError: it keeps none.
        """
        kept = np.full(self.table.rows, not where)
        if where:
            with reaching(self.address):
                for batch in self.table.scan([POSITION], filter_sql(where)):
                    kept[batch.column(POSITION).to_numpy()] = True
            if not kept.any() and self.table.rows:
                raise nothing_meets(self.table, where)
        return kept

    def write_to(self, writer: Writer) -> None:
        """Not supported: a table is copied by the tools of its store."""
        raise UserError(f"the index in {self.address} cannot be saved as a folder: import its parts into one instead")

    def _read_broken(self) -> dict[str, Broken]:
        if (dataset := open_dataset(_broken_address(self.address))) is None:
            return {}
        rows = zip(*(dataset.to_table()[name].to_pylist() for name in BROKEN), strict=True)
        return {name: (FileStamp(size, mtime_ns), reason) for name, size, mtime_ns, reason in rows}

    # --- photos ------------------------------------------------------------------------------------------------------

    def append(
        self,
        photos: Sequence[tuple[str, FileStamp]],
        metadata: Sequence[Metadata | None],
        arrays: Mapping[str, np.ndarray],
        broken: Mapping[str, Broken] | None = None,
    ) -> None:
        """Append photos and those that cannot be read; former rows of the same photos are replaced."""
        names = [name for name, _ in photos]
        with self._writing():
            if photos:
                self._append(names, self._to_arrow(photos, metadata, arrays[VECTORS]))
            found = self.table.find(list(broken or {}))
            self.remove(found[found >= 0].tolist())
            self._write_broken(broken or {}, [name for name in names if name in self.table.broken])

    def _append(self, names: Sequence[str], data: pa.Table) -> None:
        import lance

        dataset = self.table.dataset
        if dataset is None:
            self._move(lance.write_dataset(data, self.address, mode="create"))
            return
        version = dataset.version
        if (self.table.find(names) >= 0).any():
            dataset.merge_insert("path").when_matched_update_all().when_not_matched_insert_all().execute(data)
        else:
            dataset = lance.write_dataset(data, dataset, mode="append")
        if dataset.version != version + 1:
            _remove_twins(dataset, names)
        if len(dataset.get_fragments()) > MOST_FRAGMENTS:
            _compact(dataset)
        self._move(dataset)

    def _to_arrow(
        self, photos: Sequence[tuple[str, FileStamp]], metadata: Sequence[Metadata | None], vectors: np.ndarray
    ) -> pa.Table:
        import pyarrow as pa

        names, cameras = [name for name, _ in photos], list[str]()
        records = unread_records(len(photos))
        set_details(records, metadata, cameras)
        records["size"], records["mtime_ns"] = np.array([stamp for _, stamp in photos], np.int64).T
        try:
            columns = {"path": pa.array(names, pa.string())}
        except UnicodeEncodeError as error:
            raise UserError(f"{error.object!r} is no Unicode, so {self.address} cannot hold it") from error
        columns["hash"] = pa.array([signed_hash(name) for name in names], pa.int64())
        for name, unknown in NUMBERS.items():
            values = records[name]
            columns[name] = pa.array(values, mask=np.isnan(values) if unknown != unknown else values == unknown)
        of_rows = records["camera"].tolist()
        columns["camera"] = pa.array([cameras[number] if number >= 0 else None for number in of_rows], pa.string())
        header = replace(self.table.header, about=self.about)
        fields = [pa.field(name, column.type) for name, column in columns.items()]
        schema = pa.schema([*fields, *_vector_fields(header, vectors.shape[1])])
        return pa.table(columns | _vector_columns(header, round_to("float16", vectors)), schema=schema)

    def set_details(self, rows: Sequence[int], metadata: Sequence[Metadata]) -> None:
        """Not needed: details are read before a photo is stored."""
        raise NotImplementedError

    def remove(self, rows: Sequence[int], broken: Sequence[str] = ()) -> None:
        """Remove photos by their rows, and broken photos by their names."""
        with self._writing():
            names = self.table.take(rows, ["path"])["path"].to_pylist() if len(rows) else []
            dataset = self.table.dataset
            for block in blocks(len(names), REMOVED_AT_ONCE):
                assert dataset is not None
                dataset.delete(_paths_sql(names[block]))
            if names:
                self._move(dataset)
            self._write_broken({}, broken)

    def _write_broken(self, new: Mapping[str, Broken], repaired: Sequence[str]) -> None:
        """Change the photos that cannot be read: their table is small, so it is written anew."""
        if not new and not repaired:
            return
        import lance
        import pyarrow as pa

        broken = {name: each for name, each in self.table.broken.items() if name not in set(repaired)} | dict(new)
        rows = [(name, *stamp, reason) for name, (stamp, reason) in broken.items()]
        columns = zip(*rows, strict=True) if rows else [()] * len(BROKEN)
        types = (pa.string(), pa.int64(), pa.int64(), pa.string())
        arrays = [pa.array(list(column), type) for column, type in zip(columns, types, strict=True)]
        lance.write_dataset(pa.table(arrays, names=BROKEN), _broken_address(self.address), mode="overwrite")
        self.table.broken = broken

    # --- the description, the vectors --------------------------------------------------------------------------------

    def describe(self, about: About) -> None:
        """Replace the description."""
        about, dataset = self._fitted(about), self.table.dataset
        header = replace(self.table.header, about=about)
        if dataset is not None and header.entry() != self.table.header.entry():
            with self._writing():
                dataset.update_field_metadata({header.whole: header.entry()})
                self._move(dataset)
        self.about, self.table.header = about, header

    def recompute(self, about: About, role: str, function: RowFunction, kept: Sequence[str] = ()) -> None:
        """Replace all vectors by a function of them, and the description, by new columns and one commit."""
        dataset, old = self.table.dataset, self.table.header
        if dataset is None or not dataset.get_fragments():
            self.describe(about)
            return
        new = Header(self._fitted(about), old.generation + 1)
        with self._writing():
            fragments, schema = self._new_columns(dataset, old, new, function)
            self._move(_switch(dataset, fragments, schema))
            self.sweep()

    def _new_columns(
        self, dataset: LanceDataset, old: Header, new: Header, function: RowFunction
    ) -> tuple[list[Any], Any]:
        """Write the new columns of each fragment, and return the fragments and their schema; no version has them."""
        import lance
        import pyarrow as pa

        done = 0

        def compute(batch: pa.RecordBatch) -> pa.RecordBatch:
            nonlocal done
            vectors = function(to_float32(to_array(batch.column(old.whole))), batch.column("path").to_pylist())
            done += len(batch)
            report("computing vectors", done, self.table.rows)
            return pa.RecordBatch.from_pydict(_vector_columns(new, round_to("float16", vectors)))

        transform = lance.batch_udf(output_schema=pa.schema(_vector_fields(new, self.table.width)))(compute)
        merged = [
            fragment.merge_columns(transform, columns=[old.whole, "path"], batch_size=BLOCK_ROWS)
            for fragment in dataset.get_fragments()
        ]
        return [fragment for fragment, _ in merged], merged[-1][1]

    def sweep(self) -> None:
        """Drop the columns of former generations, which a killed upgrade may have left."""
        if (dataset := self.table.dataset) is None:
            return
        own = {self.table.header.whole, *self.table.header.units}
        former = [name for name in dataset.schema.names if name.startswith(("whole_", *UNIT_PREFIXES))]
        if former := [name for name in former if name not in own]:
            dataset.drop_columns(former)
            self._move(dataset)

    def store_as(self, precision: Precision) -> None:
        """Refuse any precision but float16."""
        raise UserError(f"{self.address} stores vectors in float16: leave out --precision {precision}")

    # --- settling ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Unite small files, put photos into lists where enough are new, and remove versions that nobody reads."""
        if (dataset := self.table.dataset) is None or not self.may_write:
            return
        with self._writing():
            self._move(dataset)  # another writer may have been here
            if len(dataset.get_fragments()) > 1:
                _compact(dataset)
            if self.about.asked != FLAT and self.table.rows >= FEWEST_LISTED:
                self._list(dataset)
            dataset.cleanup_old_versions(older_than=KEPT)
            self._move(dataset)

    def _list(self, dataset: LanceDataset) -> None:
        rows, lists = self.table.rows, _wanted_lists(self.table.rows)
        listed = _indexed_rows(dataset, self.table.header)
        if listed and rows - listed <= STALE * rows and lists <= 2 * self.table.lists:
            return
        if listed and lists <= 2 * self.table.lists:
            dataset.optimize.optimize_indices()
            return
        columns = [self.table.header.whole, *self.table.header.units]
        for number, column in enumerate(columns):
            name = f"{column} {lists} lists"
            for index in dataset.describe_indices():
                if index.field_names == [column]:
                    dataset.drop_index(index.name)
            dataset.create_index(column, "IVF_SQ", name=name, metric="dot", num_partitions=lists)
            report("building", number + 1, len(columns))
        dataset.create_scalar_index("hash", "BTREE", name="hash", replace=True)

    def _move(self, dataset: LanceDataset | None) -> None:
        """Go on with a later version."""
        assert dataset is not None
        dataset.checkout_latest()
        header = Header.of(dataset, self.address)
        self.table = LanceTable(dataset, header, self.table.broken, _list_count(dataset, header))
        self.about = self._fitted(header.about)

    def _fitted(self, about: About) -> About:
        """The description as it is true of this table."""
        if about.asked not in (AUTO, FLAT):
            raise UserError(f"{self.address} chooses its lists by itself: leave out --kind {about.asked}")
        rows = self.table.rows
        kind = LISTS if self.table.lists else FLAT
        why = (
            f"{rows:,} photos in {self.table.lists:,} lists"
            if self.table.lists
            else f"{rows:,} photos are compared one by one"
        )
        why = f"{kind}: {why}" if rows else About.why
        return replace(about, trunk=None, precision="float16", kind=kind, why=why)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if not self.may_write:
            raise UserError(f"the index in {self.address} was opened for reading")
        with reaching(self.address):
            yield


BROKEN = ["path", "size", "mtime_ns", "reason"]
"""The columns of the table of photos that cannot be read."""

UNIT_PREFIXES = tuple(f"{unit}_" for unit in UNITS)


def _broken_address(address: str) -> str:
    return f"{address.removesuffix('.lance')}-broken.lance"


def _vector_columns(header: Header, rows: np.ndarray) -> dict[str, Any]:
    """The columns of whole rows and of each unit, for rows `[n, 3 * D]` float16."""
    parts = np.split(rows, len(UNITS), axis=1)
    return {name: _to_vectors(each) for name, each in zip([header.whole, *header.units], [rows, *parts], strict=True)}


def _vector_fields(header: Header, width: int) -> list[pa.Field]:
    """The fields of these columns, of which the first names the model."""
    import pyarrow as pa

    whole = pa.field(header.whole, pa.list_(pa.float16(), width), metadata=header.entry())
    return [whole, *(pa.field(name, pa.list_(pa.float16(), width // len(UNITS))) for name in header.units)]


def _to_vectors(rows: np.ndarray) -> pa.FixedSizeListArray:
    import pyarrow as pa

    values = pa.array(np.ascontiguousarray(rows).reshape(-1), pa.float16())
    return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])


def _switch(dataset: LanceDataset, fragments: Sequence[Any], schema: Any) -> LanceDataset:
    """Commit new columns, whose metadata name their model; refused if anything else was committed."""
    import lance

    operation = lance.LanceOperation.Merge(list(fragments), schema)
    return lance.LanceDataset.commit(dataset, operation, read_version=dataset.version, max_retries=0)


def _paths_sql(names: Sequence[str]) -> str:
    return f"{hash_sql(names)} AND path IN ({', '.join(map(quoted, names))})"


def _remove_twins(dataset: LanceDataset, names: Sequence[str]) -> None:
    """Keep the row that was committed last of photos that another writer added at the same time."""
    dataset.checkout_latest()
    twins: dict[str, list[int]] = {}
    for block in blocks(len(names), REMOVED_AT_ONCE):
        found = dataset.scanner(columns=["path"], filter=_paths_sql(names[block]), with_row_id=True).to_table()
        for path, row in zip(found["path"].to_pylist(), found["_rowid"].to_pylist(), strict=True):
            twins.setdefault(path, []).append(row)
    former = [row for rows in twins.values() for row in sorted(rows)[:-1]]
    for block in blocks(len(former), REMOVED_AT_ONCE):
        dataset.delete(f"_rowid IN ({', '.join(map(str, former[block]))})")


def _compact(dataset: LanceDataset) -> None:
    """Unite small files, unless another process changes them: then a later writer does it."""
    try:
        dataset.optimize.compact_files()
    except (OSError, RuntimeError) as error:
        log.info("%s is not compacted: %s", dataset.uri, error)
    with suppress(ValueError):
        dataset.checkout_latest()


def _wanted_lists(rows: int) -> int:
    return max(1, int(math.sqrt(rows) / LIST_RATIO))


def _own_indices(dataset: LanceDataset, header: Header) -> list[Any]:
    return [index for index in dataset.describe_indices() if index.field_names[0] in (header.whole, *header.units)]


def _list_count(dataset: LanceDataset | None, header: Header) -> int:
    """The number of lists; 0 unless every column of vectors has them."""
    indices = [] if dataset is None else _own_indices(dataset, header)
    counts = [int(index.name.split()[1]) for index in indices]
    return min(counts) if len({index.field_names[0] for index in indices}) == len(UNITS) + 1 else 0


def _indexed_rows(dataset: LanceDataset, header: Header) -> int:
    counts = [index.num_rows_indexed for index in _own_indices(dataset, header)]
    return min(counts) if len(counts) == len(UNITS) + 1 else 0
