"""Facts that were never taught, made of units that were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from tripletcl.data.facts import Fact
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN, PairLabels
from tripletcl.evaluation import average_precision_of, score_unseen, unseen_facts

FACTS = [
    Fact(*fact.split())
    for fact in [
        "dog",  # 0
        "dog running",
        "person running",
        "dog riding horse",
        "person riding horse",
        "person riding dog",  # 5: a dog as an object is never taught
        "person pulling horse",
        "dog pulling horse",
        "cat running",  # 8: a cat is never taught
        "person",
        "dog riding",
    ]
]
TAUGHT = [0, 1, 4, 6]


def vectors() -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    texts = {text: rng.standard_normal(8) for fact in FACTS for text in fact.units if text}
    facts = torch.from_numpy(
        np.array([[texts[text] if text else np.zeros(8) for text in f.units] for f in FACTS])
    ).float()
    return torch.nn.functional.normalize(facts, dim=-1), torch.tensor([[u is not None for u in f.units] for f in FACTS])


def test_each_unit_was_taught_in_its_place_and_the_fact_was_not() -> None:
    unseen = unseen_facts(FACTS, TAUGHT)
    assert unseen == [2, 3, 7, 10]
    for number in unseen:
        for place, text in enumerate(FACTS[number].units):
            assert text is None or any(FACTS[other].units[place] == text for other in TAUGHT)
    assert unseen_facts(FACTS, []) == unseen_facts(FACTS, range(len(FACTS))) == []


def test_their_figures_are_the_means_of_their_average_precisions() -> None:
    facts, present = vectors()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 8, generator=generator)
    relevant = torch.rand(40, len(FACTS), generator=generator) < 0.2
    relevant[:, 3] = False  # no test image: it has no AP
    scores = score_unseen(FACTS, TAUGHT, images, facts, present, relevant)
    ap = average_precision_of(images, facts, relevant)
    assert scores.map_unseen == pytest.approx(ap[[2, 7, 10]].mean().item())
    assert scores.map_taught == pytest.approx(ap[TAUGHT].mean().item())
    assert scores.chance == pytest.approx(relevant[:, [2, 7, 10]].float().mean().item())
    assert (scores.unseen, scores.taught) == (3, 4)
    assert dict(scores.ap) == pytest.approx({str(FACTS[number]): ap[number].item() for number in (2, 7, 10)})


def test_a_collapsed_embedding_scores_chance_and_a_perfect_one_scores_one() -> None:
    facts, present = vectors()
    fact_of_image = torch.arange(44) % len(FACTS)
    relevant = fact_of_image[:, None] == torch.arange(len(FACTS))
    collapsed = score_unseen(FACTS, TAUGHT, torch.ones(44, 3, 8), facts, present, relevant)
    assert collapsed.map_unseen == pytest.approx(collapsed.chance) == pytest.approx(4 / 44)
    whole = [number for number, fact in enumerate(FACTS) if fact.order == 3]
    of_whole = torch.isin(fact_of_image, torch.tensor(whole))
    perfect = score_unseen(FACTS, TAUGHT, facts[fact_of_image][of_whole], facts, present, relevant[of_whole])
    assert (perfect.map_unseen, perfect.unseen) == (1, 2)


def test_a_fact_that_is_one_query_with_a_taught_one_is_not_unseen() -> None:
    facts, present = vectors()
    facts[2] = facts[1]  # another spelling: the same vectors
    relevant = torch.eye(len(FACTS)).bool()
    scores = score_unseen(FACTS, TAUGHT, facts, facts, present, relevant)
    assert str(FACTS[2]) not in dict(scores.ap)
    assert scores.unseen == 3


def test_nothing_is_unseen_at_the_end_and_before_the_first_task() -> None:
    facts, present = vectors()
    for taught_ids in ([], list(range(len(FACTS)))):
        scores = score_unseen(FACTS, taught_ids, facts, facts, present, torch.eye(len(FACTS)).bool())
        assert (scores.map_unseen, scores.chance, scores.unseen, scores.ap) == (None, None, 0, [])
        assert (scores.map_taught is None) == (not taught_ids)


def test_a_large_table_gives_the_figures_of_a_small_one() -> None:
    facts, present = vectors()
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(40, 3, 8, generator=generator)
    relevant = torch.rand(40, len(FACTS), generator=generator) < 0.2
    dense = score_unseen(FACTS, TAUGHT, images, facts, present, relevant)
    assert score_unseen(FACTS, TAUGHT, images, facts, present, csr_array(relevant.numpy())) == dense


def test_pairs_that_are_not_known_are_left_out() -> None:
    """Each fact alone, among the photos that are known to show it or not to."""
    facts, present = vectors()
    facts[10] = facts[7]  # two names of one query
    present[10] = present[7]
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.standard_normal((40, 3, 8))).float()
    labelled = rng.choice([0, NOT_SHOWN, UNKNOWN, SHOWN], (40, len(FACTS)), p=[0.5, 0.1, 0.2, 0.2]).astype(np.int8)
    labels = PairLabels(np.argwhere(labelled), labelled[labelled > 0], labelled.shape)
    scores = score_unseen(FACTS, TAUGHT, images, facts, present, csr_array(labelled == SHOWN), labels)
    shares = []
    for number in (2, 3, 7):
        own = labelled[:, [7, 10]].max(axis=1) if number == 7 else labelled[:, number]
        known = (own == SHOWN) | (own == NOT_SHOWN)
        ap = average_precision_of(images[known], facts[[number]], torch.from_numpy(own[known] == SHOWN)[:, None])
        assert dict(scores.ap)[str(FACTS[number])] == pytest.approx(ap.item())
        shares.append((own == SHOWN).sum() / known.sum())
    assert scores.unseen == 3
    assert scores.chance == pytest.approx(np.mean(shares))
