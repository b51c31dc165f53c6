"""The rows of an index, in memory or on disk: append, remove, replace, and search them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.data.metadata import Metadata
from tripletcl.errors import UserError
from tripletcl.files import FileStamp
from tripletcl.retrieval import exact_search
from tripletcl.retrieval.database import STRUCTURE, About
from tripletcl.retrieval.details import set_details
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.precision import Precision, round_to
from tripletcl.retrieval.shared_block import Unfolded, do_share, fold, fold_queries, shared_width
from tripletcl.retrieval.store import Contents, Writer
from tripletcl.retrieval.stores.protocol import RowFunction
from tripletcl.retrieval.structures import FLAT, Structure, build_structure, choose_kind, load_structure
from tripletcl.retrieval.table import (
    FEATURES,
    NAMES,
    PHOTOS,
    VECTORS,
    Broken,
    GrowingArray,
    Paths,
    Table,
    blocks_of,
    row_blocks,
)

AUTO = "auto"

STALE = 0.1
"""A structure is built again, and deleted rows are dropped, when this share of the rows is new or deleted."""


FILTERS = 8
"""Filters whose rows are remembered: whoever turns pages asks with the same one."""


class _NotShared(Exception):
    """The units of later rows share fewer numbers than those of the first."""


def _fold_each(blocks: Iterable[np.ndarray], shared: int) -> Iterator[np.ndarray]:
    for rows in blocks:
        if not do_share(rows, shared):
            raise _NotShared
        yield fold(rows, shared)


class Rows:
    """Photos with their vectors, the description of the index, and the structure that searches them.

    A change goes to disk first, where a writer is given: both places hold it, or neither does. Rows keep their number
    until `settle` drops deleted ones.

    Attributes:
        about: The description.
        table: The rows.
        writer: Writes changes to disk; None in memory.
    """

    def __init__(self, about: About, contents: Contents | None = None, writer: Writer | None = None) -> None:
        self.about, self.writer = about, writer
        self.table = Table() if contents is None else contents.table
        self.table.shared = about.shared
        self._structure: Structure | Path | None = None if contents is None else contents.structure
        self._covered = 0 if contents is None else contents.covered
        self._kept: dict[Filter, np.ndarray] = {}  # of the last filters

    def append(
        self,
        photos: Sequence[tuple[str, FileStamp]],
        metadata: Sequence[Metadata | None],
        arrays: Mapping[str, np.ndarray],
        broken: Mapping[str, Broken] | None = None,
    ) -> None:
        """Append photos and those that cannot be read; former rows of the same photos are deleted.

        Args:
            photos: Names and stamps.
            metadata: What their files say about them; None where nobody has read them.
            arrays: Their rows in VECTORS and FEATURES.
            broken: Photos that cannot be read.
        """
        self._share(arrays.get(VECTORS))
        table, broken = self.table, broken or {}
        names = [name for name, _ in photos]
        found = table.find([*names, *broken])
        replaced = found[found >= 0].tolist()
        arrays = {role: self._stored(role, rows) for role, rows in arrays.items()}
        arrays |= table.new_photos(photos, metadata) if photos else {}
        if self.writer is not None:
            self.writer.append(names, arrays, replaced, broken, table.cameras)
        self._kept = {}
        table.remove(replaced)
        table.append(names)
        table.broken |= broken
        for role, rows in arrays.items():
            if self.writer is not None:
                table.arrays[role] = self.writer.rows(role)
            elif role in table.arrays:
                table.arrays[role].append(rows)
            else:
                table.arrays[role] = GrowingArray(rows)

    def _stored(self, role: str, rows: np.ndarray) -> np.ndarray:
        """Rows as they are stored."""
        return round_to(self.about.precision, fold(rows, self.about.shared) if role == VECTORS else rows)

    def _share(self, rows: np.ndarray | None) -> None:
        """Decide by the first rows how many numbers are stored once, and give that up if new rows do not fit."""
        if rows is None:
            return
        if not self.table.rows:
            self.describe(replace(self.about, shared=shared_width(rows)))
        elif not do_share(rows, self.about.shared):
            vectors = self.table.unfolded
            blocks = (vectors[block] for block in blocks_of(self.table.vectors))
            self.rewrite(replace(self.about, shared=0), replace(self.table), {VECTORS: blocks}, [FEATURES, STRUCTURE])

    def set_details(self, rows: Sequence[int], metadata: Sequence[Metadata]) -> None:
        """Replace the details of some rows."""
        photos = self.table.photos.copy()
        changed = photos[rows]
        set_details(changed, metadata, self.table.cameras)
        photos[rows] = changed
        self.rewrite(
            self.about, replace(self.table), {PHOTOS: row_blocks(photos)}, [VECTORS, FEATURES, NAMES, STRUCTURE]
        )

    def remove(self, rows: Sequence[int], broken: Sequence[str] = ()) -> None:
        """Remove photos by their rows, and broken photos by their names."""
        if not rows and not broken:
            return
        if self.writer is not None:
            self.writer.remove(rows, broken)
        self._kept = {}
        self.table.remove(rows)
        for name in broken:
            del self.table.broken[name]

    def store_as(self, precision: Precision) -> None:
        """Store vectors and features in another precision; photos and structure stay."""
        about, table = replace(self.about, precision=precision), self.table
        if table.rows:
            arrays = {role: row_blocks(table.arrays[role].rows) for role in (VECTORS, FEATURES) if role in table.arrays}
            self.rewrite(about, replace(table), arrays, [STRUCTURE])
        else:
            self.describe(about)

    def describe(self, about: About) -> None:
        """Replace the description."""
        if self.writer is not None:
            self.writer.describe(about)
        self.about, self.table.shared = about, about.shared

    def rewrite(
        self, about: About, table: Table, arrays: Mapping[str, Iterable[np.ndarray]], kept: Sequence[str] = ()
    ) -> None:
        """Replace all rows atomically; after an error they are the former ones (`Writer.rewrite`).

        The photos stay unless new ones are given; a structure that is kept stays as well.
        """
        if not table.rows:
            arrays = {}
        elif PHOTOS not in arrays:
            kept = [*kept, PHOTOS, NAMES]
        if self.writer is not None:
            self.writer.rewrite(about, table, arrays, kept)
            new = {role: self.writer.rows(role) for role in arrays}
        else:
            new = {role: GrowingArray(np.concatenate(list(rows))) for role, rows in arrays.items()}
            for role in new.keys() & {VECTORS, FEATURES}:
                new[role] = GrowingArray(round_to(about.precision, new[role].rows))
        table.arrays = {role: rows for role, rows in self.table.arrays.items() if role in kept} | new
        table.shared = about.shared
        self.about, self.table, self._kept = about, table, {}
        if STRUCTURE not in kept:
            self._structure = None

    def recompute(self, about: About, role: str, function: RowFunction, kept: Sequence[str] = ()) -> None:
        """Replace all vectors by a function of the stored vectors, or features; on disk atomically."""
        table = self.table
        stored = table.arrays[role].rows if role in table.arrays else np.zeros((0, 0), np.float32)
        inputs = Unfolded(stored, table.shared if role == VECTORS else 0)

        def compute() -> Iterator[np.ndarray]:
            return (function(inputs[block], table.names[block]) for block in blocks_of(stored))

        computed = compute()
        first = list(islice(computed, 1))
        shared = max(map(shared_width, first), default=0)
        rows = _fold_each(chain(first, computed), shared)
        try:
            self.rewrite(replace(about, shared=shared), replace(table), {VECTORS: rows}, kept)
        except _NotShared:
            self.rewrite(replace(about, shared=0), replace(table), {VECTORS: compute()}, kept)

    # --- searching ---------------------------------------------------------------------------------------------------

    def search(self, queries: np.ndarray, k: int, where: Filter | None = None) -> list[exact_search.ScoredRows]:
        """Find the k best rows for each query `[3 * D]`, best first, ties by path, scored by the stored vectors."""
        structure, vectors = self.structure(), self.table.vectors
        stored = fold_queries(queries, self.table.shared) if self.table.shared else queries
        excluded = ~self.kept(where) if where else self.table.deleted.rows
        if structure is None:
            results = exact_search.search(vectors, stored, k, excluded)
        else:
            results = exact_search.search_by(structure, vectors, queries, k, excluded, stored)
        return [self._best(scores, rows, k) for scores, rows in results]

    def kept(self, where: Filter | None) -> np.ndarray:
        """The rows that a filter keeps, `[rows]` bool; False for removed photos.

        Raises:
            UserError: it keeps none.
        """
        if not where:
            return ~self.table.deleted.rows
        if where in self._kept:
            return self._kept[where]
        kept = where.rows(self.table)
        if not kept.any() and self.table.living:
            raise UserError(f"none of the {self.table.living:,} photos meets the filter: {where}")
        while len(self._kept) >= FILTERS:
            del self._kept[next(iter(self._kept))]
        self._kept[where] = kept
        return kept

    def _best(self, scores: np.ndarray, rows: np.ndarray, k: int) -> exact_search.ScoredRows:
        if k < len(scores):  # names are read only of those that may be among the k best
            among = scores >= np.partition(scores, -k)[-k]
            scores, rows = scores[among], rows[among]
        values, paths = scores.tolist(), Paths(self.table.names)
        count_of = Counter(values)

        def place(at: int) -> tuple[float, Path]:
            """A path is read only where it decides."""
            return -values[at], paths[int(rows[at])] if count_of[values[at]] > 1 else Path()

        order = sorted(range(len(rows)), key=place)[:k]
        return scores[order], rows[order]

    def structure(self) -> Structure | None:
        """The structure, loaded on first use; None where rows are searched one by one."""
        if isinstance(self._structure, Path):
            self._structure = load_structure(self._structure)
        return self._structure

    # --- settling ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Drop deleted rows, choose the kind and build its structure, each where enough has changed."""
        if self.table.rows - self.table.living > STALE * self.table.rows:
            self._drop_deleted()
        kind, why = self._choose_kind()
        about = replace(self.about, kind=kind, why=why)
        if self._is_settled(kind):
            self.describe(about)
            return
        structure = None
        if kind != FLAT:
            structure = build_structure(kind, self.table.unfolded, units=len(UNITS))
        if self.writer is not None:
            self.writer.set_structure(about, structure.save if structure else None, self.table.rows)
        self.about, self._structure, self._covered = about, structure, self.table.rows

    def _drop_deleted(self) -> None:
        living = np.flatnonzero(~self.table.deleted.rows)
        table, arrays = self.table.without_deleted()
        numbers = {role: row_blocks(array.rows, living) for role, array in self.table.arrays.items()}
        self.rewrite(self.about, table, numbers | arrays)

    def _choose_kind(self) -> tuple[str, str]:
        """The kind that the index should have, and the reason."""
        if not self.table.living:
            return FLAT, About.why
        if self.about.asked != AUTO:
            return self.about.asked, f"{self.about.asked}: as it was asked for"
        return choose_kind(self.table.living, self.table.vectors.shape[1])

    def _is_settled(self, kind: str) -> bool:
        """True if the present structure, or its absence, still suits the rows."""
        if kind == FLAT or self._structure is None:
            return (kind == FLAT) == (self._structure is None)
        return kind == self.about.kind and self.table.rows - self._covered <= STALE * self.table.rows

    def write_to(self, writer: Writer) -> None:
        """Replace the content of another index on disk by these rows."""
        arrays = {role: row_blocks(array.rows) for role, array in self.table.arrays.items() if len(array)}
        writer.rewrite(self.about, self.table, arrays)
        if (structure := self.structure()) is not None:
            writer.set_structure(self.about, structure.save, self._covered)
