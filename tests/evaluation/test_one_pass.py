"""One computation of every score gives what each question gives that is asked alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tripletcl.evaluation import average_precision, true_fact_ranks
from tripletcl.evaluation.one_pass import Scorer, Shown, one_pass

ROOMS = 4
"""Few different vectors, so that most scores are tied."""


@st.composite
def stages(draw: st.DrawFn) -> tuple[Scorer, torch.Tensor]:
    """Images and queries of one unit each, out of few, and which image shows which query."""
    images, queries = draw(st.integers(1, 12)), draw(st.integers(1, 9))
    seen = torch.eye(ROOMS, dtype=torch.float64)
    places = st.integers(0, ROOMS - 1)
    chosen = [torch.tensor(draw(st.lists(places, min_size=n, max_size=n))) for n in (images, queries)]
    units = torch.tensor(draw(st.lists(st.integers(1, 3), min_size=queries, max_size=queries)))
    numbers = st.sampled_from([-0.5, 0.0, 0.25])
    closed = None
    if draw(st.booleans()):
        listed = draw(st.lists(numbers, min_size=images * queries, max_size=images * queries))
        closed = torch.tensor(listed).reshape(queries, images)
    relevant = torch.tensor(draw(st.lists(st.booleans(), min_size=images * queries, max_size=images * queries)))
    return Scorer(seen[chosen[0]], seen[chosen[1]], units, closed), relevant.reshape(images, queries)


@settings(max_examples=150, deadline=None)
@given(stage=stages(), block=st.integers(1, 10), data=st.data())
def test_equals_each_question_by_itself(stage: tuple[Scorer, torch.Tensor], block: int, data: st.DataObject) -> None:
    scorer, relevant = stage
    images, queries = relevant.shape
    cosines = scorer.images @ scorer.queries.T
    sums = cosines if scorer.closed is None else cosines + scorer.closed.T * scorer.units
    task = torch.tensor(sorted(data.draw(st.sets(st.integers(0, queries - 1), min_size=1))))
    gallery = torch.tensor(data.draw(st.lists(st.booleans(), min_size=images, max_size=images)))

    shown = Shown(*relevant.T.nonzero(as_tuple=True), images)
    found = one_pass(scorer, shown, [task, task], [gallery, None], block)
    assert found.ap.tolist() == pytest.approx(average_precision(sums, relevant).tolist(), nan_ok=True)
    assert found.open.tolist() == pytest.approx(average_precision(cosines, relevant).tolist(), nan_ok=True)
    own = average_precision(sums[gallery][:, task], relevant[gallery][:, task])
    assert found.own[0].tolist() == pytest.approx(own.tolist(), nan_ok=True)
    assert found.own[1].tolist() == pytest.approx(found.ap[task].tolist(), nan_ok=True)
    means = (sums / scorer.units).float()
    assert sorted(found.ranks.tolist()) == sorted(true_fact_ranks(means, relevant).tolist())


def test_more_queries_at_a_time_than_a_byte_counts() -> None:
    """All 300 queries stand level in every image: each true one is last."""
    scorer = Scorer(torch.ones(5, 1).double(), torch.ones(300, 1).double(), torch.ones(300, dtype=torch.int64))
    shown = Shown(torch.arange(5), torch.arange(5), 5)
    for block in (100, 255, 256, 300):
        assert one_pass(scorer, shown, [], [], block).ranks.tolist() == [300] * 5
