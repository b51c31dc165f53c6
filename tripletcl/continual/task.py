"""What the training loop knows of data: tasks, batches, and where inputs come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.source import to_device


class InputSource(Protocol):
    """Where a sample's input comes from: decoded images, or the cached features of a frozen trunk."""

    def batch(self, ids: np.ndarray, generator: torch.Generator | None) -> Tensor:
        """The inputs `[B, ...]` of the given items on the device; augmented where a generator is given."""
        ...


@dataclass(frozen=True)
class Task:
    """One task of a sequence. The loop and the methods give its targets no meaning: only the learner does.

    Attributes:
        name: What tables and plots call it.
        items: `[M]` ids of the training inputs.
        targets: `[M, ...]` the target of each item.
        classes: `[K]` what the task teaches (fact ids, class ids), as the learner reads it.
        seen: The classes of the tasks before this one.
        importance_items: `[M']` ids of the inputs, labelled or not, that importance is computed on.
        importance_subset: They were restricted to the images of chosen facts; the task may then have none.
        validation_items: `[V]` ids of the inputs that are held out of training, to choose settings by.
        validation_targets: `[V, ...]` their targets.
    """

    name: str
    items: np.ndarray
    targets: np.ndarray
    classes: np.ndarray
    seen: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    importance_items: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    importance_subset: bool = False
    validation_items: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    validation_targets: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.items)


@dataclass(frozen=True)
class Batch:
    """Inputs `[B, ...]`, targets `[B, ...]` (both on the device) and the item ids `[B]` they belong to."""

    inputs: Tensor
    targets: Tensor
    items: np.ndarray


def derived_seed(*parts: int) -> int:
    """A seed that depends on every part, so that no random state has to be stored to go on in mid-task."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def steps_per_epoch(task: Task, batch_size: int) -> int:
    """Batches of one epoch; the last may be smaller."""
    return -(-len(task) // batch_size)


def epoch_batches(
    task: Task, source: InputSource, *, batch_size: int, seed: tuple[int, ...], start: int, device: torch.device
) -> Iterator[Batch]:
    """The shuffled, augmented batches of one epoch from batch `start` on.

    Order and augmentation are functions of seed and batch number alone: an epoch taken up in the middle goes on with
    exactly the batches it would have had.
    """
    order = np.random.default_rng(derived_seed(*seed)).permutation(len(task))
    for step in range(start, steps_per_epoch(task, batch_size)):
        rows = order[step * batch_size : (step + 1) * batch_size]
        generator = torch.Generator(device).manual_seed(derived_seed(*seed, step))
        inputs = source.batch(task.items[rows], generator)
        yield Batch(inputs, to_device(torch.from_numpy(task.targets[rows]), device), task.items[rows])


def plain_batches(source: InputSource, items: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    """The inputs of the items in their order, without augmentation."""
    for start in range(0, len(items), batch_size):
        yield source.batch(items[start : start + batch_size], None)


def validation_batches(task: Task, source: InputSource, *, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """The held-out items with their targets, in their order, without augmentation."""
    for start in range(0, len(task.validation_items), batch_size):
        rows = slice(start, start + batch_size)
        targets = to_device(torch.from_numpy(task.validation_targets[rows]), device)
        yield Batch(source.batch(task.validation_items[rows], None), targets, task.validation_items[rows])
