"""Exact nearest neighbours by inner product: faiss with its sharp edges covered."""

from __future__ import annotations

import os

import faiss
import numpy as np

ROUNDING = 1e-5
"""Two float32 sums of three cosines that are closer than this may be equal."""

QUERIES_PER_THREAD = 4
"""From here on a matrix product beats faiss's own loop over the queries."""

ALWAYS, NEVER = 1, 2**31 - 1

if hasattr(os, "register_at_fork"):
    # A forked child has none of its parent's OpenMP threads and would wait for them for ever. One thread needs none.
    os.register_at_fork(after_in_child=lambda: faiss.omp_set_num_threads(1))


def search(index: faiss.Index, queries: np.ndarray, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The k best rows for each query, and all rows tied with the k-th.

    Scores are recomputed in float64 and rounded to float32, so that equal rows have equal scores: faiss's own depend
    on the place of a row and on the number of queries in their last bits.

    Args:
        index: A flat inner-product index of N rows.
        queries: `[Q, W]` float32.
        k: At least 1; more than N gives all N.

    Returns:
        For each query its scores (float32) and row numbers, `[k']` each, k' >= min(k, N), in no particular order.
    """
    if not index.ntotal or not len(queries):
        return [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in queries]
    wide = min(k + 1, index.ntotal)
    scores, rows = _faiss_search(index, queries, wide)
    return [
        _rescored(index, query, _with_ties(index, query, k, s, r))
        for query, s, r in zip(queries, scores, rows, strict=True)
    ]


def _with_ties(index: faiss.Index, query: np.ndarray, k: int, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Look further down until the last row found is clearly worse than the k-th."""
    while len(rows) < index.ntotal and scores[k - 1] - scores[-1] <= ROUNDING:
        scores, rows = (found[0] for found in _faiss_search(index, query[None], min(4 * len(rows), index.ntotal)))
    return rows


def _rescored(index: faiss.Index, query: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    vectors = index.reconstruct_batch(rows)  # [k', W]
    return (vectors.astype(np.float64) * query).sum(axis=1).astype(np.float32), rows


def _faiss_search(index: faiss.Index, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """faiss's search, by its own loop for few queries and by a matrix product for many.

    Its own choice (a product from 128,000 numbers of queries on) is up to 6 times slower for 8 to 300 queries. The
    threshold's unit is queries in older releases and numbers in newer ones; the two extremes mean the same in both.
    It is faiss's global, so it is put back.
    """
    before = faiss.cvar.distance_compute_blas_threshold
    many = len(queries) >= QUERIES_PER_THREAD * faiss.omp_get_max_threads()
    faiss.cvar.distance_compute_blas_threshold = ALWAYS if many else NEVER
    try:
        return index.search(queries, k)
    finally:
        faiss.cvar.distance_compute_blas_threshold = before
