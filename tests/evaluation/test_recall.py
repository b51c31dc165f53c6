"""Image-to-fact ranks against plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from reference_evaluation import filtered_ranks_by_loops

from tripletcl.errors import UserError
from tripletcl.evaluation import image_to_fact, mean_cosines, true_fact_ranks, unit_blocks


@st.composite
def rankings(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 8), st.integers(1, 15)))
    return draw(arrays(np.int64, shape, elements=st.integers(0, 4))), draw(arrays(np.bool_, shape))


@settings(max_examples=150, deadline=None)
@given(ranking=rankings(), block=st.integers(1, 20))
def test_ranks_equal_plain_loops_under_heavy_ties(ranking: tuple[np.ndarray, np.ndarray], block: int) -> None:
    scores, relevant = ranking
    ranks = true_fact_ranks(torch.from_numpy(scores), torch.from_numpy(relevant), block)
    assert ranks.tolist() == filtered_ranks_by_loops(scores.tolist(), relevant.tolist())


def test_recall_and_reciprocal_rank_of_known_ranks() -> None:
    scores = torch.arange(20.0).flip(0).expand(4, 20)  # fact 0 is first, fact 19 last
    relevant = torch.zeros(4, 20, dtype=torch.bool)
    relevant[range(4), [0, 1, 4, 12]] = True  # ranks 1, 2, 5, 13
    expected = {"recall@1": 1 / 4, "recall@5": 3 / 4, "recall@10": 3 / 4, "mrr": (1 + 1 / 2 + 1 / 5 + 1 / 13) / 4}
    assert image_to_fact(scores, relevant) == pytest.approx(expected)


def test_another_true_fact_above_is_no_error() -> None:
    scores = torch.tensor([[0.9, 0.8, 0.7, 0.1]])
    relevant = torch.tensor([[True, True, False, True]])
    assert true_fact_ranks(scores, relevant).tolist() == [1, 1, 2]


def test_collapsed_scores_come_last() -> None:
    relevant = torch.eye(20, dtype=torch.bool)
    assert true_fact_ranks(torch.zeros(20, 20), relevant).tolist() == [20] * 20
    assert image_to_fact(torch.zeros(20, 20), relevant)["recall@10"] == 0


def test_the_mean_lets_an_excellent_short_fact_beat_a_middling_long_one() -> None:
    """The image is a dog beyond doubt; the sum of three middling cosines would still outweigh it."""
    image = torch.tensor([[[1.0, 0.0]] * 3])
    middling = torch.tensor([0.4, math.sqrt(1 - 0.4**2)])
    facts = torch.stack([torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), middling.expand(3, 2)])
    present = torch.tensor([[True, False, False], [True, True, True]])
    scores = mean_cosines(unit_blocks(image), unit_blocks(facts), present)
    assert scores.tolist() == [pytest.approx([1.0, 0.4])]
    assert true_fact_ranks(scores, torch.tensor([[True, False]])).tolist() == [1]


def test_nan_and_nothing_to_rank_are_refused() -> None:
    with pytest.raises(UserError, match="NaN"):
        image_to_fact(torch.tensor([[math.nan, 1.0]]), torch.tensor([[True, False]]))
    with pytest.raises(UserError, match="no image shows a fact"):
        image_to_fact(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.bool))
