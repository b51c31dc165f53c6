"""Old galleries by new queries: the matrix and its figures against loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference_evaluation import average_precision_by_loops, cosine

from tripletcl.evaluation.compatibility import (
    GROUPS,
    Compatibility,
    average_accuracy,
    average_compatibility,
    compatibilities,
    compatibility_matrix,
    cross_average_precision,
)

STAGES = [1, 2, 4]
TAUGHT = np.array([1, 1, 2, 3, 4, 4])
"""The task of each of six facts; task 3 has no stage of its own."""
RELEVANT = torch.rand(25, 6, generator=torch.Generator().manual_seed(1)) < 0.3
RELEVANT[:, 4] = False  # a fact without a test image


def vectors(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, 4, generator=torch.Generator().manual_seed(seed))


GALLERIES = [vectors(25, seed) for seed in range(3)]
QUERIES = [vectors(6, 10 + seed) for seed in range(3)]


def map_by_loops(gallery: torch.Tensor, queries: torch.Tensor, facts: list[int]) -> float | None:
    """Score by score."""
    precisions = []
    for fact in facts:
        scores = [
            math.fsum(cosine(a, b) for a, b in zip(photo, queries[fact].tolist(), strict=True))
            for photo in gallery.tolist()
        ]
        precisions.append(average_precision_by_loops(scores, RELEVANT[:, fact].tolist()))
    known = [ap for ap in precisions if not math.isnan(ap)]
    return sum(known) / len(known) if known else None


def facts_by_hand(group: str, s: int, t: int) -> list[int]:
    older, newer = min(s, t), max(s, t)
    ranges = {"all": range(1, newer + 1), "old": range(1, older + 1), "new": range(older + 1, newer + 1)}
    return [fact for fact, task in enumerate(TAUGHT) if task in ranges[group]]


@pytest.mark.parametrize("group", GROUPS)
def test_the_matrix_is_the_map_of_each_gallery_by_each_model_s_queries(group: str) -> None:
    ap = cross_average_precision(GALLERIES, QUERIES, RELEVANT)
    matrix = compatibility_matrix(ap, STAGES, TAUGHT, group)
    for row, s in enumerate(STAGES):
        for column, t in enumerate(STAGES):
            expected = map_by_loops(GALLERIES[row], QUERIES[column], facts_by_hand(group, s, t))
            assert matrix[row][column] == (None if expected is None else pytest.approx(expected, abs=1e-6))
    assert all(matrix[i][i] is None for i in range(3)) == (group == "new")


@pytest.mark.parametrize("group", GROUPS)
def test_a_pair_is_compared_on_the_same_facts_throughout(group: str) -> None:
    pairs = compatibilities(cross_average_precision(GALLERIES, QUERIES, RELEVANT), STAGES, TAUGHT, group)
    assert [(pair.gallery, pair.queries) for pair in pairs] == [(1, 2), (1, 4), (2, 4)]
    for pair in pairs:
        s, t = STAGES.index(pair.gallery), STAGES.index(pair.queries)
        facts = facts_by_hand(group, pair.gallery, pair.queries)
        for value, gallery, queries in ((pair.before, s, s), (pair.stale, s, t), (pair.reembedded, t, t)):
            assert value == pytest.approx(map_by_loops(GALLERIES[gallery], QUERIES[queries], facts), abs=1e-6)


def test_with_a_frozen_text_branch_a_stale_gallery_answers_as_before() -> None:
    frozen = [QUERIES[0]] * 3
    pairs = compatibilities(cross_average_precision(GALLERIES, frozen, RELEVANT), STAGES, TAUGHT, "all")
    assert all(pair.stale == pair.before for pair in pairs)
    assert not any(pair.compatible for pair in pairs), "the criterion is strict"
    assert average_compatibility(pairs) == 0


def test_with_the_same_model_twice_stale_is_reembedded() -> None:
    ap = cross_average_precision([GALLERIES[0]] * 2, [QUERIES[0]] * 2, RELEVANT)
    (pair,) = compatibilities(ap, [1, 2], TAUGHT, "all")
    assert pair.before == pair.stale == pair.reembedded
    assert pair.update_gain is None


def test_the_figures_by_hand() -> None:
    pairs = [
        Compatibility(1, 2, "all", before=0.4, stale=0.5, reembedded=0.6),
        Compatibility(1, 3, "all", before=0.4, stale=0.3, reembedded=0.8),
        Compatibility(2, 3, "all", before=0.6, stale=0.7, reembedded=0.5),
    ]
    assert [pair.compatible for pair in pairs] == [True, False, True]
    assert average_compatibility(pairs) == pytest.approx(2 / 3)
    assert pairs[0].update_gain == pytest.approx(0.5)
    assert pairs[1].update_gain == pytest.approx(-0.25)
    assert pairs[2].update_gain is None, "the new model is worse: there is nothing to gain"
    matrix = [[0.4, 0.5, 0.3], [0.9, 0.6, 0.7], [0.9, 0.9, 0.5]]
    assert average_accuracy(matrix) == pytest.approx((0.4 + 0.5 + 0.3 + 0.6 + 0.7 + 0.5) / 6)


def test_figures_of_nothing_are_none() -> None:
    assert average_compatibility([]) is None
    assert average_accuracy([[None, 0.5], [0.1, None]]) is None
