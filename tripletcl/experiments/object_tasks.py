"""From sets of labelled images to the tasks that are learned one after another."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.config import ObjectConfig
from tripletcl.config.objects import ObjectData, SetOfObjects
from tripletcl.continual import Task
from tripletcl.continual.task import derived_seed
from tripletcl.data import ImageCache
from tripletcl.data.sets import ObjectSet, read_object_set
from tripletcl.data.splits import sample
from tripletcl.errors import UserError
from tripletcl.experiments.fact_tasks import IMPORTANCE, VALIDATION
from tripletcl.files.places import cache_folder

CLASSES_IN_NAME = 2
"""A task of at most this many classes is named after them, others are numbered."""

PATHS_STORED = 8
"""The number of training images of a task that its description names, for the report."""


@dataclass(frozen=True)
class ObjectTask:
    """Some classes of a set, their pixels in some order.

    Attributes:
        name: In tables and plots.
        objects: The set.
        number: The set's number among those of the run.
        classes: The names of the classes, in the order of the labels.
        order: The number of a permutation of the pixels; 0 is their own order.
    """

    name: str
    objects: ObjectSet
    number: int
    classes: tuple[str, ...]
    order: int = 0

    @property
    def positions(self) -> np.ndarray:
        """`[N]` each image's position in `classes`; -1 for another class of the set."""
        place = {name: position for position, name in enumerate(self.classes)}
        return np.array([place.get(name, -1) for name in self.objects.classes])[self.objects.labels]

    def items(self, train: bool) -> np.ndarray:
        """Return the ids, in the set, of the task's training or test images."""
        training, test = self.objects.class_items(self.classes)
        return training if train else test

    def some_paths(self, count: int) -> list[Path]:
        """List at most `count` training images, spread evenly over the classes; none if images are in memory."""
        if isinstance(self.objects.images, np.ndarray):
            return []
        items = self.items(train=True)
        items = items[np.argsort(self.positions[items], kind="stable")]
        spread = items[np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]
        return [Path(os.path.abspath(self.objects.images[item])) for item in spread]  # noqa: PTH100 - keeps links


def read_sets(config: ObjectConfig) -> list[ObjectSet]:
    """Read the sets in the order in which they are learned.

    Raises:
        UserError: one is missing or damaged.
    """
    entries = {entry.label: entry for entry in config.data.sets}
    if not entries:
        raise UserError("data.sets is empty: name at least one set of images to learn")
    return [_read(entries[name]) for name in config.data.set_names]


def _read(entry: SetOfObjects) -> ObjectSet:
    if "${" in entry.root:
        raise UserError(f"the root of {entry.label} is {entry.root}: set that environment variable, or give a folder")
    root = Path(entry.root).expanduser()
    return read_object_set(
        entry.set,
        root,
        name=entry.label,
        classes=entry.classes,
        incomplete=entry.incomplete,
        download=entry.download,
        scratch=cache_folder() / "sets",
    )


def partition_sets(data: ObjectData, sets: Sequence[ObjectSet]) -> list[ObjectTask]:
    """Partition sets into tasks, in the order in which they are learned."""
    return [task for number, objects in enumerate(sets) for task in _partition_set(data, objects, number)]


def _partition_set(data: ObjectData, objects: ObjectSet, number: int) -> list[ObjectTask]:
    name, classes = objects.name, objects.classes
    groups = [(name, classes)]
    if data.split is not None:
        if len(classes) < data.split:
            raise UserError(f"{name} has {len(classes)} classes, which cannot be split into {data.split} tasks")
        parts = [tuple(classes[i] for i in ids) for ids in np.array_split(np.arange(len(classes)), data.split)]
        few = max(map(len, parts)) <= CLASSES_IN_NAME
        groups = [(f"{name} {'/'.join(part) if few else position}", part) for position, part in enumerate(parts, 1)]
    return [
        ObjectTask(label if order == 0 else f"{label} permuted {order}", objects, number, part, order)
        for order in range(data.permutations or 1)
        for label, part in groups
    ]


