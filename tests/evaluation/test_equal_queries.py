"""Facts with equal vectors are one query."""

from __future__ import annotations

import pytest
import torch

from tripletcl.errors import UserError
from tripletcl.evaluation import average_precision, equal_queries, merge_relevance


def facts(*rows: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    vectors = torch.tensor(rows)
    return vectors, vectors.any(dim=-1)


def test_equal_up_to_rounding_and_length_but_not_by_units() -> None:
    dog, riding, none = [1.0, 0.0], [0.6, 0.8], [0.0, 0.0]
    vectors, present = facts(
        [dog, none, none],
        [riding, none, none],
        [[2.0, 1e-6], none, none],  # dog
        [dog, riding, none],
        [none, dog, none],  # a predicate is no subject
        [dog, [0.60000002, 0.8], none],  # dog riding
        [[1.0, 0.05], none, none],  # near, not equal
        [riding, none, dog],
        [[0.0, -1.0], riding, dog],
        [[0.0, -1.0], riding, none],  # a part of the fact before
    )
    for block in (1, 2, 100):
        assert equal_queries(vectors, present, block).tolist() == [0, 1, 0, 3, 4, 3, 6, 7, 8, 9]


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_those_of_comparing_all_pairs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    texts = torch.randn(20, 16, generator=generator)
    chosen = texts[torch.randint(len(texts), (200, 3), generator=generator)]  # [F, U, D]
    rounding = 1 + 1e-5 * torch.randn(chosen.shape, generator=generator) * (
        torch.rand(200, 1, 1, generator=generator) < 0.5
    )
    present = torch.rand(200, 3, generator=generator) < 0.6
    vectors = chosen * rounding * present[:, :, None]
    cosines = torch.nn.functional.cosine_similarity(vectors[:, None].double(), vectors[None].double(), dim=-1)
    equal = ((cosines > 1 - 1e-5) | ~present).all(dim=-1) & (present[:, None] == present).all(dim=-1)  # [F, F]
    expected = equal.int().argmax(dim=1)  # the first
    assert 1 < len(expected.unique()) < 200
    for block in (7, 1024):
        assert equal_queries(vectors, present, block).tolist() == expected.tolist()


def test_a_unit_that_no_fact_has() -> None:
    assert equal_queries(*facts([[1.0], [0.0]], [[0.5], [0.0]], [[-1.0], [0.0]])).tolist() == [0, 0, 2]


def test_a_table_of_one_query_is_refused_but_one_fact_is_fine() -> None:
    with pytest.raises(UserError, match="all 2 facts the same vectors"):
        equal_queries(*facts([[1.0]], [[1.0]]))
    assert equal_queries(*facts([[1.0]])).tolist() == [0]


def test_images_of_the_merged_facts_are_relevant_to_the_one_query() -> None:
    relevant = torch.tensor([[True, False, False], [False, False, True], [False, True, False]])
    queries, merged = merge_relevance(relevant, torch.tensor([0, 1, 0]))
    assert queries.tolist() == [0, 1]
    assert merged.toarray().tolist() == [[True, False], [True, False], [False, True]]


def test_merging_takes_away_the_errors_no_model_could_avoid() -> None:
    scores = torch.tensor([[0.9, 0.9], [0.9, 0.9], [0.1, 0.1]])  # two names of one query
    relevant = torch.tensor([[True, False], [False, True], [False, False]])
    assert average_precision(scores, relevant).tolist() == [0.5, 0.5]
    queries, merged = merge_relevance(relevant, torch.tensor([0, 0]))
    assert average_precision(scores[:, queries], torch.from_numpy(merged.toarray())).tolist() == [1.0]


def test_hundreds_of_facts_merge_without_overflow() -> None:
    _, merged = merge_relevance(torch.ones(1, 513, dtype=torch.bool), torch.tensor([0] * 512 + [512]))
    assert merged.toarray().tolist() == [[True, True]]
