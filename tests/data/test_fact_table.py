"""The table of facts: which images show which facts."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tripletcl.data import Fact, FactTable
from tripletcl.data.images import Region

IMAGES, FACTS = 6, 5


def plain_relevance(table: FactTable, split: str, images: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """The slow twin: row by row."""
    rows = {(image, fact) for (image, fact), of in zip(table.rows.tolist(), table.splits, strict=True) if of == split}
    pairs = [[(image, fact) in rows for fact in facts.tolist()] for image in images.tolist()]
    return np.array(pairs, dtype=bool).reshape(len(images), len(facts))


def ids(count: int) -> st.SearchStrategy[list[int]]:
    """Some ids in any order, some of them twice."""
    return st.lists(st.integers(0, count - 1), max_size=2 * count)


@given(
    st.lists(st.tuples(st.integers(0, IMAGES - 1), st.integers(0, FACTS - 1), st.sampled_from(["train", "test"]))),
    ids(IMAGES),
    ids(FACTS),
)
def test_relevance_is_that_of_the_rows(rows: list[tuple[int, int, str]], images: list[int], facts: list[int]) -> None:
    everything = [(f"{image}.jpg", Fact(f"fact {image % FACTS}"), "train") for image in range(IMAGES)]
    table = FactTable.from_rows(
        Path(), [*everything, *((f"{image}.jpg", Fact(f"fact {fact}"), split) for image, fact, split in rows)]
    )
    some = np.array(images, dtype=np.int64), np.array(facts, dtype=np.int64)
    for split in ("train", "test"):
        relevant = table.relevance(split, *some)
        assert isinstance(relevant, csr_array)
        assert relevant.dtype == bool
        assert np.array_equal(relevant.toarray(), plain_relevance(table, split, *some))


def test_relevance_needs_memory_only_for_the_selected_part() -> None:
    count = 5_000
    table = FactTable.from_rows(Path(), [(f"{i}.jpg", Fact(f"fact {i}"), "train") for i in range(count)])
    tracemalloc.start()
    relevant = table.relevance("train", np.array([7, 8]), np.array([8]))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert relevant.toarray().tolist() == [[False], [True]]
    assert peak < count * count / 10  # all images by all facts would be 25 MB


def test_a_photo_has_many_regions_and_none_is_tested_where_another_table_trains_on_it(tmp_path: Path) -> None:
    dog, cat = Fact("dog"), Fact("cat")
    left, right = Region(Path("a.jpg"), (0, 0, 5, 9)), Region(Path("a.jpg"), (5, 0, 9, 9))
    first = FactTable.from_rows(
        tmp_path, [(left, dog, "test"), (right, cat, "test"), ("a.jpg", dog, "test"), (left, dog, "test")]
    )
    assert first.images == ("a.jpg",) * 3
    assert first.photos == (
        Region(tmp_path / "a.jpg", left.box),
        Region(tmp_path / "a.jpg", right.box),
        tmp_path / "a.jpg",
    )
    same_part = FactTable.from_rows(tmp_path, [(left, cat, "test")])
    joined = first.join([same_part])
    assert joined.photos[3] == joined.photos[0]
    shown = {(image, str(joined.facts[fact])) for image, fact in joined.rows_of("test").tolist()}
    assert shown == {(0, "<dog>"), (0, "<cat>"), (3, "<cat>"), (3, "<dog>"), (1, "<cat>"), (2, "<dog>")}
    trained = FactTable.from_rows(tmp_path, [(Region(Path("a.jpg"), (1, 1, 2, 2)), cat, "train")])
    assert first.join([trained]).left_out == (0, 1, 2)
