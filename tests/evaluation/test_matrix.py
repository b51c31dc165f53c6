"""Forgetting and transfer on matrices small enough to work out by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tripletcl.evaluation import backward_transfer, forgetting, forward_transfer

MATRIX = [
    # task 1, task 2, task 3
    [0.10, 0.10, 0.05],  # before training
    [0.80, 0.20, 0.15],
    [0.50, 0.90, 0.30],
    [0.60, 0.40, 0.70],
]


def test_by_hand() -> None:
    assert forgetting(MATRIX) == pytest.approx(((0.80 - 0.60) + (0.90 - 0.40)) / 2)
    assert backward_transfer(MATRIX) == pytest.approx(((0.60 - 0.80) + (0.40 - 0.90)) / 2)
    assert forward_transfer(MATRIX) == pytest.approx(((0.20 - 0.10) + (0.30 - 0.05)) / 2)


def test_forgetting_is_from_the_best_earlier_stage_not_from_the_task_s_own() -> None:
    matrix = [row[:] for row in MATRIX]
    matrix[2][0] = 0.95  # task 1 is best after task 2
    assert forgetting(matrix) == pytest.approx(((0.95 - 0.60) + (0.90 - 0.40)) / 2)
    assert backward_transfer(matrix) == backward_transfer(MATRIX)


@given(st.integers(2, 6), st.data())
def test_equals_the_definitions_written_with_one_based_loops(tasks: int, data: st.DataObject) -> None:
    fractions = st.floats(0, 1)
    rows = data.draw(
        st.lists(st.lists(fractions, min_size=tasks, max_size=tasks), min_size=tasks + 1, max_size=tasks + 1)
    )

    def score(t: int, i: int) -> float:
        return rows[t][i - 1]

    last = tasks
    drops = [max(score(t, i) for t in range(1, last)) - score(last, i) for i in range(1, last)]
    changes = [score(last, i) - score(i, i) for i in range(1, last)]
    gains = [score(i - 1, i) - score(0, i) for i in range(2, last + 1)]
    assert forgetting(rows) == pytest.approx(sum(drops) / len(drops))
    assert backward_transfer(rows) == pytest.approx(sum(changes) / len(changes))
    assert forward_transfer(rows) == pytest.approx(sum(gains) / len(gains))


@pytest.mark.parametrize(
    "matrix",
    [[[0.1], [0.9]], [[0.1, 0.1, 0.1], [0.9, 0.8, 0.7]], MATRIX[:3], []],
    ids=["one task", "joint", "stopped early", "empty"],
)
def test_undefined_is_none(matrix: list[list[float]]) -> None:
    assert forgetting(matrix) is None
    assert backward_transfer(matrix) is None
    assert forward_transfer(matrix) is None


def test_unknown_scores_are_left_out_of_the_means() -> None:
    """Task 3 was added later, and the photos of task 2 are missing at the last stage."""
    rows = [[0.1, 0.2, None], [0.8, 0.3, None], [0.7, 0.9, None], [0.6, None, 0.5]]
    assert forgetting(rows) == pytest.approx(0.8 - 0.6)
    assert backward_transfer(rows) == pytest.approx(0.6 - 0.8)
    assert forward_transfer(rows) == pytest.approx(0.3 - 0.2)
    assert forgetting([[None] * 2] * 3) is None
