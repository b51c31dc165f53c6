"""A set of labelled images, split into training and test images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tripletcl.errors import UserError

log = logging.getLogger("tripletcl")

Images = list[Path] | np.ndarray
"""Image files, or pixels uint8 `[N, C, H, W]` with 1 or 3 channels."""

Labelled = tuple[Images, Sequence[int] | np.ndarray]
"""Images, and the label of each."""

Incomplete = Literal["refuse", "drop"]
"""The treatment of a class with fewer than two training images or no test image."""

NAMES_IN_MESSAGE = 8


class RawSet(NamedTuple):
    """The content of a set as its reader returns it, not checked yet; labels are positions in `classes`."""

    classes: Sequence[str]
    train: Labelled
    test: Labelled


@dataclass(frozen=True, eq=False)
class ObjectSet:
    """N images of K classes, the training images first.

    Attributes:
        name: The name in messages and reports.
        classes: The K class names, in the order of the labels.
        images: N image files, or their pixels as uint8 `[N, C, H, W]` with 1 or 3 channels.
        labels: `[N]` int64, each image's class as its position in `classes`.
        train: The number of training images; the others are test images.

    Raises:
        UserError: There is no class, the sizes do not agree, a label is no position in `classes`, or a class has fewer
            than two training images or no test image.
    """

    name: str
    classes: tuple[str, ...]
    images: Images
    labels: np.ndarray
    train: int

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_classes()

    def __len__(self) -> int:
        return len(self.labels)

    def class_items(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the training images and those of the test images of some classes, each in ascending order.

        Raises:
            UserError: The set has no class of one of the names.
        """
        items = np.flatnonzero(np.isin(self.labels, _class_positions(self.name, self.classes, names)))
        return items[items < self.train], items[items >= self.train]

    def _check_sizes(self) -> None:
        if not self.classes:
            raise UserError(f"the set {self.name!r} has no classes")
        if double := [name for name in self.classes if self.classes.count(name) > 1]:
            raise UserError(f"the set {self.name!r} has the class {double[0]!r} twice")
        if self.labels.ndim != 1 or self.labels.dtype.kind != "i":
            raise UserError(f"the labels of the set {self.name!r} are not one whole number for each image")
        if len(self.images) != len(self.labels):
            raise UserError(f"the set {self.name!r} has {len(self.images)} images, but {len(self.labels)} labels")
        if not 0 <= self.train <= len(self.labels):
            raise UserError(
                f"the set {self.name!r} has {len(self)} images, of which {self.train} cannot be for training"
            )
        if isinstance(self.images, np.ndarray):
            shape, kind = self.images.shape, self.images.dtype
            if kind != np.uint8 or len(shape) != 4 or shape[1] not in (1, 3):
                given = f"{kind} {list(shape)}"
                raise UserError(f"the pixels of the set {self.name!r} are {given}, allowed is uint8 [N, 1 or 3, H, W]")

    def _check_classes(self) -> None:
        _check_labels(self.name, self.labels, len(self.classes))
        train, test = _images_per_class(self.labels, self.train, len(self.classes))
        problems = {"no training image": train == 0, "only one training image": train == 1, "no test image": test == 0}
        for problem, affected in problems.items():
            if affected.any():
                names = _quoted([self.classes[position] for position in np.flatnonzero(affected)])
                raise UserError(
                    f"the set {self.name!r} has {problem} of {names}; a class needs at least two training images and "
                    "one test image (`incomplete: drop` leaves out the others)"
                )


