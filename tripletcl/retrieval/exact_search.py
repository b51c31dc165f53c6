"""Exact search of the rows with the largest inner products, by faiss.

By itself faiss returns an arbitrary choice among equal rows, scores that depend on the number of queries, and hangs in
a forked child. Here ties are complete, scores are reproducible, and a child can search. Rows of float16, which faiss
does not read in place, are converted block by block.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Sequence

import faiss
import numpy as np

from tripletcl.retrieval.precision import to_float32
from tripletcl.retrieval.structures import Structure
from tripletcl.retrieval.table import blocks, blocks_of

ROUNDING = 1e-5
"""Two float32 sums of three cosines that differ by less may be equal."""

QUERIES_PER_THREAD = 4
"""From this number on a matrix product is faster than faiss's own loop over the queries."""

ALWAYS, NEVER = 1, 2**31 - 1

MOSTLY = 0.75
"""Where more than this share of the rows is excluded, the others are copied and searched by themselves."""

PREFETCHED_ROWS = 10_000
"""Larger numbers of rows are not prefetched: they are read as fast as they come."""

SCORED_AT_ONCE = 64
"""Rows that are scored at a time: their products, in float64, stay in the processor's cache."""

CONVERTED_NUMBERS = 2**22
"""Numbers of float16 that are converted at a time: 16 MB of float32."""

ScoredRows = tuple[np.ndarray, np.ndarray]
"""Scores (float32) and row numbers (int64), `[k']` each."""


_threshold = threading.Lock()
"""faiss has one setting for all threads."""


def _reset_after_fork() -> None:
    """Do without the threads of the parent, which a forked child lacks: OpenMP's, and one that may hold the lock.

    The child would wait for them for ever. With one thread OpenMP needs no other.
    """
    global _threshold
    _threshold = threading.Lock()
    faiss.omp_set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def search(vectors: np.ndarray, queries: np.ndarray, k: int, excluded: np.ndarray | None = None) -> list[ScoredRows]:
    """Find the k best rows for each query, and all rows tied with the k-th.

    The scores are those of `scores`, so equal rows have equal scores: the last bits of faiss's own depend on the place
    of a row and on the number of queries.

    Args:
        vectors: `[N, W]` float32, searched in place, or float16; it may be a memory map.
        queries: `[Q, W]` float32.
        k: At least 1; more than N returns all N.
        excluded: `[N]` bool, rows that are not to be found.

    Returns:
        For each query its scores and rows, k' >= k where there are as many, in no particular order.
    """
    if excluded is not None and not excluded.any():
        excluded = None
    if not len(vectors) or not len(queries):
        return [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in queries]
    if excluded is not None and excluded.sum() > MOSTLY * len(excluded):
        return _search_among(vectors, queries, k, np.flatnonzero(~excluded))
    if vectors.dtype != np.float32:
        return _search_halves(vectors, queries, k, excluded)
    spare = k if excluded is not None else 0  # faiss finds excluded rows as well; they are dropped afterwards
    count = min(k + 1 + spare, len(vectors))
    results = []
    for query, *first in zip(queries, *_faiss_search(vectors, queries, count), strict=True):
        rows = _with_ties(vectors, query, k, (first[0], first[1]), excluded)
        results.append((scores(vectors, query, rows), rows))
    return results


def _search_among(vectors: np.ndarray, queries: np.ndarray, k: int, rows: np.ndarray) -> list[ScoredRows]:
    """`search` among some rows, which are copied block by block: the best of each block."""
    results = []
    for block in blocks_of(vectors, len(rows)):
        _prefetch(vectors, rows[block])
        found = search(to_float32(vectors[rows[block]]), queries, k)
        results.append([(scores, rows[block][numbers]) for scores, numbers in found])
    return _join(results)


