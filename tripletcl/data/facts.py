"""Facts `<subject, predicate, object>` and the table that says which image shows which fact."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from tripletcl.errors import UserError

UNITS = ("subject", "predicate", "object")
"""The three units of a fact, in the order of every array's unit axis."""

SPLITS = ("train", "test")


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact of order 1 `<S>`, 2 `<S, P>` or 3 `<S, P, O>`; a unit it lacks is None.

    Raises:
        UserError: the subject is empty, or there is an object but no predicate.
    """

    subject: str
    predicate: str | None = None
    object: str | None = None

    def __post_init__(self) -> None:
        for unit in UNITS:
            text = getattr(self, unit)
            object.__setattr__(self, unit, " ".join(text.split()) or None if text is not None else None)
        if self.subject is None:
            raise UserError("a fact needs a subject, but its subject is empty")
        if self.object is not None and self.predicate is None:
            raise UserError(f"fact <{self.subject}, , {self.object}> has an object but no predicate")

    @property
    def units(self) -> tuple[str, str | None, str | None]:
        """(subject, predicate, object)."""
        return self.subject, self.predicate, self.object

    @property
    def order(self) -> int:
        """1, 2 or 3: how many units the fact has."""
        return sum(unit is not None for unit in self.units)

    def __str__(self) -> str:
        return f"<{', '.join(unit for unit in self.units if unit is not None)}>"


@dataclass(frozen=True)
class FactTable:
    """Which image shows which fact, and in which split.

    Images and facts are numbered in order of first appearance; every other part of the library speaks of them by
    these ids. An image may have several rows. Built by `FactTable.from_rows` or by `tripletcl.data.read_table`.

    Attributes:
        root: The folder that the image paths are relative to.
        images: The N distinct image paths, relative to root.
        facts: The F distinct facts.
        rows: `[R, 2]` int64, (image id, fact id) of each row.
        splits: `[R]` str, "train" or "test" of each row.
        groups: The user's own task name of each fact (`[F]`), where the file has a column for it.
    """

    root: Path
    images: tuple[str, ...]
    facts: tuple[Fact, ...]
    rows: np.ndarray
    splits: np.ndarray
    groups: tuple[str, ...] | None = None

    @classmethod
    def from_rows(cls, root: Path, rows: Iterable[tuple[str, Fact, str]]) -> FactTable:
        """Number images and facts of (image, fact, split) rows; a row given twice is kept once."""
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

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def paths(self) -> tuple[Path, ...]:
        """The full path of each image, `[N]`."""
        return tuple(self.root / image for image in self.images)

    def rows_of(self, split: str, facts: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
        """The (image id, fact id) rows `[R', 2]` of a split, of the given facts only where facts is given."""
        keep = self.splits == split
        if facts is not None:
            keep &= np.isin(self.rows[:, 1], facts)
        return self.rows[keep]

    def relevance(self, split: str, images: np.ndarray, facts: np.ndarray) -> np.ndarray:
        """`[N', F']` bool: does image i have a row of fact f in this split?"""
        shown = np.zeros((len(self.images), len(self.facts)), dtype=bool)
        rows = self.rows_of(split)
        shown[rows[:, 0], rows[:, 1]] = True
        return shown[np.ix_(images, facts)]

    def units(self, unit: int, facts: Sequence[int] | np.ndarray | None = None) -> tuple[str, ...]:
        """The distinct texts of one unit (0 subject, 1 predicate, 2 object), in order of first appearance."""
        chosen = self.facts if facts is None else [self.facts[i] for i in facts]
        return tuple(dict.fromkeys(text for fact in chosen if (text := fact.units[unit]) is not None))
