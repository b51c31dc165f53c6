"""From sets to tasks: by set, by classes, by permutations; separate heads or a shared one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from digits import folders_config, split_config, write_folder

from tripletcl.config import ObjectConfig, parse_config
from tripletcl.errors import UserError
from tripletcl.experiments.object_tasks import partition_sets, read_sets
from tripletcl.experiments.objects import build_objects, heads_and_labels

pytestmark = pytest.mark.usefixtures("own_cache")


def test_split_in_the_order_given(mnist: Path) -> None:
    sets = {"sets": [{"set": "mnist", "root": str(mnist), "classes": [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]}]}
    config = split_config(mnist, data=sets)
    tasks = partition_sets(config.data, read_sets(config))
    assert [task.name for task in tasks] == ["mnist 1/2", "mnist 3/4", "mnist 5/6", "mnist 7/8", "mnist 9/0"]
    for task in tasks:
        for train, count in ((True, 24), (False, 12)):
            items = task.items(train)
            assert len(items) == count
            named = [task.objects.classes[label] for label in task.objects.labels[items]]
            assert [task.classes[position] for position in task.positions[items]] == named
    training = np.concatenate([task.items(True) for task in tasks])
    assert sorted(training) == list(range(120))  # every training image in one task


def test_heads_and_labels(mnist: Path) -> None:
    config = split_config(mnist, tasks=2)
    tasks = partition_sets(config.data, read_sets(config))
    heads, labels = heads_and_labels(tasks, shared=False)
    assert list(map(len, heads.values())) == [5, 5]
    assert [of.tolist() for of in labels] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    heads, shared = heads_and_labels(tasks, shared=True)
    assert heads == {"all": tuple("0123456789")}
    assert [of.tolist() for of in shared] == [of.tolist() for of in labels]


def test_permuted_tasks_have_the_same_classes_in_another_order_of_pixels(mnist: Path) -> None:
    config = split_config(mnist, data={"split": None, "permutations": 3, "heads": "shared"})
    experiment = build_objects(config)
    assert experiment.task_names == ["mnist", "mnist permuted 1", "mnist permuted 2"]
    assert list(map(len, experiment.classifier.heads.values())) == [10]
    first, second, third = (experiment.source.batch(task.items, None) for task in experiment.tasks)
    assert torch.equal(first.flatten(1).sort(dim=1).values, second.flatten(1).sort(dim=1).values)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)
    for task, tests in zip(experiment.tasks, experiment.evaluation_sets, strict=True):
        assert task.targets.tolist() == experiment.tasks[0].targets.tolist()
        assert not np.intersect1d(task.items, tests.items).size


def test_targets_are_the_labels_of_the_images(mnist: Path) -> None:
    experiment = build_objects(split_config(mnist))
    for task, objects in zip(experiment.tasks, experiment.object_tasks, strict=True):
        bars = experiment.source.batch(task.items, None)[:, 0, 3:22:2].mean(dim=2).argmax(dim=1)
        digits = [objects.classes[label - task.classes[0]] for label in task.targets]
        assert digits == [str(bar) for bar in bars.tolist()]


def test_held_out_images_are_in_no_training(mnist: Path) -> None:
    experiment = build_objects(split_config(mnist, data={"validation": 0.25, "importance": "both"}))
    for task, tests in zip(experiment.tasks, experiment.evaluation_sets, strict=True):
        assert len(task.validation_items) == 6
        assert len(task.items) == 18
        assert not np.intersect1d(task.items, task.validation_items).size
        assert set(task.importance_items) == {*task.items, *tests.items}


def test_joint_training_has_all_items_with_their_own_labels(mnist: Path) -> None:
    separate, joint = build_objects(split_config(mnist)), build_objects(split_config(mnist, "joint"))
    (task,) = joint.tasks
    labels = dict(zip(task.items.tolist(), task.targets.tolist(), strict=True))
    expected = {item: label for one in separate.tasks for item, label in zip(one.items, one.targets, strict=True)}
    assert labels == expected


def test_two_sets_with_a_class_of_one_name(tmp_path: Path) -> None:
    roots = [write_folder(tmp_path / name, 2, seed) for seed, name in enumerate(("red", "blue"))]
    config = folders_config(roots, data={"heads": "shared"})
    experiment = build_objects(config)
    assert experiment.classifier.heads == {"all": ("red class0", "red class1", "blue class0", "blue class1")}
    assert [task.classes.tolist() for task in experiment.tasks] == [[0, 1], [2, 3]]
    reversed_order = build_objects(folders_config(roots, data={"order": ["blue", "red"]}))
    assert reversed_order.task_names == ["blue", "red"]


def check_refused(config: ObjectConfig, words: str) -> None:
    with pytest.raises(UserError, match=words) as error:
        build_objects(config)
    assert "\n" not in str(error.value)


def test_bad_input_is_one_sentence_before_anything_is_trained(mnist: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "red", 3)
    check_refused(split_config(mnist, data={"sets": []}), "data.sets is empty")
    check_refused(split_config(tmp_path / "nowhere"), r"the set 'mnist' is missing: .*nowhere is not a folder")
    check_refused(
        split_config(mnist, data={"sets": [{"set": "mnist", "root": "${NOT_SET}/x"}]}), "environment variable"
    )
    check_refused(split_config(mnist, tasks=11), "has 10 classes, which cannot be split into 11 tasks")
    check_refused(split_config(mnist, model={"image_size": 20}), "takes no images of 20 pixels")
    check_refused(folders_config([folder], model={"backbone": "mlp/1024-8"}), "are files")
    check_refused(folders_config([folder], data={"permutations": 2}), "are files")
    check_refused(folders_config([folder], data={"cache_features": True}), "needs model.freeze_until")
    (folder / "test" / "class1").rename(folder / "test" / "other")
    check_refused(folders_config([folder]), r"the set 'red' has no training image of 'other'")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"sets": [{"set": "mnits", "root": "x"}]}, "there is no set 'mnits'; there are folder"),
        ({"sets": [{"root": "a/x"}, {"root": "b/x"}]}, "two sets are called x"),
        ({"sets": [{"root": "a/x"}], "order": ["y"]}, "an order names 'y', but the sets are x"),
        ({"sets": [{"root": "a/x"}], "order": ["x", "x"]}, "names each set that it learns once"),
        (
            {"sets": [{"root": "a/x"}], "permutations": 2, "cache_features": True},
            "permuted images have no mirror images",
        ),
        ({"sets": [{"root": "a/x"}], "spilt": 2}, r"unknown key data.spilt \(did you mean split\?\)"),
    ],
)
def test_wrong_settings_are_named(data: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_config({"learns": "objects", "data": data}, "test")


def test_what_is_learned_is_facts_or_objects() -> None:
    with pytest.raises(UserError, match="learns is 'cats'; allowed are facts, objects"):
        parse_config({"learns": "cats"}, "test")
