"""The table of facts: which images show which facts."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from tripletcl.data import Fact, FactTable

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
