"""The rows of an index, in memory or on disk: added, taken out, replaced, and searched by a structure or one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.retrieval import exact_search
from tripletcl.retrieval.database import About
from tripletcl.retrieval.store import Contents, Writer
from tripletcl.retrieval.structures import FLAT, Structure, build_structure, choose_kind, load_structure
from tripletcl.retrieval.table import Broken, Growing, Origin, Paths, Stamp, Table, blocks

AUTO = "auto"

STALE = 0.1
"""A structure is built again, and rows are moved together, when more than this part of them is new or deleted."""


class Rows:
    """Photos and their vectors, of which model they are, and how they are searched.

    What changes them changes the disk first, where a writer is given: both hold a change, or neither does. Rows keep
    their number until `settle` moves them together.

    Attributes:
        about: What they say of themselves.
        table: The rows.
        writer: Keeps them on disk; None in memory.
    """

    def __init__(self, about: About, contents: Contents | None = None, writer: Writer | None = None) -> None:
        self.about, self.writer = about, writer
        self.table = Table() if contents is None else contents.table
        self._structure: Structure | Path | None = None if contents is None else contents.structure
        self._covered = 0 if contents is None else contents.covered

    def append(
        self,
        photos: Sequence[tuple[str, Stamp]],
        origin: Origin,
        arrays: Mapping[str, np.ndarray],
        broken: Mapping[str, Broken] | None = None,
    ) -> None:
        """Add photos, in the place of what was known of them, and note those that cannot be read.

        Args:
            photos: Names and stamps.
            origin: Who encoded them.
            arrays: A row for each; empty where there is no photo.
            broken: Photos that cannot be read.
        """
        table, broken = self.table, broken or {}
        taken = [table.row_of[name] for name in (*dict(photos), *broken) if name in table.row_of]
        if self.writer is not None:
            self.writer.append(table.rows, photos, origin, arrays, taken, broken)
        table.remove(taken)
        table.append(photos, origin)
        table.broken |= broken
        for role, rows in arrays.items():
            if self.writer is not None:
                table.arrays[role] = self.writer.rows(role)
            elif role in table.arrays:
                table.arrays[role].append(rows)
            else:
                table.arrays[role] = Growing(rows)

    def remove(self, rows: Sequence[int], broken: Sequence[str] = ()) -> None:
        """Take photos out, and forget broken ones."""
        if not rows and not broken:
            return
        if self.writer is not None:
            self.writer.remove(rows, broken)
        self.table.remove(rows)
        for name in broken:
            del self.table.broken[name]

    def describe(self, about: About) -> None:
        """Change what they say of themselves."""
        if self.writer is not None:
            self.writer.describe(about)
        self.about = about

    def rewrite(
        self, about: About, table: Table, arrays: Mapping[str, Iterable[np.ndarray]], kept: Sequence[str] = ()
    ) -> None:
        """Become other rows; where something goes wrong they stay as they were.

        Args:
            about: What they then say of themselves.
            table: All of them but their arrays.
            arrays: The new ones, block by block.
            kept: Arrays that stay as they are.
        """
        if not table.rows:
            arrays = {}
        if self.writer is not None:
            self.writer.rewrite(about, table, arrays, kept)
            new = {role: self.writer.rows(role) for role in arrays}
        else:
            new = {role: Growing(np.concatenate(list(rows))) for role, rows in arrays.items()}
        table.arrays = {role: rows for role, rows in self.table.arrays.items() if role in kept} | new
        self.about, self.table, self._structure = about, table, None

    # --- searching ---------------------------------------------------------------------------------------------------

    def search(self, queries: np.ndarray, k: int) -> list[exact_search.Found]:
        """The k best rows for each query `[3 * D]`, best first, ties by path; scores from the stored vectors."""
        structure, vectors, deleted = self.structure(), self.table.vectors, self.table.deleted.rows
        if structure is None:
            found = exact_search.search(vectors, queries, k, deleted)
        else:
            found = exact_search.search_by(structure, vectors, queries, k, deleted)
        return [self._best(scores, rows, k) for scores, rows in found]

    def _best(self, scores: np.ndarray, rows: np.ndarray, k: int) -> exact_search.Found:
        paths = Paths(self.table.names)
        order = sorted(range(len(rows)), key=lambda i: (-scores[i], paths[int(rows[i])]))[:k]
        return scores[order], rows[order]

    def structure(self) -> Structure | None:
        """What proposes candidates; None where rows are searched one by one."""
        if isinstance(self._structure, Path):
            self._structure = load_structure(self._structure)
        return self._structure

    # --- settling ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Move the rows together, choose the kind, build its structure: each where enough has changed."""
        if self.table.rows - len(self.table.row_of) > STALE * self.table.rows:
            self._move_together()
        kind, why = self._chosen_kind()
        about = replace(self.about, kind=kind, why=why)
        if self._has_settled(kind):
            self.describe(about)
            return
        structure = None
        if kind != FLAT:
            structure = build_structure(kind, self.table.vectors, units=len(UNITS))
        if self.writer is not None:
            self.writer.set_structure(about, structure.save if structure else None, self.table.rows)
        self.about, self._structure, self._covered = about, structure, self.table.rows

    def _move_together(self) -> None:
        """Drop the rows of photos taken out."""
        living = np.flatnonzero(~self.table.deleted.rows)
        arrays = {role: blocks(held.rows, living) for role, held in self.table.arrays.items()}
        self.rewrite(self.about, self.table.without_deleted(), arrays)

    def _chosen_kind(self) -> tuple[str, str]:
        """The kind that they should be of, and why."""
        if not self.table.row_of:
            return FLAT, About.why
        if self.about.asked != AUTO:
            return self.about.asked, f"{self.about.asked}: as it was asked for"
        return choose_kind(len(self.table.row_of), self.table.vectors.shape[1])

    def _has_settled(self, kind: str) -> bool:
        if kind == FLAT or self._structure is None:
            return (kind == FLAT) == (self._structure is None)
        return kind == self.about.kind and self.table.rows - self._covered <= STALE * self.table.rows

    def write_to(self, writer: Writer) -> None:
        """Put them in the place of what another index on disk holds."""
        arrays = {role: blocks(held.rows) for role, held in self.table.arrays.items() if len(held)}
        writer.rewrite(self.about, self.table, arrays)
        if (structure := self.structure()) is not None:
            writer.set_structure(self.about, structure.save, self._covered)
