"""The table of the images that show facts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.data.columns import Column, distinct_rows
from tripletcl.data.facts import Fact
from tripletcl.data.images import Photo, PixelBox, Region
from tripletcl.data.labels import SHOWN, PairLabels

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SPLITS = ("train", "test")


@dataclass(frozen=True)
class FactTable:
    """Rows of an image, a fact that it shows (or does not, see `labels`), and a split.

    Images and facts are numbered in order of first appearance; every other part of the library identifies them by
    these ids. An image is a photo, or a region of one: a photo may be several images, and an image may have several
    rows. Built by `FactTable.from_rows` or by `tripletcl.data.read_table`.

    Attributes:
        root: The folder that the image paths are relative to.
        images: The path of the photo of each of the N distinct images, relative to root.
        facts: The F distinct facts.
        rows: `[R, 2]` int64, (image id, fact id) of each row.
        splits: `[R]` str, "train" or "test" of each row.
        groups: The user's own task name of each fact, `[F]`, if the file has a column for it.
        starts: The first image id of each of the tables that this one was joined from (`join`).
        contents: `photo_digest` of each image's photo, `[N]`, "" where it is unknown; None if all are.
        boxes: The box of each image, `[N]`, None for one that is the whole photo; None if all are.
        left_out: The ids of the test images whose test rows were dropped, since the tables also train on the same photo
            (`join`).
        labels: `[R]` int8, the label of each row (`tripletcl.data.labels`); None if all are SHOWN.
    """

    root: Path
    images: tuple[str, ...]
    facts: tuple[Fact, ...]
    rows: np.ndarray
    splits: np.ndarray
    groups: tuple[str, ...] | None = None
    starts: tuple[int, ...] = (0,)
    contents: tuple[str, ...] | None = None
    left_out: tuple[int, ...] = ()
    boxes: tuple[PixelBox | None, ...] | None = None
    labels: np.ndarray | None = None

    @classmethod
    def from_rows(
        cls, root: Path, rows: Iterable[tuple[str | Region, Fact, str]], labels: Sequence[int] | None = None
    ) -> FactTable:
        """Build a table of (image, fact, split) rows; duplicates are dropped. Regions are relative to root, too."""
        images, facts, splits = zip(*rows, strict=True) if (rows := list(rows)) else ((), (), ())
        given = None if labels is None else Column.of(labels)
        return cls.from_columns(root, Column.of(images), Column.of(facts), Column.of(splits), given)

    @classmethod
    def from_columns(
        cls,
        root: Path,
        images: Column[str | Region],
        facts: Column[Fact],
        splits: Column[str],
        labels: Column[int] | None = None,
    ) -> FactTable:
        """Build a table of columns `[R]`; duplicate rows are dropped."""
        first = np.sort(distinct_rows([images, facts, splits, *([labels] if labels else [])])[0])
        own = None if labels is None else np.array(labels.distinct, dtype=np.int8)[labels.codes][first]
        images, facts, splits = (column.take(first) for column in (images, facts, splits))  # type: ignore[assignment]
        boxes = tuple([image.box if isinstance(image, Region) else None for image in images.distinct])
        return cls(
            root=Path(root),
            images=tuple([image.path.as_posix() if isinstance(image, Region) else image for image in images.distinct]),
            boxes=boxes if any(boxes) else None,
            facts=tuple(facts.distinct),
            rows=np.stack([images.codes, facts.codes], axis=1),
            splits=np.array(splits.distinct, dtype=np.str_)[splits.codes],
            labels=own if own is not None and (own != SHOWN).any() else None,
        )

    def join(self, others: Sequence[FactTable]) -> FactTable:
        """Append other tables; the ids of this table's images and facts do not change.

        A known fact keeps its id. Each table's images get ids of their own, so that the rows of one photo in two tables
        stay separate. Only among test images do all ids of a photo, or of a region, have the rows of all its tables: it
        is no wrong answer to a fact that it is known to show. A photo that any of the tables trains on is no test
        image, and no part of it is. Photos are the same if their content is, or, where it is unknown, their path.
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
        if not others:
            return self._with_consistent_tests()
        contents = [content for table in (self, *others) for content in table.contents or [""] * len(table.images)]
        boxes = [box for table in (self, *others) for box in table.boxes or [None] * len(table.images)]
        labels = np.concatenate([table.row_labels for table in (self, *others)])
        whole = FactTable(
            self.root, tuple(images), tuple(facts), np.concatenate(rows), np.concatenate(splits), None, tuple(starts),
            tuple(contents) if any(contents) else None, boxes=tuple(boxes) if any(boxes) else None,
            labels=labels if (labels != SHOWN).any() else None,
        )  # fmt: skip
        return whole._with_consistent_tests()

    def _with_consistent_tests(self) -> FactTable:
        """The table in which all ids of an image have the same test rows, and none if it trains on their photo."""
        photos = self._photos()
        tests = np.unique(self.rows_of("test", label=None)[:, 0])
        left_out = tests[np.isin(photos[tests], photos[self.rows_of("train", label=None)[:, 0]])]
        kept = (self.splits != "test") | ~np.isin(self.rows[:, 0], left_out)
        boxes = self.boxes or (None,) * len(self.images)
        ids_of_part: dict[tuple[int, PixelBox | None], list[int]] = {}
        for image in np.setdiff1d(tests, left_out).tolist():
            ids_of_part.setdefault((photos[image], boxes[image]), []).append(image)
        same = {image: ids for ids in ids_of_part.values() if len(ids) > 1 for image in ids}
        own = self.row_labels
        tested = np.column_stack([self.rows, own])[self.splits == "test"]
        test_rows = set(map(tuple, tested.tolist()))
        of_others = {(other, *rest) for image, *rest in test_rows if image in same for other in same[image]}
        shared = np.array(sorted(of_others - test_rows), dtype=np.int64).reshape(-1, 3)
        if not len(shared) and kept.all():
            return self
        rows = np.concatenate([self.rows[kept], shared[:, :2]])
        splits = np.concatenate([self.splits[kept], np.repeat("test", len(shared))])
        labels = None if self.labels is None else np.concatenate([own[kept], shared[:, 2].astype(np.int8)])
        return replace(self, rows=rows, splits=splits, left_out=tuple(left_out.tolist()), labels=labels)

    def _photos(self) -> np.ndarray:
        """`[N]`, the number of each image's photo."""
        contents = self.contents or [""] * len(self.images)
        keeps_links = (os.path.abspath(path) for path in self.paths)  # noqa: PTH100 - resolve() would follow them
        names = [content or path for content, path in zip(contents, keeps_links, strict=True)]
        return np.unique(names, return_inverse=True)[1]

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The full path of each image's photo, `[N]`."""
        return tuple(self.root / image for image in self.images)

    @cached_property
    def photos(self) -> tuple[Photo, ...]:
        """The source of each image, `[N]`: its photo, or the region of one."""
        if self.boxes is None:
            return self.paths
        return tuple(
            path if box is None else Region(path, box) for path, box in zip(self.paths, self.boxes, strict=True)
        )

    @property
    def row_labels(self) -> np.ndarray:
        """`[R]` int8, the label of each row."""
        return np.full(len(self.rows), SHOWN, dtype=np.int8) if self.labels is None else self.labels

    def rows_of(
        self,
        split: str,
        facts: Sequence[int] | np.ndarray | None = None,
        table: int | None = None,
        label: int | None = SHOWN,
    ) -> np.ndarray:
        """Rows (image id, fact id) `[R', 2]` of a split with a label, of which None is any.

        Optionally only those of some facts or of one joined table.
        """
        keep = self.splits == split
        if label is not None and self.labels is not None:
            keep &= self.labels == label
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

    def pair_labels(self, split: str) -> PairLabels:
        """The labels of all images and facts in a split."""
        here = self.splits == split
        return PairLabels(self.rows[here], self.row_labels[here], (len(self.images), len(self.facts)))

    def units(self, unit: int, facts: Sequence[int] | np.ndarray | None = None) -> tuple[str, ...]:
        """The distinct texts of one unit (0 subject, 1 predicate, 2 object), in order of first appearance."""
        among = self.facts if facts is None else [self.facts[i] for i in facts]
        return tuple(dict.fromkeys(text for fact in among if (text := fact.units[unit]) is not None))
