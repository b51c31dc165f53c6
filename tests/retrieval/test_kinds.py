"""An index builds a structure in time, and searches the rows that it does not cover exactly."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tripletcl.retrieval import FactIndex, writing
from tripletcl.retrieval import rows as rows_module

WIDTH = 4


@dataclass
class EvenRows:
    """A structure that proposes only even rows, so that a test can tell its results from exact ones."""

    kind: str
    vectors: np.ndarray
    few: bool = False

    @property
    def count(self) -> int:
        return len(self.vectors)

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, self.vectors)

    def candidates(self, queries: np.ndarray, k: int, deleted: np.ndarray | None) -> list[np.ndarray]:
        assert deleted is None or len(deleted) == self.count
        proposals = []
        for query in queries:
            best = np.argsort(-(self.vectors @ query), kind="stable")
            living = best if deleted is None else best[~deleted[best]]
            proposals.append(living[living % 2 == 0][: 0 if self.few else 2 * k])
        return proposals


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[EvenRows]:
    """Every structure that was built."""
    structures: list[EvenRows] = []

    def build(kind: str, vectors: np.ndarray, **_: object) -> EvenRows:
        structures.append(EvenRows(kind, np.array(vectors)))
        return structures[-1]

    def choose(count: int, width: int) -> tuple[str, str]:
        kind = "hnsw" if count >= 20 else "flat"
        return kind, f"{kind}: {count} of width {width}"

    monkeypatch.setattr(rows_module, "build_structure", build)
    monkeypatch.setattr(rows_module, "choose_kind", choose)
    monkeypatch.setattr(rows_module, "load_structure", lambda path: EvenRows("hnsw", np.load(path)))
    return structures


@pytest.fixture
def add() -> Callable[[FactIndex, int], np.ndarray]:
    """Add photos with random vectors, and return their rows."""
    generator = np.random.default_rng(0)

    def add_photos(index: FactIndex, count: int) -> np.ndarray:
        first = len(index.paths)
        index.add([f"{first + i:03}" for i in range(count)], generator.standard_normal((count, 3, WIDTH)))
        return index.rows(slice(first, None))

    return add_photos


def found_rows(index: FactIndex, vector: np.ndarray, k: int = 1) -> list[int]:
    ((_, rows),) = index.search_rows(vector[None], k)
    return rows.tolist()


def test_the_kind_and_its_reason_follow_the_size(built: list[EvenRows], add: Callable) -> None:
    index = FactIndex()
    index.settle()
    assert (index.kind, index.why) == ("flat", "flat: there is no photo yet")
    add(index, 19)
    index.settle()
    assert (index.kind, index.why, built) == ("flat", "flat: 19 of width 12", [])
    add(index, 1)
    index.settle()
    assert (index.kind, index.why, len(built)) == ("hnsw", "hnsw: 20 of width 12", 1)
    index.remove(["000"])
    index.settle()
    assert (index.kind, index.why, len(built)) == ("flat", "flat: 19 of width 12", 1)
    assert found_rows(index, index.rows(7)) == [7]


def test_a_requested_kind_is_kept_whatever_the_size(built: list[EvenRows], add: Callable) -> None:
    index = FactIndex(kind="ivfpq")
    add(index, 3)
    index.settle()
    assert (index.kind, [structure.kind for structure in built]) == ("ivfpq", ["ivfpq"])
    assert index.why == "ivfpq: as it was asked for"
    flat = FactIndex(kind="flat")
    add(flat, 30)
    flat.settle()
    assert (flat.kind, len(built)) == ("flat", 1)


def test_rows_after_the_structure_are_searched_exactly_and_merged(built: list[EvenRows], add: Callable) -> None:
    index = FactIndex()
    covered = add(index, 40)
    index.settle()
    assert found_rows(index, covered[8]) == [8]
    assert found_rows(index, covered[7]) != [7]  # odd rows are unknown to it
    tail = add(index, 4)
    assert found_rows(index, tail[1]) == [41]
    for query in (*covered[:4], *tail):
        exact = (index.rows().astype(np.float64) @ query).astype(np.float32)
        candidates = [row for row in range(44) if row >= 40 or row % 2 == 0]
        expected = sorted(candidates, key=lambda row: (-exact[row], row))[:10]
        assert found_rows(index, query, k=10) == expected
        ((scores, rows),) = index.search_rows(query[None], 10)
        assert scores.tolist() == pytest.approx(exact[rows].tolist())


def test_all_rows_are_searched_if_the_structure_proposes_too_few(built: list[EvenRows], add: Callable) -> None:
    index = FactIndex()
    covered = add(index, 40)
    index.settle()
    assert sorted(found_rows(index, covered[7], k=40)) == list(range(40))
    built[0].few = True
    assert found_rows(index, covered[7]) == [7]


def test_it_is_built_again_when_the_tail_passes_a_tenth(built: list[EvenRows], add: Callable) -> None:
    index = FactIndex()
    add(index, 40)
    for more, count in ((0, 40), (4, 40), (1, 45)):
        add(index, more)
        index.settle()
        assert built[-1].count == count
    assert len(built) == 2
    assert index.why == "hnsw: 45 of width 12"


def test_removed_rows_are_not_found_and_a_tenth_of_them_builds_it_again(built: list[EvenRows], add: Callable) -> None:
    index = FactIndex()
    rows = add(index, 40)
    index.settle()
    index.remove([f"{row:03}" for row in (8, 10, 12, 14)])
    index.settle()
    assert len(built) == 1
    assert found_rows(index, rows[8]) != [8]
    assert not {8, 10, 12, 14} & set(found_rows(index, rows[8], k=36))
    index.remove(["016"])
    index.settle()
    assert (len(built), built[-1].count, len(index.paths)) == (2, 35, 35)


def test_on_disk_it_is_built_at_the_end_and_loaded_again(
    built: list[EvenRows], add: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with writing(tmp_path) as index:
        rows = add(index, 40)
        assert not built
    for _ in range(2):
        with writing(tmp_path) as index:
            assert found_rows(index, rows[8]) == [8]
            assert found_rows(index, rows[7]) != [7]
    with writing(tmp_path) as index:
        tail = add(index, 1)
    assert len(built) == 1
    loaded = FactIndex.load(tmp_path)
    assert (loaded.kind, found_rows(loaded, rows[7]) != [7], found_rows(loaded, tail[0])) == ("hnsw", True, [40])
    loaded.save(tmp_path / "copy")
    copy = FactIndex.load(tmp_path / "copy")
    assert (copy.kind, found_rows(copy, rows[7]) != [7], len(built)) == ("hnsw", True, 1)

    (structure,) = tmp_path.glob("structure-*")
    structure.write_bytes(structure.read_bytes()[:-1] + b"!")
    with caplog.at_level(logging.WARNING):
        damaged = FactIndex.load(tmp_path)
    assert "is damaged" in caplog.text
    assert found_rows(damaged, rows[7]) == [7]  # row by row
    with writing(tmp_path):
        pass
    assert len(built) == 2
    assert found_rows(FactIndex.load(tmp_path), rows[7]) != [7]


def test_new_vectors_leave_no_old_structure(built: list[EvenRows], add: Callable, tmp_path: Path) -> None:
    with writing(tmp_path) as index:
        add(index, 20)
    with writing(tmp_path) as index:
        index.replace_vectors(lambda block: -block, model="other")
        rows = index.rows()
        assert found_rows(index, rows[7]) == [7]
    assert len(built) == 2
    assert np.array_equal(built[1].vectors, rows)
    assert len(list(tmp_path.glob("structure-*"))) == 1


def test_another_kind_can_be_requested_later(built: list[EvenRows], add: Callable, tmp_path: Path) -> None:
    for kind, expected in ((None, "hnsw"), ("flat", "flat"), (None, "flat"), ("auto", "hnsw"), ("ivfpq", "ivfpq")):
        with writing(tmp_path, kind=kind) as index:
            if not len(index):
                add(index, 20)
        assert FactIndex.load(tmp_path).kind == expected
    assert [structure.kind for structure in built] == ["hnsw", "hnsw", "ivfpq"]


@pytest.mark.parametrize("kind", ["hnsw", "ivfpq"])
def test_real_structures_find_nearly_what_exact_search_finds(kind: str, tmp_path: Path) -> None:
    """Loaded from disk, with rows that the structure does not cover, and rows removed."""
    generator = np.random.default_rng(0)
    middles = generator.standard_normal((40, 3, 16))
    photos = middles[generator.integers(0, 40, 700)] + 0.5 * generator.standard_normal((700, 3, 16))
    names = [f"{number:04}" for number in range(700)]
    with writing(tmp_path, kind=kind) as index:
        index.add(names[:650], photos[:650])
    with writing(tmp_path) as index:
        index.add(names[650:], photos[650:])
        index.remove(names[:30])
    loaded, exact = FactIndex.load(tmp_path), FactIndex(kind="flat")
    exact.add(names[30:], photos[30:])
    assert (loaded.kind, len(loaded), len(loaded.paths)) == (kind, 670, 700)
    queries = exact.rows(generator.integers(0, 670, 30)).copy()
    queries[:10, 16:] = 0
    both = zip(loaded.search_vectors(queries, 5), exact.search_vectors(queries, 5), strict=True)
    shared = [len(set(approximate) & set(best)) for approximate, best in both]
    assert np.mean(shared) > 4.5
