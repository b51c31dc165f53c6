"""An object-recognition set: images, each of one class, split into training and test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from tripletcl.errors import UserError

Images = list[Path] | np.ndarray
"""Image files, or pixels uint8 `[N, C, H, W]` with 1 or 3 channels."""

NAMES_SHOWN = 8


@dataclass(frozen=True, eq=False)
class ObjectSet:
    """N images of K classes, the training images first.

    Attributes:
        name: What messages and reports call the set.
        classes: The K class names, in the order of the labels.
        images: N image files, or their pixels as uint8 `[N, C, H, W]` with 1 or 3 channels.
        labels: `[N]` int64, each image's class as its position in `classes`.
        train: How many of the images, from the first on, are for training; the others are for testing.

    Raises:
        UserError: There is no class, the sizes do not belong together, a label is no position in `classes`, or a class
            has fewer than two training images or no test image.
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

    @property
    def train_items(self) -> np.ndarray:
        """The ids of the training images."""
        return np.arange(self.train)

    @property
    def test_items(self) -> np.ndarray:
        """The ids of the test images."""
        return np.arange(self.train, len(self))

    def class_items(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of the training images and those of the test images of some classes, each in ascending order.

        Raises:
            UserError: The set has no class of one of the names.
        """
        items = np.flatnonzero(np.isin(self.labels, class_positions(self.name, self.classes, names)))
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
                is_now = f"{kind} {list(shape)}"
                raise UserError(f"the pixels of the set {self.name!r} are {is_now}, allowed is uint8 [N, 1 or 3, H, W]")

    def _check_classes(self) -> None:
        check_labels(self.name, self.labels, len(self.classes))
        train, test = images_a_class(self.labels, self.train, len(self.classes))
        problems = {"no training image": train == 0, "only one training image": train == 1, "no test image": test == 0}
        for problem, has_it in problems.items():
            if has_it.any():
                names = shown([name for name, it in zip(self.classes, has_it, strict=True) if it])
                raise UserError(
                    f"the set {self.name!r} has {problem} of {names}; a class needs two training images and one test "
                    "image at least (`incomplete: drop` leaves others out)"
                )


def check_labels(name: str, labels: np.ndarray, count: int) -> None:
    """See that every label is a position among so many classes.

    Raises:
        UserError: One is not: the first.
    """
    wrong = np.flatnonzero((labels < 0) | (labels >= count))
    if len(wrong):
        first, allowed = wrong[0], f"allowed is 0 to {count - 1}"
        raise UserError(f"image {first} of the set {name!r} has label {labels[first]}, {allowed}")


def images_a_class(labels: np.ndarray, train: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """How many training and how many test images each class has, `[K]` each."""
    return np.bincount(labels[:train], minlength=count), np.bincount(labels[train:], minlength=count)


def class_positions(name: str, classes: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """The positions of the wanted names among a set's classes.

    Raises:
        UserError: The set has no class of one of the names, or a name is wanted twice.
    """
    known = {known: position for position, known in enumerate(classes)}
    for label in wanted:
        if label not in known:
            close = get_close_matches(label, classes, n=3)
            meant = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has {shown(classes)}"
            raise UserError(f"the set {name!r} has no class {label!r}; {meant}")
    if double := [label for label in wanted if list(wanted).count(label) > 1]:
        raise UserError(f"the class {double[0]!r} of the set {name!r} is named twice")
    return np.array([known[label] for label in wanted], dtype=np.int64)


def shown(names: Sequence[str]) -> str:
    """Names for a message, not endless."""
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(map(repr, names[:NAMES_SHOWN])) + more
