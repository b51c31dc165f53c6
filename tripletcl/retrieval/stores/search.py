"""Search of a store: its lists or graphs propose rows, which are scored by their stored vectors.

A query for a single unit asks that unit's lists, any other those of whole rows, where the zeros of a wildcard drop out
of the inner product. Ranked lists of units are never united: the best of a sum is seldom among the best of a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.errors import UserError
from tripletcl.retrieval import exact_search
from tripletcl.retrieval.exact_search import ScoredRows
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.precision import to_float32
from tripletcl.retrieval.stores.sql import filter_sql
from tripletcl.retrieval.stores.stored_names import StoredNames
from tripletcl.retrieval.structures import candidate_count

FEW = 10_000
"""Photos that are compared one by one, where a filter keeps no more."""


@dataclass(frozen=True)
class Block:
    """Some photos of a store.

    Attributes:
        rows: `[n]`.
        vectors: `[n, 3 * D]` float16.
        paths: From positions in the block to paths.
    """

    rows: np.ndarray
    vectors: np.ndarray
    paths: Callable[[np.ndarray], list[str]]


class Searched(Protocol):
    """A store that can be searched."""

    @property
    def names(self) -> StoredNames:
        """The path of each row."""

    @property
    def living(self) -> int:
        """The number of photos."""

    @property
    def is_listed(self) -> bool:
        """True if `nearest` is faster than to read all blocks."""

    def count(self, where: Filter) -> int:
        """The number of photos that meet a filter."""

    def blocks(self, sql: str) -> Iterator[Block]:
        """Read all photos that meet a condition."""

    def nearest(self, unit: int | None, query: np.ndarray, count: int, sql: str, share: float) -> Block:
        """Propose photos.

        Args:
            unit: The unit that is asked; None for whole rows.
            query: `[D]` of a unit, or `[3 * D]`.
            count: Number of proposals; fewer are found only where there are no more.
            sql: The condition that they meet.
            share: Of the photos that meet it.
        """


@dataclass(frozen=True)
class Found:
    """Rows that a query found, with their scores and paths."""

    scores: np.ndarray
    rows: np.ndarray
    paths: list[str]

    def best(self, k: int) -> Found:
        """The k best, best first, ties by path."""
        among = np.arange(len(self.scores))
        if k < len(among):
            among = np.flatnonzero(self.scores >= np.partition(self.scores, -k)[-k])
        order = sorted(among.tolist(), key=lambda n: (-self.scores[n], self.paths[n]))[:k]
        return Found(self.scores[order], self.rows[order], [self.paths[n] for n in order])


def search_rows(store: Searched, queries: np.ndarray, k: int, where: Filter | None) -> list[ScoredRows]:
    """Find the k best rows for each query `[3 * D]`, and remember their paths.

    Raises:
        UserError: no photo meets the filter.
    """
    if where and not store.count(where):
        raise nothing_meets(store, where)
    found = search(store, queries, k, where or None)
    store.names.remember(
        {row: path for each in found for row, path in zip(each.rows.tolist(), each.paths, strict=True)}
    )
    return [(each.scores, each.rows) for each in found]


def nothing_meets(store: Searched, where: Filter) -> UserError:
    """Return the error of a filter that keeps no photo."""
    return UserError(f"none of the {store.living:,} photos meets the filter: {where}")


def search(table: Searched, queries: np.ndarray, k: int, where: Filter | None) -> list[Found]:
    """Find the k best photos for each query `[3 * D]` among those that meet a filter, best first, ties by path.

    Args:
        table: The photos.
        queries: `[Q, 3 * D]` float32, a zero block for a wildcard.
        k: At least 1.
        where: The filter.
    """
    sql, count = (filter_sql(where), table.count(where)) if where else ("", table.living)
    if not table.is_listed or (sql and count <= FEW) or candidate_count(k) >= count:
        return _one_by_one(table, queries, k, sql)
    found = [_by_lists(table, query, k, sql, count / table.living) for query in queries]
    short = [number for number, each in enumerate(found) if len(each.rows) < min(k, count)]
    for number, each in zip(short, _one_by_one(table, queries[short], k, sql) if short else [], strict=True):
        found[number] = each
    return found


def _one_by_one(table: Searched, queries: np.ndarray, k: int, sql: str) -> list[Found]:
    parts: list[list[Found]] = [[] for _ in queries]
    for block in table.blocks(sql):
        for part, (scores, numbers) in zip(parts, exact_search.search(block.vectors, queries, k), strict=True):
            part.append(Found(scores, block.rows[numbers], block.paths(numbers)))
    return [_join(part).best(k) for part in parts]


def _join(parts: Sequence[Found]) -> Found:
    if not parts:
        return Found(np.zeros(0, np.float32), np.zeros(0, np.int64), [])
    scores, rows = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "rows"))
    return Found(scores, rows, [path for part in parts for path in part.paths])


def _by_lists(table: Searched, query: np.ndarray, k: int, sql: str, share: float) -> Found:
    units = query.reshape(len(UNITS), -1)
    named = np.flatnonzero(units.any(axis=1)).tolist()
    unit = named[0] if len(named) == 1 else None
    block = table.nearest(unit, query if unit is None else units[unit], candidate_count(k), sql, share)
    every = np.arange(len(block.rows))
    scores = exact_search.scores(to_float32(block.vectors), query, every)
    return Found(scores, block.rows, block.paths(every)).best(k)
