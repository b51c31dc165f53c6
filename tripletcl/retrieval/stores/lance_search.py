"""Search of a Lance table: its lists propose rows, which are scored by their stored vectors.

A query for a single unit asks that unit's column, any other the column of whole rows, where the zeros of a wildcard
drop out of the inner product. Ranked lists of units are never united: the best of a sum is seldom among the best of a
part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.retrieval import exact_search
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.precision import to_float32
from tripletcl.retrieval.stores.lance_table import POSITION, LanceTable, to_array
from tripletcl.retrieval.stores.sql import filter_sql
from tripletcl.retrieval.structures import candidate_count

FEW = 10_000
"""Photos that are compared one by one, where a filter keeps no more."""

FEWEST_PROBED, PROBED_SHARE = 16, 8
"""Lists that are searched at least, and one in how many of them."""


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


def search(table: LanceTable, queries: np.ndarray, k: int, where: Filter | None, lists: int) -> list[Found]:
    """Find the k best photos for each query `[3 * D]` among those that meet a filter, best first, ties by path.

    Args:
        table: The photos.
        queries: `[Q, 3 * D]` float32, a zero block for a wildcard.
        k: At least 1.
        where: The filter.
        lists: Number of lists of the table; 0 compares photos one by one.
    """
    sql, count = (filter_sql(where), table.count(where)) if where else ("", table.rows)
    if not lists or (sql and count <= FEW) or candidate_count(k) >= count:
        return _one_by_one(table, queries, k, sql)
    found = [_by_lists(table, query, k, sql, count, lists) for query in queries]
    short = [number for number, each in enumerate(found) if len(each.rows) < min(k, count)]
    for number, each in zip(short, _one_by_one(table, queries[short], k, sql) if short else [], strict=True):
        found[number] = each
    return found


def _one_by_one(table: LanceTable, queries: np.ndarray, k: int, sql: str) -> list[Found]:
    parts: list[list[Found]] = [[] for _ in queries]
    for batch in table.scan([POSITION, "path", table.header.whole], sql):
        vectors, rows = to_array(batch.column(table.header.whole)), batch.column(POSITION).to_numpy()
        paths = batch.column("path")
        for part, (scores, numbers) in zip(parts, exact_search.search(vectors, queries, k), strict=True):
            part.append(Found(scores, rows[numbers].astype(np.int64), paths.take(_indices(numbers)).to_pylist()))
    return [_join(part).best(k) for part in parts]


def _indices(numbers: np.ndarray) -> Any:
    import pyarrow as pa

    return pa.array(numbers, pa.int64())


def _join(parts: Sequence[Found]) -> Found:
    if not parts:
        return Found(np.zeros(0, np.float32), np.zeros(0, np.int64), [])
    scores, rows = (np.concatenate([getattr(part, name) for part in parts]) for name in ("scores", "rows"))
    return Found(scores, rows, [path for part in parts for path in part.paths])


def _by_lists(table: LanceTable, query: np.ndarray, k: int, sql: str, count: int, lists: int) -> Found:
    """The photos of the lists that are nearest to a query; of more lists, the fewer photos a filter keeps."""
    assert table.dataset is not None
    column, part = _part(table, query)
    probed = max(lists // PROBED_SHARE, FEWEST_PROBED) * table.rows // count
    nearest = {"column": column, "q": part, "k": candidate_count(k), "minimum_nprobes": min(lists, probed)}
    scanner = table.dataset.scanner(
        columns=[POSITION, "path", table.header.whole],
        nearest=nearest,
        filter=sql or None,
        prefilter=bool(sql),
        disable_scoring_autoprojection=True,
    )
    found = scanner.to_table()
    vectors = to_float32(to_array(found[table.header.whole]))
    scores = exact_search.scores(vectors, query, np.arange(len(vectors)))
    return Found(scores, found[POSITION].to_numpy().astype(np.int64), found["path"].to_pylist()).best(k)


def _part(table: LanceTable, query: np.ndarray) -> tuple[str, np.ndarray]:
    """The column that answers a query, and the query as that column takes it."""
    units = query.reshape(len(UNITS), -1)
    named = np.flatnonzero(units.any(axis=1))
    if len(named) == 1:
        return table.header.units[named[0]], units[named[0]]
    return table.header.whole, query
