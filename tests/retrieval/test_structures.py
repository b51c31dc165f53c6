"""Structures propose the rows that brute force finds, in every pattern, none of them deleted; and survive on disk."""

from __future__ import annotations

import itertools
import mmap
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import exact_search, graphs, quantised, structures
from tripletcl.retrieval.projection import learn_projection
from tripletcl.retrieval.structures import (
    KINDS,
    Structure,
    build_structure,
    candidate_count,
    choose_kind,
    load_structure,
)

COUNT, WIDTH, KEPT = 6_000, 32, 24
PATTERNS = [pattern for pattern in itertools.product([0, 1], repeat=3) if any(pattern)]
STRUCTURES = KINDS[1:]
KINDS_OF_UNITS = (5, 20, 60)
"""Few subjects, so that many photos show each about equally well, and many objects."""


@pytest.fixture(autouse=True, scope="module")
def narrow() -> Iterator[None]:
    """A projection that drops something although the vectors are short, and codes learned from few rows."""
    patch = pytest.MonkeyPatch()
    patch.setattr(structures, "UNIT_WIDTH", KEPT)
    patch.setattr(quantised, "FEWEST_SAMPLES", 2_560)
    yield
    patch.undo()


def normalise(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def sample_texts() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [normalise(rng.standard_normal((kinds, WIDTH))) for kinds in KINDS_OF_UNITS]


def sample_photos(count: int, seed: int) -> np.ndarray:
    """Photos of facts: each unit near the text of one thing, a little of another, differing more in some directions."""
    rng, texts = np.random.default_rng(seed), sample_texts()
    units = []
    for known in texts:
        first, second = rng.integers(len(known), size=(2, count))
        weight = rng.uniform(0.6, 1, size=(count, 1))
        noise = rng.standard_normal((count, WIDTH)) * 0.9 ** np.arange(WIDTH) * 0.15
        units.append(normalise(weight * known[first] + (1 - weight) * known[second] + noise))
    return np.concatenate(units, axis=1)


def sample_queries(pattern: tuple[int, ...], count: int = 20) -> np.ndarray:
    rng = np.random.default_rng(1)
    texts = [known[rng.integers(len(known), size=count)] for known in sample_texts()]
    return (np.stack(texts, axis=1) * np.array(pattern)[None, :, None]).reshape(count, -1).astype(np.float32)


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    return sample_photos(COUNT, seed=2)


@pytest.fixture(scope="module")
def built(photos: np.ndarray) -> dict[str, Structure]:
    return {kind: build_structure(kind, photos) for kind in STRUCTURES}


@pytest.fixture(params=STRUCTURES)
def structure(request: pytest.FixtureRequest, built: dict[str, Structure]) -> Structure:
    return built[request.param]


def recall(
    photos: np.ndarray, queries: np.ndarray, proposals: list[np.ndarray], k: int = 10, deleted: np.ndarray | None = None
) -> float:
    """The share of the k best by brute force; a row that scores as the k-th best counts."""
    scores = queries.astype(np.float64) @ photos.T.astype(np.float64)
    if deleted is not None:
        scores[:, deleted] = -np.inf
    least = np.sort(scores, axis=1)[:, -k]
    hits = [(each[rows] >= best - 1e-6).sum() for each, rows, best in zip(scores, proposals, least, strict=True)]
    return float(np.minimum(hits, k).mean() / k)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_pattern_finds_what_brute_force_finds(
    structure: Structure, photos: np.ndarray, pattern: tuple[int, ...]
) -> None:
    queries = sample_queries(pattern)
    proposals = structure.candidates(queries, k=10)
    for rows in proposals:
        assert len(rows) == len(set(rows.tolist())) < COUNT / 20
        assert rows.dtype == np.int64
    assert recall(photos, queries, proposals) > 0.95


def test_queries_may_have_weights_and_exclusions_or_be_photos(structure: Structure, photos: np.ndarray) -> None:
    whole, other = sample_queries((1, 1, 1)), sample_queries((0, 1, 1))[::-1]
    for queries in (2 * whole + other, whole - 0.5 * other, photos[:20]):
        queries = np.ascontiguousarray(queries)
        assert recall(photos, queries, structure.candidates(queries, k=10)) > 0.9


def test_a_batch_of_queries_is_answered_as_each_query(structure: Structure) -> None:
    queries = np.concatenate([sample_queries(pattern, count=2) for pattern in PATTERNS])
    together = structure.candidates(queries, k=10)
    for query, rows in zip(queries, together, strict=True):
        assert set(structure.candidates(query[None], k=10)[0].tolist()) == set(rows.tolist())
    assert structure.candidates(queries[:0], k=10) == []


@pytest.mark.parametrize("deleted", [0.0, 0.2])
def test_pages_of_one_query_and_its_presence_search_once_for_the_rows_that_each_would_find(
    structure: Structure, monkeypatch: pytest.MonkeyPatch, deleted: float
) -> None:
    """The slow twin asks the part for exactly as many rows as are proposed."""
    module, searches = structures.MODULES[structure.kind], 0
    find = module.find

    def counting(*args: Any) -> np.ndarray:
        nonlocal searches
        searches += 1
        return find(*args)

    excluded = np.random.default_rng(3).random(COUNT) < deleted
    for pattern in PATTERNS:
        query = sample_queries(pattern, count=1)
        part = int(np.argmax(pattern)) if sum(pattern) == 1 else 3
        part_query = module.part_queries(structure.projection.queries(query), part, 3)
        kept = ~excluded if deleted else None
        expected = [find(structure.parts[part], part_query, candidate_count(k), kept)[0] for k in (25, 50, 1)]
        monkeypatch.setattr(module, "find", counting)
        found = [structure.candidates(query, k, excluded)[0] for k in (25, 50, 1)]
        monkeypatch.setattr(module, "find", find)
        for rows, twin in zip(found, expected, strict=True):
            np.testing.assert_array_equal(rows, twin[twin >= 0])
    assert searches == len(PATTERNS)


def test_rows_are_remembered_of_some_queries_each_with_its_excluded_rows(
    structure: Structure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structures, "REMEMBERED", 3)
    queries = sample_queries((1, 0, 0), count=5)
    first = [structure.candidates(query[None], k=10)[0] for query in queries]
    excluded = np.zeros(COUNT, bool)
    excluded[first[-1][:5]] = True
    without = structure.candidates(queries[-1:], k=10, excluded=excluded)[0]
    assert not excluded[without].any()
    without[:] = -1  # a caller may change what it gets
    for query, rows in zip(queries, first, strict=True):
        np.testing.assert_array_equal(structure.candidates(query[None], k=10)[0], rows)
    assert len(structure._recent) == 3


@pytest.mark.parametrize("pattern", PATTERNS)
def test_deleted_rows_are_never_proposed(structure: Structure, photos: np.ndarray, pattern: tuple[int, ...]) -> None:
    deleted = np.random.default_rng(3).random(COUNT) < 0.1
    queries = sample_queries(pattern)
    proposals = structure.candidates(queries, 10, deleted)
    assert not any(deleted[rows].any() for rows in proposals)
    assert recall(photos, queries, proposals, deleted=deleted) > 0.9


@pytest.mark.parametrize("share", [0.6, 0.3, 0.12, 0.08, 0.04])
@pytest.mark.parametrize("by", ["chance", "what they show"])
def test_a_filter_leaves_the_best_of_the_others(
    structure: Structure, photos: np.ndarray, share: float, by: str
) -> None:
    """Photos of a day or of a folder look alike: the second filter keeps those that show one thing best."""
    order = np.random.default_rng(4).random(COUNT) if by == "chance" else photos[:, :WIDTH] @ sample_texts()[0][2]
    excluded = np.ones(COUNT, bool)
    excluded[np.argsort(-order)[: int(share * COUNT)]] = False
    for pattern in ((1, 0, 0), (0, 1, 1), (1, 1, 1)):
        queries = sample_queries(pattern)
        results = exact_search.search_by(structure, photos, queries, 10, excluded)
        assert not any(excluded[rows].any() for _, rows in results)
        assert recall(photos, queries, [rows for _, rows in results], deleted=excluded) >= 0.95


@pytest.mark.parametrize("pattern", [(1, 0, 0), (1, 1, 1)])
def test_a_search_finds_photos_where_all_near_ones_are_deleted(
    structure: Structure, photos: np.ndarray, pattern: tuple[int, ...]
) -> None:
    query = sample_queries(pattern, count=1)
    deleted = np.zeros(COUNT, dtype=bool)
    deleted[np.argsort(-(photos @ query[0]))[: COUNT // 10]] = True
    [(_, rows)] = exact_search.search_by(structure, photos, query, 10, deleted)
    assert not deleted[rows].any()
    assert recall(photos, query, [rows], deleted=deleted) > 0.85


@pytest.mark.parametrize("kind", STRUCTURES)
def test_the_same_seed_gives_the_same_structure_however_many_threads(
    kind: str, photos: np.ndarray, tmp_path: Path
) -> None:
    if kind == "hnsw" and tuple(map(int, faiss.__version__.split(".")[:3])) < (1, 15, 1):
        pytest.skip("before 1.15.1 the graphs of faiss depend on the order of its threads")
    before, files = faiss.omp_get_max_threads(), []
    try:
        for number, (threads, seed) in enumerate([(1, 0), (2, 0), (1, 1)]):
            faiss.omp_set_num_threads(threads)
            files.append(tmp_path / str(number))
            build_structure(kind, photos[:1000], seed=seed).save(files[-1])
    finally:
        faiss.omp_set_num_threads(before)
    first, again, other = (file.read_bytes() for file in files)
    assert first == again
    assert first != other


def test_a_loaded_structure_answers_like_the_saved_one(structure: Structure, tmp_path: Path) -> None:
    path = tmp_path / "structure"
    structure.save(path)
    loaded = load_structure(path)
    assert (loaded.kind, loaded.count) == (structure.kind, COUNT)
    deleted = np.arange(COUNT) % 10 == 0
    for pattern in PATTERNS:
        queries = sample_queries(pattern)
        for one, other in zip(
            structure.candidates(queries, 10, deleted), loaded.candidates(queries, 10, deleted), strict=True
        ):
            np.testing.assert_array_equal(one, other)


def test_a_damaged_file_is_refused(structure: Structure, tmp_path: Path) -> None:
    path = tmp_path / "structure"
    structure.save(path)
    whole = path.read_bytes()
    for place in (0, 30, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(UserError, match="structure is damaged"):
            load_structure(path)
    for content in (b"", b"{}", whole[:90], whole[:-1], whole + b"0"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="structure is damaged"):
            load_structure(path)
    path.unlink()
    with pytest.raises(UserError, match="No such file"):
        load_structure(path)


@pytest.mark.parametrize("kind", STRUCTURES)
@pytest.mark.parametrize("count", [1, 3, 200])
def test_a_few_photos_are_enough(kind: str, count: int, tmp_path: Path) -> None:
    few = sample_photos(count, seed=4)
    build_structure(kind, few).save(tmp_path / "few")
    structure = load_structure(tmp_path / "few")
    queries = sample_queries((1, 0, 1), count=3)
    assert recall(few, queries, structure.candidates(queries, k=1), k=1) == 1
    deleted = np.arange(count) % 2 == 1
    for rows in structure.candidates(queries, 1000, deleted):  # k is larger than the number of rows
        np.testing.assert_array_equal(rows, np.flatnonzero(~deleted))


def test_rows_on_disk_do_as_well(photos: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", photos[:1000])
    reports: list[Progress] = []
    with listening(reports.append):
        on_disk = build_structure("hnsw", np.load(tmp_path / "rows.npy", mmap_mode="r"))
    in_memory = build_structure("hnsw", photos[:1000])
    queries = sample_queries((1, 1, 0))
    for one, other in zip(on_disk.candidates(queries, 10), in_memory.candidates(queries, 10), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [progress.done for progress in reports] == sorted(progress.done for progress in reports)
    assert reports[-1] == Progress("building", 4000, 4000), "three units and whole rows"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_can_search(structure: Structure) -> None:
    """faiss itself hangs: the child waits for the threads of its parent."""
    queries, before = sample_queries((1, 1, 1)), faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        expected = [rows.tolist() for rows in structure.candidates(queries, 10)]
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # ends a child that hangs
            os._exit(0 if [rows.tolist() for rows in structure.candidates(queries, 10)] == expected else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        faiss.omp_set_num_threads(before)


def test_the_memory_is_predicted(built: dict[str, Structure], tmp_path: Path) -> None:
    """The file is as large as what is read from it."""
    for kind, module in (("hnsw", graphs), ("ivfpq", quantised)):
        built[kind].save(tmp_path / kind)
        size = (tmp_path / kind).stat().st_size
        assert COUNT * module.bytes_per_row(3, KEPT) == pytest.approx(size, rel=0.2)  # few photos, many centroids


def test_codes_take_a_tenth_of_the_vectors() -> None:
    assert quantised.bytes_per_row(3, 96) < 0.1 * 4 * 3 * 384


def test_the_kind_follows_from_the_number_of_photos_and_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    gigabyte = 10**9
    monkeypatch.setattr(structures, "UNIT_WIDTH", 96)
    assert choose_kind(8_813, 1152, 16 * gigabyte) == (
        "flat",
        "flat: 8,813 photos are searched exactly, in about 2 ms; hnsw above 100,000",
    )
    assert choose_kind(100_000, 1152)[0] == "flat"
    assert choose_kind(100_001, 1152, 16 * gigabyte)[0] == "hnsw"
    assert choose_kind(1_000_000, 1152, 16 * gigabyte)[0] == "hnsw"
    kind, why = choose_kind(1_000_000, 1152, 2 * gigabyte)
    assert kind == "ivfpq"
    assert why.startswith("ivfpq: graphs over 1,000,000 photos take 1.")
    assert choose_kind(300_000, 384)[0] == "flat"  # shorter rows are compared faster
    assert choose_kind(0, 0)[0] == "flat"


def test_an_unknown_kind_is_named(photos: np.ndarray) -> None:
    with pytest.raises(UserError, match="no structure 'tree'; there are hnsw, ivfpq"):
        build_structure("tree", photos)


def test_a_projection_keeps_inner_products_except_for_its_residual(photos: np.ndarray) -> None:
    """Against the definition: the residual of every row, computed in full."""
    projection = learn_projection(photos, 3, KEPT, np.random.default_rng(0))
    query = sample_queries((1, 0, 1), count=1)
    rows, projected = projection.rows(photos), projection.queries(query)
    assert not projected.reshape(3, KEPT)[1].any()
    centred = photos.reshape(-1, 3, WIDTH) - projection.means  # [N, 3, D]
    inside = np.einsum("nud,ude,ufe->nuf", centred, projection.bases, projection.bases)
    left_out = ((centred - inside) * query.reshape(3, WIDTH)).sum(axis=(1, 2))
    constant = float((projection.means * query.reshape(3, WIDTH)).sum())
    np.testing.assert_allclose(rows @ projected[0] + constant + left_out, photos @ query[0], atol=1e-5)
    assert left_out.std() < 0.2 * (photos @ query[0]).std()


@pytest.mark.parametrize("part", [slice(None), slice(700, None), slice(3, 900, 2)])
def test_the_pages_prefetched_hold_the_rows(photos: np.ndarray, tmp_path: Path, part: slice) -> None:
    photos[:1000].tofile(tmp_path / "rows")
    whole = np.memmap(tmp_path / "rows", np.float32, "r", shape=(1000, 3 * WIDTH)).view(np.ndarray)
    vectors, memory_map = whole[part], exact_search._memory_map_of(whole)
    assert memory_map is not None
    rows = np.array([0, 5, len(vectors) - 1])
    for row, (start, length) in zip(rows, exact_search._page_ranges(vectors, memory_map, rows), strict=True):
        assert start % mmap.PAGESIZE == 0
        assert vectors[row].tobytes() in memory_map[start : start + length]
    query = sample_queries((1, 1, 1), count=1)[0]
    scores = exact_search.scores(vectors, query, rows)
    np.testing.assert_array_equal(scores, exact_search.scores(np.array(vectors), query, rows))
    assert exact_search._memory_map_of(np.array(vectors)) is None
