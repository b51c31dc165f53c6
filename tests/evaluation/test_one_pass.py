"""One pass over the scores gives what each question gives by itself; ranks against plain loops."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_evaluation import filtered_ranks_by_loops
from torch import Tensor

from tripletcl.embedding.readout import ClosedScores
from tripletcl.errors import UserError
from tripletcl.evaluation import average_precision, unit_blocks
from tripletcl.evaluation.one_pass import Scorer, TruePairs, one_pass, recall_of_ranks

PLACES = 4
"""Few different vectors, so that most scores are tied."""


@st.composite
def stages(draw: st.DrawFn) -> tuple[Scorer, Tensor]:
    """Images and queries of one unit each, out of few vectors, and `[N, Q]` which image shows which query."""
    images, queries = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    vectors = torch.eye(PLACES, dtype=torch.float64)
    places = st.integers(0, PLACES - 1)
    ids = [torch.tensor(draw(st.lists(places, min_size=n, max_size=n))) for n in (images, queries)]
    units = torch.tensor(draw(st.lists(st.integers(1, 3), min_size=queries, max_size=queries)))
    numbers = st.sampled_from([-0.5, 0.0, 0.25])
    closed = None
    if draw(st.booleans()):
        listed = draw(st.lists(numbers, min_size=images * queries, max_size=images * queries))
        closed = torch.tensor(listed).reshape(queries, images)
    relevant = torch.tensor(draw(st.lists(st.booleans(), min_size=images * queries, max_size=images * queries)))
    return Scorer(vectors[ids[0]], vectors[ids[1]], units, closed), relevant.reshape(images, queries)


def pairs_of(relevant: Tensor) -> TruePairs:
    return TruePairs(*relevant.T.nonzero(as_tuple=True), len(relevant))


def ranks_of(scores: Tensor, relevant: Tensor) -> list[int]:
    """Ranks of scores `[N, Q]` that are given as such, in the order of the images."""
    images, queries = (torch.zeros(n, 1, dtype=torch.float64) for n in scores.shape)
    scorer = Scorer(images, queries, torch.ones(len(queries), dtype=torch.int64), scores.T)
    return one_pass(scorer, pairs_of(relevant), [], []).ranks.tolist()


@settings(max_examples=150, deadline=None)
@given(stage=stages(), block=st.integers(1, 10), data=st.data())
def test_equals_each_question_by_itself(stage: tuple[Scorer, Tensor], block: int, data: st.DataObject) -> None:
    scorer, relevant = stage
    images, queries = relevant.shape
    cosines = scorer.images @ scorer.queries.T
    sums = cosines if scorer.closed is None else cosines + scorer.closed.T * scorer.units
    task = torch.tensor(sorted(data.draw(st.sets(st.integers(0, queries - 1), min_size=1))))
    gallery = torch.tensor(data.draw(st.lists(st.booleans(), min_size=images, max_size=images)))

    result = one_pass(scorer, pairs_of(relevant), [task, task], [gallery, None], block)
    assert result.ap.tolist() == pytest.approx(average_precision(sums, relevant).tolist(), nan_ok=True)
    assert result.open.tolist() == pytest.approx(average_precision(cosines, relevant).tolist(), nan_ok=True)
    own = average_precision(sums[gallery][:, task], relevant[gallery][:, task])
    assert result.own[0].tolist() == pytest.approx(own.tolist(), nan_ok=True)
    assert result.own[1].tolist() == pytest.approx(result.ap[task].tolist(), nan_ok=True)
    if scorer.closed is not None:
        computed = replace(scorer, closed=ClosedScores(torch.eye(images), scorer.closed.T, torch.arange(queries)))
        again = one_pass(computed, pairs_of(relevant), [task], [gallery], block)
        assert torch.equal(again.ranks, result.ranks)
        assert torch.equal(again.own[0].nan_to_num(-1), result.own[0].nan_to_num(-1))
    means = (sums / scorer.units).float()
    assert result.ranks.tolist() == filtered_ranks_by_loops(means.tolist(), relevant.tolist())


def test_recall_and_reciprocal_rank_of_known_ranks() -> None:
    scores = torch.arange(20.0).flip(0).expand(4, 20)  # fact 0 is first, fact 19 last
    relevant = torch.zeros(4, 20, dtype=torch.bool)
    relevant[range(4), [0, 1, 4, 12]] = True
    ranks = ranks_of(scores, relevant)
    assert ranks == [1, 2, 5, 13]
    recall, mrr = recall_of_ranks(torch.tensor(ranks))
    assert recall == {"1": 1 / 4, "5": 3 / 4, "10": 3 / 4}
    assert mrr == pytest.approx((1 + 1 / 2 + 1 / 5 + 1 / 13) / 4)


def test_another_true_fact_above_is_no_error() -> None:
    assert ranks_of(torch.tensor([[0.9, 0.8, 0.7, 0.1]]), torch.tensor([[True, True, False, True]])) == [1, 1, 2]


def test_collapsed_scores_come_last() -> None:
    assert ranks_of(torch.zeros(20, 20), torch.eye(20, dtype=torch.bool)) == [20] * 20


def test_the_mean_lets_an_excellent_short_fact_beat_a_middling_long_one() -> None:
    """The image is a dog beyond doubt; the sum of three middling cosines would still outweigh it."""
    image = torch.tensor([[[1.0, 0.0]] * 3])
    middling = torch.tensor([0.4, math.sqrt(1 - 0.4**2)])
    facts = torch.stack([torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), middling.expand(3, 2)])
    scorer = Scorer(unit_blocks(image), unit_blocks(facts), torch.tensor([1, 3]))
    assert one_pass(scorer, pairs_of(torch.tensor([[True, False]])), [], []).ranks.tolist() == [1]


def test_nan_is_refused_and_nothing_to_rank_has_no_recall() -> None:
    with pytest.raises(UserError, match="NaN"):
        ranks_of(torch.tensor([[math.nan, 1.0]]), torch.tensor([[True, False]]))
    assert recall_of_ranks(torch.zeros(0)) == ({"1": None, "5": None, "10": None}, None)
