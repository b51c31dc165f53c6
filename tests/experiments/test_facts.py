"""From settings to tasks: training and validation images, images for importance, and the order of facts."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import numpy as np
import pytest

from tripletcl.config import FactConfig, parse_config
from tripletcl.continual import Task
from tripletcl.data import Fact, FactTable
from tripletcl.errors import UserError
from tripletcl.experiments.fact_tasks import fact_tasks, move_first, subset_facts, validation_images
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.train import train

FACTS = [
    Fact("person", "playing", "golf"),
    Fact("person", "playing", "guitar"),
    Fact("Person", "playing"),
    Fact("person", "playing in", "fountain"),
    Fact("dog", "playing", "ball"),
    Fact("dog"),
    Fact("black dog", "running"),
    Fact("cat", "sitting"),
]
GROUPS = [np.array([0, 3, 5]), np.array([1, 4, 6]), np.array([2, 7])]
NAMES = ["task 1", "task 2", "task 3"]


def photos(images: int = 90, fewest: int = 0) -> FactTable:
    """Each image has one to three facts; every third is a test image."""
    rng = np.random.default_rng(fewest)
    rows = [
        (f"{i}.jpg", FACTS[f], "test" if i % 3 == 0 else "train")
        for i in range(images)
        for f in rng.choice(len(FACTS), rng.integers(1, 4), replace=False)
    ]
    return FactTable.from_rows(Path("photos"), [("first.jpg", fact, "train") for fact in FACTS] + rows)


def config(**data: object) -> FactConfig:
    return parse_config({"data": data}, "test")


def tasks_of(table: FactTable, unlabelled: tuple[int, ...] = (), **data: object) -> list[Task]:
    settings = config(**data)
    return fact_tasks(settings, table, GROUPS, NAMES, np.array(unlabelled, int), subset_facts(settings, table))


def images_of(table: FactTable, split: str, facts: set[int]) -> set[int]:
    """List the images of some facts, row by row."""
    rows = zip(table.rows.tolist(), table.splits, strict=True)
    return {image for (image, fact), of in rows if of == split and fact in facts}


# --- validation images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.0, 0.1, 0.4])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_image_is_held_out_of_all_tasks_or_none(part: float, seed: int) -> None:
    table = photos()
    settings = parse_config({"seed": seed, "data": {"validation": part}}, "test")
    held_out = set(validation_images(settings, table).tolist())
    train = images_of(table, "train", set(range(len(FACTS))))
    assert held_out <= train
    assert len(held_out) == round(part * len(train))
    union = [np.concatenate(GROUPS)]
    for groups, names in ((GROUPS, NAMES), (union, ["all tasks"])):  # task after task, and joint training
        for task in fact_tasks(settings, table, groups, names, np.empty(0, int)):
            own = images_of(table, "train", set(task.classes.tolist()))
            assert set(task.items.tolist()) == own - held_out
            assert set(task.validation_items.tolist()) == own & held_out
            assert set(task.importance_items.tolist()) == own - held_out
            for items, targets in ((task.items, task.targets), (task.validation_items, task.validation_targets)):
                expected = [[f in set(table.rows[table.rows[:, 0] == i, 1]) for f in task.classes] for i in items]
                assert targets.toarray().tolist() == expected


def test_another_seed_holds_out_other_images() -> None:
    configs = [parse_config({"seed": seed, "data": {"validation": 0.3}}, "test") for seed in (0, 1)]
    first, second = (validation_images(each, photos()).tolist() for each in configs)
    assert first != second


def test_a_task_without_training_images_is_an_error() -> None:
    with pytest.raises(UserError, match=r"data\.validation 0\.99 leaves task \d no image to train on"):
        tasks_of(photos(), validation=0.99)


# --- images for importance ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["train", "test", "both"])
def test_importance_is_measured_on_the_images_of_the_setting(where: str) -> None:
    table = photos()
    for task in tasks_of(table, importance=where, validation=0.2):
        facts, held_out = set(task.classes.tolist()), set(task.validation_items.tolist())
        splits = {"train": images_of(table, "train", facts) - held_out, "test": images_of(table, "test", facts)}
        expected = splits["train"] | splits["test"] if where == "both" else splits[where]
        assert task.importance_items.tolist() == sorted(expected)
        assert not task.importance_subset


def test_importance_on_images_of_no_task() -> None:
    for task in tasks_of(photos(), (200, 201, 202), importance="some/folder"):
        assert task.importance_items.tolist() == [200, 201, 202]


@pytest.mark.parametrize("where", ["train", "test", "both"])
def test_importance_on_images_of_the_subset_only(where: str) -> None:
    table = photos()
    tasks = tasks_of(table, importance=where, subset="dog, ?, ?")
    subset = {4, 5}
    for task in tasks:
        facts = set(task.classes.tolist()) & subset
        expected: set[int] = set()
        for split in ("train", "test") if where == "both" else (where,):
            expected |= images_of(table, split, facts)
        assert task.importance_items.tolist() == sorted(expected)
        assert task.importance_subset
    assert [len(task.importance_items) > 0 for task in tasks] == [True, True, False]
    whole = tasks_of(table, importance=where)
    assert [task.items.tolist() for task in tasks] == [task.items.tolist() for task in whole], "training is unchanged"


def test_a_limited_number_of_importance_images_is_sampled_by_the_seed() -> None:
    table = photos()
    whole, few, again = tasks_of(table), tasks_of(table, importance_images=20), tasks_of(table, importance_images=20)
    assert [len(task.importance_items) for task in few] == [20, 20, 20]
    for all_of, some, same in zip(whole, few, again, strict=True):
        assert set(some.importance_items) < set(all_of.importance_items)
        assert len(set(some.importance_items)) == 20
        assert some.importance_items.tolist() == same.importance_items.tolist()
    plenty = tasks_of(table, importance_images=10_000)
    assert [task.importance_items.tolist() for task in plenty] == [task.importance_items.tolist() for task in whole]


# --- the subset ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "facts"),
    [
        ("person playing ?", [0, 1, 2]),
        ("person, playing, ?", [0, 1, 2]),
        ("? playing", [0, 1, 2, 4]),
        ("PERSON playing golf", [0]),
        ('person "playing in" ?', [3]),
        ("black dog, ?, ?", [6]),
        ("dog", [4, 5]),
    ],
)
def test_a_pattern_selects_facts(pattern: str, facts: list[int]) -> None:
    subset = subset_facts(config(subset=pattern), photos())
    assert subset is not None
    assert subset.tolist() == facts


def test_the_subset_moves_to_the_first_task_and_the_others_stay() -> None:
    moved = move_first(photos(), GROUPS, np.array([0, 1, 4]))
    assert [group.tolist() for group in moved] == [[0, 1, 3, 4, 5], [6], [2, 7]]
    with pytest.raises(UserError, match="leaves task 3 no facts with training and test images"):
        move_first(photos(), GROUPS, np.array([2, 7]))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"subset": "person flying ?"}, r"'person flying \?' matches no fact; there are <person, playing, golf>, "),
        ({"subset": "? ? ?"}, "asks for nothing"),
        ({"subset": "a b c d"}, "a fact has three"),
        ({"subset": "dog", "importance": "my/folder"}, "unlabelled images show no known fact"),
        ({"subset_first": True}, r"there is no data\.subset to move into the first task"),
    ],
)
def test_a_wrong_subset_is_one_sentence(data: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        subset_facts(config(**data), photos())
    assert "\n" not in str(error.value)


def test_a_subset_needs_test_images() -> None:
    table = FactTable.from_rows(Path(), [("a", FACTS[0], "train"), ("b", FACTS[5], "train"), ("c", FACTS[5], "test")])
    with pytest.raises(UserError, match="'person' matches no fact with test images"):
        subset_facts(config(subset="person"), table)


@pytest.mark.parametrize(
    "settings", [{"method": {"name": "mas", "lam": "auto"}}, {"compare": {"methods": [{"name": "mas", "lam": "auto"}]}}]
)
def test_auto_needs_validation_images(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"lam: auto .* set data\.validation above 0"):
        parse_config(settings, "test")
    parse_config({**settings, "data": {"validation": 0.1}}, "test")


# --- a whole run -----------------------------------------------------------------------------------------------------


def test_a_run_with_an_automatic_weight_and_a_subset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    settings = {
        "device": "cpu",
        "data": {
            "scenes": {"facts": 12, "train": 6, "test": 2},
            "tasks": 2,
            "cache_features": True,
            "validation": 0.4,
            "subset": "horse",
            "subset_first": True,
        },
        "model": {"image_size": 64, "freeze_until": "blocks4"},
        "training": {"epochs": 2, "batch_size": 8},
        "stability": {"attempts": 2, "start": 10, "drop": 0.1},
        "method": {"name": "mas", "lam": "auto"},
    }
    result = train(parse_config(settings, "test"), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    attempts = [line for line in lines if line["kind"] == "attempt"]
    assert 2 <= len(attempts) <= 3
    assert result.lams == [None, attempts[-1]["lam"]]
    assert [line["lam"] for line in attempts] == [0, 10, 5][: len(attempts)]
    assert all(0 <= line["score"] <= 1 for line in attempts)
    horses = [ap for fact, ap in result.ap if "horse" in fact]
    assert horses
    assert result.map_subset[-1] == pytest.approx(statistics.fmean(horses))
    assert len(result.map_subset) == 3
    assert evaluate(tmp_path / "run")["map_subset"] == pytest.approx(result.map_subset[-1], rel=1e-4)
