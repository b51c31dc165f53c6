"""The index finds exactly what brute force finds, in every wildcard pattern, and also after a fork."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import numpy as np
import pytest

from tripletcl.retrieval import FactIndex, exact_search

WIDTH = 16
PATTERNS = [pattern for pattern in itertools.product([0, 1], repeat=3) if any(pattern)]
NAMES = [Path(f"{row:06}.jpg") for row in range(100_000)]


def unit_vectors(count: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, 3, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    vectors = unit_vectors(100_000, seed=0)
    vectors[50_000:50_040] = vectors[7]  # the same photo 41 times
    return vectors


@pytest.fixture(scope="module")
def index(photos: np.ndarray) -> FactIndex:
    index = FactIndex()
    index.add(NAMES, photos)
    return index


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    yield
    faiss.omp_set_num_threads(before)


def queries(count: int) -> np.ndarray:
    """`count` queries of every pattern; the first asks for the photo that is in the index 41 times."""
    vectors = unit_vectors(count, seed=1)
    vectors[0] = unit_vectors(8, seed=0)[7]
    return (vectors[:, None] * np.array(PATTERNS)[None, :, :, None]).reshape(-1, 3 * WIDTH)  # [count * 7, 3 * WIDTH]


@pytest.mark.parametrize("count", [1, 2], ids=["faiss's own loop", "matrix product"])
def test_every_pattern_equals_brute_force(index: FactIndex, photos: np.ndarray, two_threads: None, count: int) -> None:
    assert len(PATTERNS) == 7
    vectors = queries(count)
    results = index.search_vectors(vectors, k=10)
    scores = photos.reshape(len(photos), -1).astype(np.float64) @ vectors.astype(np.float64).T  # [N, Q]
    for query, hits in enumerate(results):
        # Sorted by score, and equal scores by name: lexsort's last key comes first.
        best = np.lexsort((np.arange(len(photos)), -scores[:, query].astype(np.float32)))[:10]
        assert [hit.path for hit in hits] == [NAMES[row] for row in best]
        assert [hit.score for hit in hits] == pytest.approx(scores[best, query], abs=1e-6)


def test_the_answer_does_not_depend_on_the_batch(index: FactIndex) -> None:
    vectors = queries(2)
    together = index.search_vectors(vectors, k=5)
    assert [index.search_vectors(query[None], k=5)[0] for query in vectors] == together


def test_equal_photos_are_ordered_by_path_whatever_the_order_of_addition() -> None:
    one, other = unit_vectors(2, seed=3)
    names = [f"{row:02}.jpg" for row in range(40)]
    shuffled = np.random.default_rng(0).permutation(names)
    index = FactIndex()
    index.add(["z.jpg"], other[None])
    index.add(shuffled.tolist(), np.repeat(one[None], 40, axis=0))
    for k in (1, 3, 39, 40):
        assert [hit.path.name for hit in index.search_vectors(one.reshape(1, -1), k)[0]] == names[:k]
    assert [hit.path.name for hit in index.search_vectors(one.reshape(1, -1), 99)[0]] == [*names, "z.jpg"]


@pytest.mark.parametrize("part", ["a few", "the best", "all but three"])
def test_deleted_rows_are_not_found(photos: np.ndarray, part: str) -> None:
    rows = photos[49_950:50_050].reshape(100, -1)  # 40 of them are the same
    vectors = queries(1)
    deleted = np.zeros(100, bool)
    deleted[{"a few": [3, 50, 60], "the best": slice(45, 95), "all but three": slice(3, None)}[part]] = True
    scores = rows.astype(np.float64) @ vectors.astype(np.float64).T
    scores[deleted] = -np.inf
    for query, (found_scores, at) in enumerate(exact_search.search(rows, vectors, 7, deleted)):
        best = np.sort(scores[:, query].astype(np.float32))[::-1][: min(7, int((~deleted).sum()))]
        assert np.sort(found_scores)[::-1][: len(best)].tolist() == pytest.approx(best.tolist(), abs=1e-6)
        assert not deleted[at].any()
        ties = set(np.flatnonzero(scores[:, query].astype(np.float32) == best[-1]))
        assert ties <= set(at.tolist())


def test_the_threshold_of_faiss_is_restored(index: FactIndex) -> None:
    before = faiss.cvar.distance_compute_blas_threshold
    index.search_vectors(queries(2))
    assert faiss.cvar.distance_compute_blas_threshold == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("place", ["in memory", "on disk"])
def test_a_forked_child_can_search(index: FactIndex, two_threads: None, tmp_path: Path, place: str) -> None:
    """faiss itself hangs: the child waits for the threads of its parent."""
    if place == "on disk":
        index.save(tmp_path)
        index = FactIndex.load(tmp_path)
    expected = [index.search_vectors(queries(count)) for count in (1, 2)]
    child = os.fork()
    if child == 0:
        same = [index.search_vectors(queries(count)) for count in (1, 2)] == expected
        os._exit(0 if same else 1)
    deadline = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the search of a forked child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0


@pytest.mark.parametrize("precision", [np.float32, np.float16])
@pytest.mark.parametrize("count", [1, exact_search.SCORED_AT_ONCE, 3 * exact_search.SCORED_AT_ONCE + 1])
def test_rows_scored_some_at_a_time_have_the_scores_of_all_at_once(precision: type, count: int) -> None:
    rng = np.random.default_rng(0)
    vectors, query = rng.standard_normal((50, 1385)).astype(precision), rng.standard_normal(1385, np.float32)
    rows = rng.integers(50, size=count)
    expected = (vectors[rows].astype(np.float64) * query).sum(axis=1).astype(np.float32)
    np.testing.assert_array_equal(exact_search.scores(vectors, query, rows), expected)


@pytest.mark.parametrize("asked", [slice(0, 4), slice(4, 8), slice(2, 11), slice(0, 12), slice(0, 0)])
def test_scores_are_sums_over_whole_rows_whatever_a_query_asks(asked: slice) -> None:
    rng = np.random.default_rng(0)
    vectors, query = rng.standard_normal((30, 12), np.float32), np.zeros(12, np.float32)
    query[asked] = rng.standard_normal(12, np.float32)[asked]
    rows = rng.permutation(30)[:9]
    expected = [sum(float(x) * float(y) for x, y in zip(vectors[row], query, strict=True)) for row in rows]
    found = exact_search.scores(vectors, query, rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
