"""From sets of labelled images to the parts that are learned one after another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tripletcl.config import ObjectConfig
from tripletcl.config.objects import ObjectData, SetOfObjects
from tripletcl.data.sets import ObjectSet, read_object_set
from tripletcl.errors import UserError
from tripletcl.experiments.inputs import cache_folder

NAMED_CLASSES = 2
"""A part of at most so many classes is called by them; one of more by its number."""


@dataclass(frozen=True)
class Part:
    """What one task teaches: some classes of a set, their pixels in some order.

    Attributes:
        name: What tables call it.
        objects: The set.
        number: The set's number among those of the run.
        classes: The names of the classes, in the order of the labels.
        order: Which order of the pixels; 0 is their own.
    """

    name: str
    objects: ObjectSet
    number: int
    classes: tuple[str, ...]
    order: int = 0

    @property
    def positions(self) -> np.ndarray:
        """`[N]` each image's position in `classes`; -1 where it is of another class of the set."""
        place = {name: position for position, name in enumerate(self.classes)}
        return np.array([place.get(name, -1) for name in self.objects.classes])[self.objects.labels]

    def items(self, train: bool) -> np.ndarray:
        """Ids, in the set, of the part's training or test images."""
        for_training, for_testing = self.objects.class_items(self.classes)
        return for_training if train else for_testing


def read_sets(config: ObjectConfig) -> list[ObjectSet]:
    """The sets in the order that they are learned.

    Raises:
        UserError: one is not there, or is not as it should be.
    """
    given = {entry.label: entry for entry in config.data.sets}
    if not given:
        raise UserError("data.sets is empty: name at least one set of images to learn")
    return [_read(given[name]) for name in config.data.set_names]


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


def parts_of(data: ObjectData, sets: Sequence[ObjectSet]) -> list[Part]:
    """The parts in the order that they are learned.

    Raises:
        UserError: a set has fewer classes than it is to be dealt to tasks.
    """
    return [part for number, objects in enumerate(sets) for part in _parts_of_set(data, objects, number)]


def _parts_of_set(data: ObjectData, objects: ObjectSet, number: int) -> list[Part]:
    name, classes = objects.name, objects.classes
    dealt = [(name, classes)]
    if data.split is not None:
        if len(classes) < data.split:
            raise UserError(f"{name} has {len(classes)} classes, which cannot be dealt to {data.split} tasks")
        groups = [tuple(classes[i] for i in ids) for ids in np.array_split(np.arange(len(classes)), data.split)]
        few = max(map(len, groups)) <= NAMED_CLASSES
        dealt = [(f"{name} {'/'.join(group) if few else position}", group) for position, group in enumerate(groups, 1)]
    return [
        Part(label if order == 0 else f"{label} permuted {order}", objects, number, group, order)
        for order in range(data.permutations or 1)
        for label, group in dealt
    ]


def some_paths(part: Part, count: int) -> list[Path]:
    """Files of some of the part's training images, spread evenly over its classes; none where they are in memory."""
    if isinstance(part.objects.images, np.ndarray):
        return []
    items = part.items(train=True)
    items = items[np.argsort(part.positions[items], kind="stable")]
    chosen = items[np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)]
    return [Path(os.path.abspath(part.objects.images[item])) for item in chosen]  # noqa: PTH100 - links keep their names
