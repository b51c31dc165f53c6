"""Probes against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from tripletcl.errors import UserError
from tripletcl.evaluation import score_probe

ROWS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans(), st.sampled_from(["subject", "object"])), min_size=1
)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS)
def test_accuracy_and_auc_against_loops(rows: list[tuple[int, int, bool, str]]) -> None:
    scores, facts, shown, groups = (list(column) for column in zip(*rows, strict=True))
    arguments = np.array(scores, dtype=float), np.array(facts), np.array(shown)
    both = {fact for fact in facts if {s for f, s in zip(facts, shown, strict=True) if f == fact} == {True, False}}
    if not both:
        with pytest.raises(UserError, match="no fact of the probe has both"):
            score_probe(*arguments, groups)
        return
    result = score_probe(*arguments, groups)
    for group in (None, "subject", "object"):
        falses = [row for row in rows if row[1] in both and not row[2] and group in (None, row[3])]
        key = "" if group is None else f"/{group}"
        if not falses:
            assert f"accuracy{key}" not in result
            continue
        wins = []
        for score, fact, *_ in falses:
            own = [other for other, of, is_shown, _ in rows if of == fact and is_shown]
            wins.append(np.mean([(other > score) + 0.5 * (other == score) for other in own]))
        assert result[f"accuracy{key}"] == pytest.approx(np.mean(wins))
        of_facts = {fact for _, fact, *_ in falses}
        trues = [score for score, fact, is_shown, _ in rows if is_shown and fact in of_facts]
        truth = [1] * len(trues) + [0] * len(falses)
        assert result[f"auc{key}"] == pytest.approx(roc_auc_score(truth, trues + [score for score, *_ in falses]))
    assert result["facts"] == len(both)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(UserError, match="a score is NaN"):
        score_probe(np.array([np.nan, 1.0]), np.zeros(2, int), np.array([True, False]), [None, None])
