"""The table of the images that show facts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.data.facts import Fact

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SPLITS = ("train", "test")


@dataclass(frozen=True)
class FactTable:
    """Rows of an image, a fact that it shows, and a split.

    Images and facts are numbered in order of first appearance; every other part of the library identifies them by
    these ids. An image may have several rows. Built by `FactTable.from_rows` or by `tripletcl.data.read_table`.

    Attributes:
        root: The folder that the image paths are relative to.
        images: The N distinct image paths, relative to root.
        facts: The F distinct facts.
        rows: `[R, 2]` int64, (image id, fact id) of each row.
        splits: `[R]` str, "train" or "test" of each row.
        groups: The user's own task name of each fact, `[F]`, if the file has a column for it.
        starts: The first image id of each of the tables that this one was joined from (`join`).
    """

    root: Path
    images: tuple[str, ...]
    facts: tuple[Fact, ...]
    rows: np.ndarray
    splits: np.ndarray
    groups: tuple[str, ...] | None = None
    starts: tuple[int, ...] = (0,)

    @classmethod
    def from_rows(cls, root: Path, rows: Iterable[tuple[str, Fact, str]]) -> FactTable:
        """Build a table of (image, fact, split) rows; duplicates are dropped."""
        rows = list(dict.fromkeys(rows))
        image_ids: dict[str, int] = {}
        fact_ids: dict[Fact, int] = {}
        pairs = [
            (image_ids.setdefault(image, len(image_ids)), fact_ids.setdefault(fact, len(fact_ids)))
            for image, fact, _ in rows
        ]
        return cls(
            root=Path(root),
            images=tuple(image_ids),
            facts=tuple(fact_ids),
            rows=np.array(pairs, dtype=np.int64).reshape(-1, 2),
            splits=np.array([split for _, _, split in rows], dtype=np.str_),
        )

    def join(self, others: Sequence[FactTable]) -> FactTable:
        """Append other tables; the ids of this table's images and facts do not change.

        A known fact keeps its id. Each table's images get ids of their own, so that the rows of one photo in two tables
        stay separate. Only among test images do all ids of a file have the rows of all its tables: a photo is no wrong
        answer to a fact that it is known to show.
        """
        facts = {fact: number for number, fact in enumerate(self.facts)}
        images, starts = list(self.images), [0]
        rows, splits = [self.rows], [self.splits]
        for table in others:
            ids = np.array([facts.setdefault(fact, len(facts)) for fact in table.facts], dtype=np.int64)  # [F']
            starts.append(len(images))
            rows.append(np.stack([table.rows[:, 0] + len(images), ids[table.rows[:, 1]]], axis=1))
            splits.append(table.splits)
            images += [str(path.absolute()) for path in table.paths]
        whole = FactTable(
            self.root, tuple(images), tuple(facts), np.concatenate(rows), np.concatenate(splits), None, tuple(starts)
        )
        return whole._with_shared_test_rows() if others else self

    def _with_shared_test_rows(self) -> FactTable:
        """The table in which all ids of one file have the same test rows."""
        ids_of_file: dict[str, list[int]] = {}
        for image in np.unique(self.rows_of("test")[:, 0]).tolist():
            ids_of_file.setdefault(os.path.abspath(self.paths[image]), []).append(image)  # noqa: PTH100 - keeps links
        same_file = {image: ids for ids in ids_of_file.values() if len(ids) > 1 for image in ids}
        test_rows = set(map(tuple, self.rows_of("test").tolist()))
        shared = {(other, fact) for image, fact in test_rows if image in same_file for other in same_file[image]}
        shared -= test_rows
        if not shared:
            return self
        rows = np.concatenate([self.rows, np.array(sorted(shared), dtype=np.int64)])
        return replace(self, rows=rows, splits=np.concatenate([self.splits, np.repeat("test", len(shared))]))

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The full path of each image, `[N]`."""
        return tuple(self.root / image for image in self.images)

    def rows_of(
        self, split: str, facts: Sequence[int] | np.ndarray | None = None, table: int | None = None
    ) -> np.ndarray:
        """Rows (image id, fact id) `[R', 2]` of a split, optionally only those of some facts or of one joined table."""
        keep = self.splits == split
        if facts is not None:
            keep &= np.isin(self.rows[:, 1], facts)
        if table is not None:
            keep &= self.table_of(self.rows[:, 0]) == table
        return self.rows[keep]

    def table_of(self, images: np.ndarray) -> np.ndarray:
        """The number (from 0) of the joined table that each image belongs to."""
        return np.searchsorted(self.starts, images, side="right") - 1

    def relevance(self, split: str, images: np.ndarray, facts: np.ndarray) -> csr_array:
        """Sparse `[N', F']` bool: True if image `images[i]` has a row of fact `facts[j]` in this split."""
        from scipy.sparse import csr_array  # a query needs none of it

        rows = self.rows_of(split)
        shape = len(self.images), len(self.facts)
        relevant = csr_array((np.ones(len(rows), dtype=bool), (rows[:, 0], rows[:, 1])), shape)
        return relevant[images][:, facts]

    def units(self, unit: int, facts: Sequence[int] | np.ndarray | None = None) -> tuple[str, ...]:
        """The distinct texts of one unit (0 subject, 1 predicate, 2 object), in order of first appearance."""
        among = self.facts if facts is None else [self.facts[i] for i in facts]
        return tuple(dict.fromkeys(text for fact in among if (text := fact.units[unit]) is not None))
