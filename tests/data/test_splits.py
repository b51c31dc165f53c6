"""Splits into tasks: every fact in one task, each way by its own rule."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripletcl.data.fact_table import FactTable
from tripletcl.data.facts import Fact
from tripletcl.data.splits import bisect, held_out_facts, sample, split_facts
from tripletcl.data.tables import read_table
from tripletcl.errors import UserError


def table_of(facts: list[Fact], groups: list[str] | None = None) -> FactTable:
    rows = [(f"{i}-{split}.jpg", fact, split) for i, fact in enumerate(facts) for split in ("train", "test")]
    table = FactTable.from_rows(Path(), rows)
    return FactTable(table.root, table.images, table.facts, table.rows, table.splits, groups and tuple(groups))


def numbered(count: int) -> FactTable:
    return table_of([Fact(f"thing {i}") for i in range(count)])


def words(table: FactTable, split: list[np.ndarray]) -> list[set[str]]:
    return [{str(table.facts[i]) for i in task} for task in split]


def hold_partition(split: list[np.ndarray], count: int) -> None:
    assert sorted(np.concatenate(split).tolist()) == list(range(count))
    assert all(len(task) and np.array_equal(task, np.sort(task)) for task in split)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(-(2**70), 2**70))
def test_random_split(count: int, tasks: int, seed: int) -> None:
    tasks = min(tasks, count)
    table = numbered(count)
    split = split_facts(table, tasks, seed=seed)
    hold_partition(split, count)
    sizes = [len(task) for task in split]
    assert len(split) == tasks
    assert max(sizes) - min(sizes) <= 1
    assert words(table, split) == words(table, split_facts(table, tasks, seed=seed))


def test_random_split_is_the_same_everywhere_and_for_ever() -> None:
    split = split_facts(numbered(10), 3, seed=0)
    assert [task.tolist() for task in split] == [[1, 2, 3, 4], [5, 7, 8], [0, 6, 9]]
    assert [task.dtype for task in split] == [np.int64] * 3


def test_random_split_depends_on_the_words_not_on_their_order() -> None:
    facts = [
        Fact("dog"),
        Fact("dog", "lying"),
        Fact("man", "riding", "horse"),
        Fact("a, b"),
        Fact("a", "b"),
        Fact("cat"),
    ]
    table, backwards = table_of(facts), table_of(facts[::-1])
    assert words(table, split_facts(table, 3, seed=4)) == words(backwards, split_facts(backwards, 3, seed=4))


def test_random_splits_differ_by_seed_and_are_fair() -> None:
    """Over many seeds, each fact is in each task equally often, and so are any two facts in the same task."""
    table = numbered(12)
    places = np.zeros((400, 12), dtype=int)
    for seed in range(400):
        for task, facts in enumerate(split_facts(table, 4, seed=seed)):
            places[seed, facts] = task
    shares = np.stack([(places == task).mean(0) for task in range(4)])
    assert np.abs(shares - 0.25).max() < 0.08  # 3.7 standard deviations
    together = (places[:, :, None] == places[:, None, :]).mean(0)[~np.eye(12, dtype=bool)]
    assert np.abs(together - 2 / 11).max() < 0.08


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), min_size=1, unique=True), st.integers(1, 6), st.integers()
)
def test_predicate_split(pairs: list[tuple[int, int]], tasks: int, seed: int) -> None:
    facts = [Fact(f"thing {subject}", f"on {number}" if number else None) for subject, number in pairs]
    table = table_of(facts)
    predicates = {fact.predicate for fact in facts}
    tasks = min(tasks, len(predicates))
    split = split_facts(table, tasks, by="predicate", seed=seed)
    hold_partition(split, len(facts))
    of_tasks = [{table.facts[fact].predicate for fact in task} for task in split]
    assert sum(map(len, of_tasks)) == len(predicates), "a predicate is in one task"
    assert max(map(len, of_tasks)) - min(map(len, of_tasks)) <= 1
    backwards = table_of(facts[::-1])
    assert words(table, split) == words(backwards, split_facts(backwards, tasks, by="predicate", seed=seed))


def test_more_tasks_than_predicates_are_refused() -> None:
    with pytest.raises(UserError, match="1 predicates cannot be split into 2 tasks"):
        split_facts(numbered(3), 2, by="predicate")


def test_column_split() -> None:
    table = table_of([Fact(letter) for letter in "abcde"], groups=["z", "a", "z", "m", "a"])
    for tasks in (None, 3):
        split = split_facts(table, tasks, by="column")
        assert [task.tolist() for task in split] == [[0, 2], [1, 4], [3]]
    with pytest.raises(UserError, match="has 3 different names, but 2 tasks"):
        split_facts(table, 2, by="column")
    with pytest.raises(UserError, match="without a task column"):
        split_facts(numbered(3), None, by="column")


def blobs(sizes: list[int], spread: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """Points around one corner each, shuffled, and the corner of each."""
    rng = np.random.default_rng(0)
    corner = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    return np.eye(len(sizes), 8)[corner] + spread * rng.standard_normal((len(corner), 8)), corner


@pytest.mark.parametrize("sizes", [[10, 10], [8, 12, 7, 13], [6, 5, 9], [20, 12]])
def test_semantic_split_finds_the_groups(sizes: list[int]) -> None:
    vectors, corner = blobs(sizes)
    scaled = vectors * np.random.default_rng(1).uniform(0.5, 4, (len(vectors), 1))  # only directions have a meaning
    split = split_facts(numbered(len(vectors)), len(sizes), by="semantic", vectors=scaled)
    hold_partition(split, len(vectors))
    assert all(len(set(corner[task])) == 1 for task in split)
    assert [task[0] for task in split] == sorted(task[0] for task in split)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_semantic_split_is_balanced(data: st.DataObject) -> None:
    """Equal vectors, outliers, one big group."""
    count = data.draw(st.integers(1, 40))
    tasks = data.draw(st.integers(1, min(8, count)))
    values = data.draw(st.lists(st.sampled_from([0.0, 0.1, 1.0, 1000.0]), min_size=2 * count, max_size=2 * count))
    split = bisect(np.array(values).reshape(count, 2), tasks, seed=0)
    hold_partition(split, count)
    assert len(split) == tasks
    assert min(map(len, split)) >= max(1, count // (2 * tasks))
    assert max(map(len, split)) <= np.ceil(2 * count / tasks)


@pytest.mark.parametrize("seed", range(12))
def test_small_group_gets_company(seed: int) -> None:
    """K-means puts nine far points of forty in a group, the first or the second; a task gets at least ten."""
    vectors = np.random.default_rng(seed).standard_normal((40, 3))
    vectors[:9] += 1000
    sizes = [len(task) for task in bisect(vectors, 2, seed)]
    assert sorted(sizes) == [10, 30]


def test_semantic_split_needs_a_vector_a_fact() -> None:
    for vectors in (None, np.zeros((3, 2)), np.zeros(4)):
        with pytest.raises(UserError, match="each of the 4 facts needs a vector"):
            split_facts(numbered(4), 2, by="semantic", vectors=vectors)


def test_wrong_numbers_and_ways_are_refused() -> None:
    with pytest.raises(UserError, match="3 facts cannot be split into 4 tasks"):
        split_facts(numbered(3), 4)
    for tasks in (0, None):
        with pytest.raises(UserError, match="say how many tasks"):
            split_facts(numbered(3), tasks)
    with pytest.raises(UserError, match="by 'colour', allowed are random, predicate, column, semantic"):
        split_facts(numbered(3), 2, by="colour")


@pytest.mark.parametrize(("split", "kind"), [("train", "test"), ("test", "training")])
def test_task_without_rows_is_refused(split: str, kind: str) -> None:
    rows = [("a.jpg", Fact("dog"), "train"), ("b.jpg", Fact("dog"), "test"), ("c.jpg", Fact("cat"), split)]
    table = FactTable.from_rows(Path(), rows)
    with pytest.raises(UserError, match=f"task . has no {kind} rows, though it has facts such as <cat>"):
        split_facts(table, 2)
    assert len(split_facts(table, 1)) == 1


def test_real_facts(data_root: Path) -> None:
    table = read_table(data_root / "facts" / "facts.csv")
    assert [len(task) for task in split_facts(table, 4, seed=1)] == [42, 42, 41, 41]


# Facts held out


def composed() -> list[Fact]:
    return [Fact(s, p, o) for s in ("dog", "cat") for p in ("chasing", "eating") for o in (None, "mouse", "bird")] + [
        Fact("dog"),
        Fact("owl", "flying"),
    ]


@given(st.integers(-(2**70), 2**70), st.sampled_from([0.1, 0.25, 0.5]))
def test_every_unit_of_a_fact_held_out_is_taught_in_its_place(seed: int, share: float) -> None:
    facts = composed()
    held = held_out_facts(table_of(facts), share, seed).tolist()
    assert len(held) == round(share * 13)
    remaining = [fact for number, fact in enumerate(facts) if number not in held]
    for number in held:
        assert facts[number].order > 1
        for place, unit in enumerate(facts[number].units):
            assert unit is None or any(fact.units[place] == unit for fact in remaining)
    backwards = held_out_facts(table_of(facts[::-1]), share, seed)
    assert {str(facts[::-1][number]) for number in backwards} == {str(facts[number]) for number in held}


def test_facts_held_out_differ_by_seed_and_can_be_tested() -> None:
    table = table_of(composed())
    assert len({tuple(held_out_facts(table, 0.25, seed).tolist()) for seed in range(8)}) > 4
    untested = table.splits.copy()
    untested[(table.rows[:, 1] < 6) & (table.splits == "test")] = "train"
    only_cats = FactTable(table.root, table.images, table.facts, table.rows, untested)
    assert all(held_out_facts(only_cats, 0.25, seed).min() >= 6 for seed in range(8))


def test_no_more_can_be_held_out_than_leave_every_unit_taught() -> None:
    assert held_out_facts(table_of(composed()), 0.0, 0).tolist() == []
    with pytest.raises(UserError, match=r"12 facts cannot be held out: only \d+ have units that other facts"):
        held_out_facts(table_of(composed()), 0.9, 0)
    unshared = table_of([Fact("dog", "running"), Fact("cat", "sleeping")])
    with pytest.raises(UserError, match="1 facts cannot be held out: only 0 have"):
        held_out_facts(unshared, 0.5, 0)


def test_a_sample_keeps_the_order_and_depends_on_the_seed() -> None:
    items = np.arange(100, 400, 3)
    few = sample(items, 7, seed=1)
    assert len(few) == len(set(few.tolist()) & set(items.tolist())) == 7
    assert np.array_equal(few, np.sort(few))
    assert np.array_equal(few, sample(items, 7, seed=1))
    assert np.array_equal(few, sample(items, 7, np.random.default_rng(1)))
    assert not np.array_equal(few, sample(items, 7, seed=2))
    assert np.array_equal(sample(items, None, seed=1), items)
    assert np.array_equal(sample(items, 100, seed=1), items)
    assert len(sample(items, 0, seed=1)) == 0


def test_every_item_is_sampled_equally_often() -> None:
    counts = np.bincount(np.concatenate([sample(np.arange(10), 3, seed) for seed in range(2000)]))
    assert np.abs(counts - 600).max() < 100