def _search_halves(vectors: np.ndarray, queries: np.ndarray, k: int, excluded: np.ndarray | None) -> list[ScoredRows]:
    """`search` of rows of float16: the best of each block, converted to float32."""
    results = []
    for block in blocks(len(vectors), max(1, CONVERTED_NUMBERS // vectors.shape[1])):
        without = None if excluded is None else excluded[block]
        if without is None or not without.all():
            found = search(to_float32(vectors[block]), queries, k, without)
            results.append([(scores, numbers + block.start) for scores, numbers in found])
    return _join(results)


def _join(results: Sequence[Sequence[ScoredRows]]) -> list[ScoredRows]:
    """The scores and rows of every block, for each query."""
    joined = []
    for found in zip(*results, strict=True):
        scores, rows = zip(*found, strict=True)
        joined.append((np.concatenate(scores), np.concatenate(rows)))
    return joined


def search_by(
    structure: Structure,
    vectors: np.ndarray,
    queries: np.ndarray,
    k: int,
    excluded: np.ndarray,
    stored_queries: np.ndarray | None = None,
) -> list[ScoredRows]:
    """`search`, but among the rows that a structure covers score only those that it proposes.

    The rows after them are all searched; for a query with too few proposals all rows are. `stored_queries` are the
    queries as the rows are stored, if that is another way.
    """
    covered = structure.count
    proposals = structure.candidates(queries, k, excluded[:covered] if excluded[:covered].any() else None)
    queries = queries if stored_queries is None else stored_queries
    tail = search(vectors[covered:], queries, k, excluded[covered:])
    enough = min(k, covered - int(excluded[:covered].sum()))
    results = []
    for query, rows, (_, tail_rows) in zip(queries, proposals, tail, strict=True):
        if len(rows) < enough:
            results += search(vectors, query[None], k, excluded)
        else:
            rows = np.concatenate([rows, tail_rows + covered])
            results.append((scores(vectors, query, rows), rows))
    return results


def scores(vectors: np.ndarray, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The inner products of rows with a query, summed in float64 and rounded to float32, `[len(rows)]`.

    Numbers before the first and after the last that the query asks are not read: most queries are of one unit.
    """
    _prefetch(vectors, rows)
    asked = np.flatnonzero(query)
    span = slice(asked[0], asked[-1] + 1) if len(asked) else slice(0)
    asks = query[span].astype(np.float64)
    found = np.empty(len(rows), np.float32)
    for block in blocks(len(rows), SCORED_AT_ONCE):
        found[block] = (vectors[rows[block], span] * asks).sum(axis=1)
    return found


def _with_ties(
    vectors: np.ndarray, query: np.ndarray, k: int, first: ScoredRows, excluded: np.ndarray | None
) -> np.ndarray:
    """Search more and more rows until the last is clearly worse than the k-th that is not excluded."""
    scores, rows = first
    while True:
        living = slice(None) if excluded is None else ~excluded[rows]
        best = scores[living]
        if len(rows) == len(vectors) or (len(best) >= k and best[k - 1] - scores[-1] > ROUNDING):
            return rows[living]
        (scores,), (rows,) = _faiss_search(vectors, query[None], min(4 * len(rows), len(vectors)))


def _faiss_search(vectors: np.ndarray, queries: np.ndarray, k: int) -> ScoredRows:
    """faiss's search, `[Q, k]` each: its own loop for few queries, a matrix product for many.

    Its own choice (a product from 128,000 numbers of queries on) is up to 6 times slower for 8 to 300 queries. The
    threshold counts queries in older releases and numbers in newer ones; the two extremes mean the same in both. It is
    global, so it is restored.
    """
    many = len(queries) >= QUERIES_PER_THREAD * faiss.omp_get_max_threads()
    with _threshold:
        before = faiss.cvar.distance_compute_blas_threshold
        faiss.cvar.distance_compute_blas_threshold = ALWAYS if many else NEVER
        try:
            return faiss.knn(queries, vectors, k, faiss.METRIC_INNER_PRODUCT)
        finally:
            faiss.cvar.distance_compute_blas_threshold = before


def _prefetch(vectors: np.ndarray, rows: np.ndarray) -> None:
    """Announce the rows of a memory map that will be read, so that the disk fetches them at the same time.

    Otherwise each row waits for the one before, and the system reads its neighbours as well. Nothing is done where the
    vectors are in memory.
    """
    memory_map = _memory_map_of(vectors)
    if memory_map is None or len(rows) > PREFETCHED_ROWS or not hasattr(mmap, "MADV_WILLNEED"):
        return
    for start, length in _page_ranges(vectors, memory_map, rows):
        memory_map.madvise(mmap.MADV_WILLNEED, start, length)


def _memory_map_of(vectors: np.ndarray) -> mmap.mmap | None:
    """The memory map that an array is a view of; None for an array in memory."""
    base: object = vectors
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def _page_ranges(vectors: np.ndarray, memory_map: mmap.mmap, rows: np.ndarray) -> list[tuple[int, int]]:
    """The part of the map that holds each row, from the beginning of a page: (start, length) in bytes."""
    first = vectors.ctypes.data - np.frombuffer(memory_map, np.uint8).ctypes.data
    size = vectors.strides[0]
    starts = first + rows.astype(np.int64) * size
    before = starts % mmap.PAGESIZE
    return list(zip((starts - before).tolist(), (before + size).tolist(), strict=True))
