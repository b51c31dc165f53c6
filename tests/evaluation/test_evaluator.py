"""The evaluator against scores put together from plain loops."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_evaluation import average_precision_by_loops, cosine, filtered_ranks_by_loops
from sklearn.metrics import average_precision_score

from tripletcl.data.fact_table import FactTable
from tripletcl.data.facts import Fact
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN
from tripletcl.errors import UserError
from tripletcl.evaluation import FactEvaluator, equal_queries

FACTS = [
    Fact("dog"),
    Fact("dog", "running"),
    Fact("person", "riding", "horse"),
    Fact("person", "riding", "bicycle"),
    Fact("cat", "sitting"),
    Fact("bird"),  # has a train row only
]
TASKS = [np.array([0, 3]), np.array([4, 1, 2, 5])]


def table(images: int = 40) -> FactTable:
    rng = np.random.default_rng(0)
    rows = [(f"{i}.jpg", FACTS[f], "test") for i in range(images) for f in rng.choice(5, rng.integers(1, 4), False)]
    return FactTable.from_rows(Path("photos"), [("x.jpg", fact, "train") for fact in FACTS] + rows)


def vectors(width: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    present = torch.tensor([[unit is not None for unit in fact.units] for fact in FACTS])
    return torch.randn(len(FACTS), 3, width, generator=torch.Generator().manual_seed(1)) * present[..., None], present


def gallery(facts: FactTable) -> tuple[torch.Tensor, np.ndarray]:
    ids = np.unique(facts.rows_of("test")[:, 0])
    return torch.randn(len(ids), 3, 4, generator=torch.Generator().manual_seed(2)), ids


def scores_by_loops(images: torch.Tensor, facts: torch.Tensor, present: torch.Tensor) -> list[list[float]]:
    """Mean cosine over the units each fact has."""
    return [
        [
            sum(cosine(image[u].tolist(), fact[u].tolist()) for u in range(3) if has[u]) / int(has.sum())
            for fact, has in zip(facts, present, strict=True)
        ]
        for image in images
    ]


def test_every_number_against_loops() -> None:
    facts = table()
    fact_vectors, present = vectors()
    images, ids = gallery(facts)
    result = FactEvaluator(facts, TASKS, fact_vectors, present).evaluate(images, ids)

    scores = scores_by_loops(images, fact_vectors, present)
    true = {(image, fact) for image, fact in facts.rows_of("test").tolist()}

    def ap(fact: int, of: list[int]) -> float:
        return average_precision_by_loops([scores[i][fact] for i in of], [(ids[i], fact) in true for i in of])

    everyone = list(range(len(ids)))
    for task, own_map, all_map in zip(TASKS, result.map_tasks, result.map_tasks_all, strict=True):
        own = [i for i in everyone if any((ids[i], fact) in true for fact in task)]
        assert 0 < len(own) < len(everyone)
        assert own_map == pytest.approx(np.nanmean([ap(fact, own) for fact in task]))
        assert all_map == pytest.approx(np.nanmean([ap(fact, everyone) for fact in task]))
    assert result.ap == [(str(FACTS[f]), pytest.approx(ap(f, everyone))) for f in range(5)]
    assert result.map_all == pytest.approx(sum(value for _, value in result.ap) / 5)
    assert result.left_out == 1
    assert result.map_subset is None
    of_subset = FactEvaluator(facts, TASKS, fact_vectors, present, subset=np.array([3, 1, 5])).evaluate(images, ids)
    assert of_subset.map_subset == pytest.approx((ap(3, everyone) + ap(1, everyone)) / 2)  # fact 5 has no test image
    assert replace(of_subset, map_subset=None) == result
    ranks = filtered_ranks_by_loops(scores, [[(i, f) in true for f in range(6)] for i in ids])
    assert result.mrr == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks))
    assert result.recall == pytest.approx({str(k): sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)})


def test_pairs_that_are_not_known_are_left_out_against_loops() -> None:
    rng = np.random.default_rng(3)
    rows, labels = [], []
    for image in range(40):
        for fact in rng.choice(5, rng.integers(1, 5), replace=False):
            label = SHOWN if fact == 1 else rng.choice([UNKNOWN, SHOWN] if fact == 4 else [NOT_SHOWN, UNKNOWN, SHOWN])
            rows.append((f"{image}.jpg", FACTS[fact], "test"))
            labels.append(int(label))
    train = [("x.jpg", fact, "train") for fact in FACTS]
    facts = FactTable.from_rows(Path("photos"), train + rows, [SHOWN] * len(train) + labels)
    label_of = {
        (image, fact): label for (image, fact), label in zip(facts.rows.tolist(), facts.row_labels, strict=True)
    }
    fact_vectors, present = vectors()
    ids = np.arange(1, 41)
    images = torch.randn(len(ids), 3, 4, generator=torch.Generator().manual_seed(2))
    result = FactEvaluator(facts, TASKS, fact_vectors, present).evaluate(images, ids)

    scores = scores_by_loops(images, fact_vectors, present)
    verified = (0, 2, 3)

    def known(place: int, fact: int) -> bool:
        label = label_of.get((ids[place], fact), 0)
        return label in (SHOWN, NOT_SHOWN) or (label == 0 and fact not in verified)

    def ap(fact: int, of: list[int]) -> float:
        kept = [i for i in of if known(i, fact)]
        return average_precision_by_loops(
            [scores[i][fact] for i in kept], [label_of.get((ids[i], fact)) == SHOWN for i in kept]
        )

    everyone = list(range(len(ids)))
    for task, own_map, all_map in zip(TASKS, result.map_tasks, result.map_tasks_all, strict=True):
        own = [i for i in everyone if any(label_of.get((ids[i], f)) in (SHOWN, NOT_SHOWN) for f in task)]
        assert own_map == pytest.approx(np.nanmean([ap(fact, own) for fact in task]))
        assert all_map == pytest.approx(np.nanmean([ap(fact, everyone) for fact in task]))
    assert result.ap == [(str(FACTS[f]), pytest.approx(ap(f, everyone))) for f in range(5)]
    assert result.verified == [(2, 2), (1, 3)]
    ranks = []
    for i in everyone:
        for fact in range(6):
            if label_of.get((ids[i], fact)) == SHOWN:
                wrong = [f for f in range(6) if known(i, f) and label_of.get((ids[i], f)) != SHOWN]
                ranks.append(1 + sum(scores[i][f] >= scores[i][fact] for f in wrong))
    assert result.mrr == pytest.approx(sum(1 / rank for rank in ranks) / len(ranks))
    for closed in (torch.zeros(40, 6), torch.randn(40, 6)):
        again = FactEvaluator(facts, TASKS, fact_vectors, present).evaluate(images, ids, closed)
        assert again.map_open == pytest.approx(result.map_all)


def test_a_fact_of_which_only_one_kind_of_label_is_there_is_not_measured() -> None:
    rows = [
        ("a.jpg", FACTS[0], "test"),
        ("b.jpg", FACTS[0], "test"),
        ("c.jpg", FACTS[1], "test"),
        ("d.jpg", FACTS[1], "test"),
    ]
    facts = FactTable.from_rows(Path("photos"), rows, [SHOWN, UNKNOWN, NOT_SHOWN, NOT_SHOWN])
    fact_vectors, present = (each[:2] for each in vectors())
    images = torch.randn(4, 3, 4, generator=torch.Generator().manual_seed(2))
    result = FactEvaluator(facts, [np.array([0, 1])], fact_vectors, present).evaluate(images, np.arange(4))
    assert [name for name, _ in result.ap] == ["<dog>"]
    only = FactEvaluator(facts, [np.array([0, 1])], fact_vectors, present).evaluate(images[:2], np.arange(2))
    assert only.ap == [], "the other photo of <dog> is not known"
    assert only.verified == [(0, 0)]


def test_the_order_and_the_length_of_image_vectors_do_not_matter() -> None:
    facts = table()
    images, ids = gallery(facts)
    evaluator = FactEvaluator(facts, TASKS, *vectors())
    shuffle = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    once, again = evaluator.evaluate(images, ids), evaluator.evaluate(images[shuffle] * 7, ids[shuffle.numpy()])
    assert again.map_tasks == pytest.approx(once.map_tasks)
    assert dict(again.ap) == pytest.approx(dict(once.ap))
    assert again.recall == pytest.approx(once.recall)
    assert again.mrr == pytest.approx(once.mrr)


def test_perfect_vectors_score_one() -> None:
    facts = FactTable.from_rows(Path(), [(f"{i}.jpg", FACTS[i % 5], "test") for i in range(25)])
    fact_vectors, present = torch.eye(15).reshape(5, 3, 15), torch.ones(5, 3, dtype=torch.bool)
    result = FactEvaluator(facts, [np.arange(5)], fact_vectors, present).evaluate(
        fact_vectors[facts.rows[:, 1]], facts.rows[:, 0]
    )
    assert (result.map_all, result.map_tasks, result.mrr, result.recall["1"]) == (1, [1], 1, 1)


def test_a_collapsed_embedding_is_chance() -> None:
    facts = table()
    _, ids = gallery(facts)
    collapsed = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(3)).repeat(len(ids), 1, 1)
    result = FactEvaluator(facts, TASKS, *vectors()).evaluate(collapsed, ids)
    counts = np.bincount(facts.rows_of("test")[:, 1], minlength=5)[:5]
    assert [value for _, value in result.ap] == pytest.approx(counts / len(ids))


def test_equal_facts_are_one_query() -> None:
    """ "dog" and "Dog" have one vector: together they have all dog images, and count once."""
    facts = FactTable.from_rows(
        Path(),
        [
            ("a", Fact("dog"), "test"),
            ("b", Fact("cat"), "test"),
            ("c", Fact("Dog"), "test"),
            ("d", Fact("cat"), "test"),
        ],
    )
    dog, cat = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    fact_vectors = torch.zeros(3, 3, 2)
    fact_vectors[:, 0] = torch.stack([dog, cat, dog])
    present = torch.tensor([[True, False, False]] * 3)
    tasks = [np.array([0, 1]), np.array([2])]
    evaluator = FactEvaluator(facts, tasks, fact_vectors, present, subset=np.array([2]))
    images = torch.zeros(4, 3, 2)
    images[:, 0] = torch.stack([dog, cat, dog, torch.tensor([0.9, 0.1])])  # the last cat looks like a dog
    result = evaluator.evaluate(images, np.arange(4))
    assert evaluator.merged == 1
    assert result.ap == [("<dog>", 1.0), ("<cat>", pytest.approx((1 + 2 / 2) / 2))]
    assert result.map_all == pytest.approx(1.0)
    assert result.map_subset == 1.0  # of "Dog", which is one query with "dog"
    assert result.map_tasks == [pytest.approx(1.0), 1.0]
    assert result.recall["1"] == pytest.approx(3 / 4)


def test_a_text_branch_that_learned_to_collapse_is_not_rewarded() -> None:
    facts = table()
    fact_vectors, present = vectors()
    images, ids = gallery(facts)
    groups = equal_queries(fact_vectors, present)  # of the untrained model
    collapsed = torch.ones_like(fact_vectors) * present[..., None]
    result = FactEvaluator(facts, TASKS, collapsed, present, groups).evaluate(torch.ones_like(images), ids)
    counts = np.bincount(facts.rows_of("test")[:, 1], minlength=5)[:5]
    assert [value for _, value in result.ap] == pytest.approx(counts / len(ids))
    assert result.recall["1"] == 0


def test_a_task_without_a_test_image_has_no_score_and_the_others_keep_theirs() -> None:
    facts = table()
    images, ids = gallery(facts)
    whole = FactEvaluator(facts, [np.array([0])], *vectors()).evaluate(images, ids)
    result = FactEvaluator(facts, [np.array([0]), np.array([5])], *vectors()).evaluate(images, ids)
    assert result.map_tasks == [whole.map_tasks[0], None]
    assert result.map_tasks_all == [whole.map_tasks_all[0], None]
    assert result.map_all == whole.map_all
    nothing = FactEvaluator(facts, TASKS, *vectors()).evaluate(images[:0], ids[:0])
    assert (nothing.map_tasks, nothing.map_all, nothing.mrr, nothing.ap) == ([None, None], None, None, [])
    assert nothing.recall == {"1": None, "5": None, "10": None}


def test_a_fact_that_every_image_of_its_gallery_shows_is_not_measured() -> None:
    red, small = Fact("red"), Fact("small")
    rows = [("a", red, "test"), ("b", red, "test"), ("b", small, "test")]
    fact_vectors, present = torch.eye(6).reshape(2, 3, 6), torch.tensor([[True, False, False]] * 2)
    images = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(0))
    facts = FactTable.from_rows(Path(), rows)
    result = FactEvaluator(facts, [np.array([0]), np.array([0, 1])], fact_vectors, present).evaluate(
        images, np.arange(2)
    )
    small_ap = dict(result.ap)["<small>"]
    assert result.ap == [("<small>", small_ap)]
    assert result.map_tasks == result.map_tasks_all == [None, small_ap]
    assert (result.map_all, result.left_out) == (small_ap, 1)


def test_a_task_of_one_fact_is_searched_among_all_test_images() -> None:
    facts = table()
    images, ids = gallery(facts)
    result = FactEvaluator(facts, [np.array([3]), np.array([0, 1])], *vectors()).evaluate(images, ids)
    assert result.map_tasks[0] == result.map_tasks_all[0] == pytest.approx(dict(result.ap)[str(FACTS[3])])
    assert result.map_tasks[0] < 1
    assert result.map_tasks[1] > result.map_tasks_all[1]


def test_a_task_s_own_gallery_is_of_its_own_table() -> None:
    """A fact taught again has its old test images in no task but the old one."""
    later = FactTable.from_rows(Path("later"), [("a.jpg", FACTS[0], "test"), ("b.jpg", FACTS[3], "test")])
    both = table().join([later])
    images, ids = gallery(both)
    tasks = [*TASKS, np.array([0, 3])]
    result = FactEvaluator(both, tasks, *vectors(), origins=[0, 0, 1]).evaluate(images, ids)
    first = ids < both.starts[1]
    first_only = FactEvaluator(table(), TASKS, *vectors()).evaluate(images[first], ids[first])
    own = FactEvaluator(later, [np.array([0, 1])], *(part[[0, 3]] for part in vectors()))
    assert result.map_tasks == pytest.approx(
        [*first_only.map_tasks, *own.evaluate(images[~first], np.arange(2)).map_tasks]
    )
    assert (
        result.map_tasks_all[0] == result.map_tasks_all[2] == pytest.approx(np.mean([result.ap[f][1] for f in (0, 3)]))
    )


def test_mistakes_are_named() -> None:
    facts = table()
    images, ids = gallery(facts)
    with pytest.raises(UserError, match="task 2 has no facts"):
        FactEvaluator(facts, [np.array([0]), np.array([], dtype=int)], *vectors())
    with pytest.raises(UserError, match="NaN"):
        FactEvaluator(facts, TASKS, *vectors()).evaluate(images * math.nan, ids)
    with pytest.raises(ValueError, match="2 fact vectors for the table's 6 facts"):
        FactEvaluator(facts, TASKS, *(part[:2] for part in vectors()))


def test_closed_scores_are_added_to_the_mean_cosine() -> None:
    generator = torch.Generator().manual_seed(5)
    images, closed = torch.randn(10, 3, 4, generator=generator), torch.randn(10, 3, generator=generator)
    facts = [Fact("a"), Fact("b", "c"), Fact("d", "e", "f")]
    rows = [(f"{i}.jpg", facts[i % 3], "test") for i in range(10)]
    table = FactTable.from_rows(Path(), rows)
    vectors, present = torch.randn(3, 3, 4, generator=generator), torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]).bool()
    vectors[~present] = 0
    evaluator = FactEvaluator(table, [np.arange(3)], vectors, present)
    result = evaluator.evaluate(images, np.arange(10), closed)
    cosines = torch.nn.functional.cosine_similarity(
        images[:, None], vectors[None], dim=-1
    )  # [10, 3, 3], 0 where absent
    scores = (cosines * present).sum(-1) / present.sum(-1) + closed
    relevant = torch.eye(3).bool()[torch.arange(10) % 3]
    expected = [average_precision_score(relevant[:, f], scores[:, f]) for f in range(3)]
    assert [ap for _, ap in result.ap] == pytest.approx(expected, abs=1e-6)
    assert result.map_tasks == pytest.approx([np.mean(expected)], abs=1e-6)
    assert result.map_open == evaluator.evaluate(images, np.arange(10)).map_all
    ranks = [int((scores[i] > scores[i, i % 3]).sum()) for i in range(10)]
    assert result.recall["1"] == pytest.approx(np.mean([rank == 0 for rank in ranks]))
