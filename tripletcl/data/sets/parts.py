"""What a reader finds in a published set, and the set that becomes of it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from tripletcl.data.sets.object_set import (
    Images,
    ObjectSet,
    check_labels,
    class_positions,
    images_a_class,
    shown,
)
from tripletcl.errors import UserError

log = logging.getLogger("tripletcl")

Incomplete = Literal["refuse", "drop"]
"""What becomes of a class with fewer than two training images or no test image."""

Part = tuple[Images, Sequence[int] | np.ndarray]
"""The images of a split and the label of each."""


class Parts(NamedTuple):
    """The names of the classes, and the images and labels (positions in classes) of the two splits."""

    classes: Sequence[str]
    train: Part
    test: Part


def joined(
    name: str, parts: Parts, classes: Sequence[str] | None = None, incomplete: Incomplete = "refuse"
) -> ObjectSet:
    """Put the parts together as a set.

    Args:
        name: The set's.
        parts: What was read.
        classes: The names of those classes that are wanted, in their order; None: all.
        incomplete: "refuse": raise; "drop": leave such classes out, and say so in the log.

    Raises:
        UserError: No class of one of the names; or as `ObjectSet`.
    """
    images, labels, train = _stacked(name, parts)
    check_labels(name, labels, len(parts.classes))
    wanted = list(parts.classes) if classes is None else list(classes)
    positions = class_positions(name, parts.classes, wanted)
    if incomplete == "drop":
        positions = _complete(name, parts.classes, positions, labels, train)
    if positions.tolist() == list(range(len(parts.classes))):
        return ObjectSet(name, tuple(parts.classes), images, labels, train)
    items = np.flatnonzero(np.isin(labels, positions))
    new_labels = np.full(len(parts.classes), -1, dtype=np.int64)
    new_labels[positions] = np.arange(len(positions))
    return ObjectSet(
        name,
        tuple(parts.classes[position] for position in positions),
        images[items] if isinstance(images, np.ndarray) else [images[item] for item in items],
        new_labels[labels[items]],
        int((items < train).sum()),
    )


def _stacked(name: str, parts: Parts) -> tuple[Images, np.ndarray, int]:
    """All images, training's first, their labels `[N]`, and how many are training's."""
    (first, _), (second, _) = parts.train, parts.test
    for split, (items, labels) in {"training": parts.train, "test": parts.test}.items():
        if len(items) != len(labels):
            raise UserError(f"the set {name!r} has {len(items)} {split} images, but {len(labels)} labels of them")
    labels = np.concatenate([np.asarray(labels, dtype=np.int64) for _, labels in (parts.train, parts.test)])
    if not (isinstance(first, np.ndarray) and isinstance(second, np.ndarray)):
        return [*first, *second], labels, len(first)
    if first.shape[1:] != second.shape[1:]:
        shapes = f"{list(first.shape[1:])} for training and {list(second.shape[1:])} for testing"
        raise UserError(f"the set {name!r} has images of two shapes, {shapes}")
    return np.concatenate([first, second]), labels, len(first)


def _complete(name: str, classes: Sequence[str], positions: np.ndarray, labels: np.ndarray, train: int) -> np.ndarray:
    """Those of the positions whose class has two training images and one test image."""
    learned, tested = images_a_class(labels, train, len(classes))
    keep = (learned[positions] >= 2) & (tested[positions] >= 1)
    if not keep.all():
        dropped = shown([classes[position] for position in positions[~keep]])
        log.warning("the set %r goes on without %s, which lack training or test images", name, dropped)
    return positions[keep]