def describe_tasks(config: ObjectConfig, object_tasks: Sequence[ObjectTask]) -> list[dict[str, Any]]:
    """Describe tasks for JSON: names, classes, numbers of images, a hash of their contents, and some training images.

    The hash is None where an image cannot be read.
    """
    digests = {task.number: _image_digests(task.objects, config.model.image_size) for task in object_tasks}
    return [
        {
            "name": task.name,
            "classes": list(task.classes),
            "train": len(task.items(train=True)),
            "test": len(task.items(train=False)),
            "content": _content(task, digests[task.number]),
            "images": [str(path) for path in task.some_paths(PATHS_STORED)],
        }
        for task in object_tasks
    ]


def describe_task_change(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> str | None:
    """Describe how tasks differ from what they were, in words; None if they are the same, wherever their images lie.

    Args:
        before: As `describe_tasks` gave them; a content that is not known, then or now, counts as the same.
        now: The same.
    """
    if (names := [task["name"] for task in before]) != [task["name"] for task in now]:
        return f"the tasks were {', '.join(names)}"
    for then, current in zip(before, now, strict=True):
        if then["classes"] != current["classes"]:
            return f"the classes of {then['name']} were {', '.join(then['classes'])}"
        for split in ("train", "test"):
            if then[split] != current[split]:
                return f"{then['name']} had {then[split]} {split} images and has {current[split]}"
        contents = {then.get("content"), current["content"]}
        if None not in contents and len(contents) > 1:
            return f"images of {then['name']} have another content"
    return None


def _image_digests(objects: ObjectSet, size: int) -> list[str]:
    """The hash of each image of a set, "" of one that cannot be read."""
    if isinstance(objects.images, np.ndarray):
        return [hashlib.blake2b(pixels.tobytes(), digest_size=16).hexdigest() for pixels in objects.images]
    return ImageCache.contents(objects.images, size, cache_folder())


def _content(task: ObjectTask, digests: Sequence[str]) -> str | None:
    """A hash of the images of a task, each in its class and split, in any order; None if one is unknown."""
    positions = task.positions.tolist()
    images = [
        (split, positions[item], digests[item]) for split in (True, False) for item in task.items(train=split).tolist()
    ]
    if not all(digest for *_, digest in images):
        return None
    return hashlib.blake2b(json.dumps(sorted(images)).encode(), digest_size=16).hexdigest()


def training_tasks(
    config: ObjectConfig, object_tasks: Sequence[ObjectTask], starts: Sequence[int], labels: Sequence[np.ndarray]
) -> list[Task]:
    """Make the task that is trained of each task of objects: its training images, each with its label.

    Args:
        starts: The id, in the source, of the first image of each task's set.
        labels: `[K]` the labels of each task's classes.

    Raises:
        UserError: a task has no image to train on.
    """
    tasks: list[Task] = []
    for number, (objects, start, own) in enumerate(zip(object_tasks, starts, labels, strict=True)):
        train, test, seed = objects.items(train=True), objects.items(train=False), config.seed
        validation = sample(train, round(config.data.validation * len(train)), derived_seed(seed, VALIDATION, number))
        items = np.setdiff1d(train, validation)
        if not len(items):
            raise UserError(f"data.validation {config.data.validation:g} leaves {objects.name} no image to train on")
        images = {"train": items, "test": test, "both": np.concatenate([items, test])}[config.data.importance]
        measured = sample(images, config.data.importance_images, derived_seed(seed, IMPORTANCE, number))
        task = Task(
            objects.name,
            start + items,
            own[objects.positions[items]],
            own,
            earlier_classes=np.unique(np.concatenate([np.empty(0, np.int64), *labels[:number]])),
            importance_items=start + measured,
            validation_items=start + validation,
            validation_targets=own[objects.positions[validation]],
        )
        tasks.append(task)
    return tasks


def joint_task(tasks: Sequence[Task]) -> Task:
    """Make one task of all."""
    return Task(
        "all tasks",
        np.concatenate([task.items for task in tasks]),
        np.concatenate([task.targets for task in tasks]),
        np.unique(np.concatenate([task.classes for task in tasks])),
        importance_items=np.concatenate([task.importance_items for task in tasks]),
        validation_items=np.concatenate([task.validation_items for task in tasks]),
        validation_targets=np.concatenate([task.validation_targets for task in tasks]),
    )