def build_set(
    name: str, raw: RawSet, classes: Sequence[str] | None = None, incomplete: Incomplete = "refuse"
) -> ObjectSet:
    """Check the content of a set, and select classes from it.

    Args:
        name: The set's name.
        raw: Its content.
        classes: The names of the classes to select, in their order; None selects all.
        incomplete: "refuse" raises; "drop" leaves incomplete classes out, with a warning.

    Raises:
        UserError: There is no class of one of the names; or as `ObjectSet`.
    """
    images, labels, train = _stack(name, raw)
    _check_labels(name, labels, len(raw.classes))
    positions = _class_positions(name, raw.classes, raw.classes if classes is None else classes)
    if incomplete == "drop":
        positions = _drop_incomplete(name, raw.classes, positions, labels, train)
    if positions.tolist() == list(range(len(raw.classes))):
        return ObjectSet(name, tuple(raw.classes), images, labels, train)
    items = np.flatnonzero(np.isin(labels, positions))
    new_labels = np.full(len(raw.classes), -1, dtype=np.int64)  # [K], by old label
    new_labels[positions] = np.arange(len(positions))
    return ObjectSet(
        name,
        tuple(raw.classes[position] for position in positions),
        images[items] if isinstance(images, np.ndarray) else [images[item] for item in items],
        new_labels[labels[items]],
        int((items < train).sum()),
    )


def _stack(name: str, raw: RawSet) -> tuple[Images, np.ndarray, int]:
    """All images, training's first, their labels `[N]`, and the number of training images."""
    for split, (images, labels) in {"training": raw.train, "test": raw.test}.items():
        if len(images) != len(labels):
            raise UserError(f"the set {name!r} has {len(images)} {split} images, but {len(labels)} labels of them")
    (train, train_labels), (test, test_labels) = raw.train, raw.test
    labels = np.concatenate([np.asarray(labels, dtype=np.int64) for labels in (train_labels, test_labels)])
    if not (isinstance(train, np.ndarray) and isinstance(test, np.ndarray)):
        return [*train, *test], labels, len(train)
    if train.shape[1:] != test.shape[1:]:
        shapes = f"{list(train.shape[1:])} for training and {list(test.shape[1:])} for testing"
        raise UserError(f"the set {name!r} has images of two shapes, {shapes}")
    return np.concatenate([train, test]), labels, len(train)


def _check_labels(name: str, labels: np.ndarray, count: int) -> None:
    """Raise unless every label is the position of one of `count` classes."""
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if len(wrong):
        first, allowed = wrong[0], f"allowed is 0 to {count - 1}"
        raise UserError(f"image {first} of the set {name!r} has label {labels[first]}, {allowed}")


def _images_per_class(labels: np.ndarray, train: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of training images and of test images of each class, `[K]` each."""
    return np.bincount(labels[:train], minlength=count), np.bincount(labels[train:], minlength=count)


def _class_positions(name: str, classes: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """The positions of some names among a set's classes."""
    positions = {label: position for position, label in enumerate(classes)}
    for label in names:
        if label not in positions:
            close = get_close_matches(label, classes, n=3)
            hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {_quoted(classes)}"
            raise UserError(f"the set {name!r} has no class {label!r}; {hint}")
    if double := [label for label in names if list(names).count(label) > 1]:
        raise UserError(f"the class {double[0]!r} of the set {name!r} is named twice")
    return np.array([positions[label] for label in names], dtype=np.int64)


def _drop_incomplete(
    name: str, classes: Sequence[str], positions: np.ndarray, labels: np.ndarray, train: int
) -> np.ndarray:
    """The positions whose class has two training images and one test image."""
    train_counts, test_counts = _images_per_class(labels, train, len(classes))
    complete = (train_counts[positions] >= 2) & (test_counts[positions] >= 1)
    if not complete.all():
        dropped = _quoted([classes[position] for position in positions[~complete]])
        log.warning("the set %r is used without %s, which lack training or test images", name, dropped)
    return positions[complete]


def _quoted(names: Sequence[str]) -> str:
    """Names for a message, not endless."""
    more = f" and {len(names) - NAMES_IN_MESSAGE} more" if len(names) > NAMES_IN_MESSAGE else ""
    return ", ".join(map(repr, names[:NAMES_IN_MESSAGE])) + more
