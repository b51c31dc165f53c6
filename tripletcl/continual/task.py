"""Data as the training loop sees it: tasks, batches, and sources of inputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from tripletcl import group
from tripletcl.data.source import ALL, to_device

if TYPE_CHECKING:
    from scipy.sparse import csr_array


class InputSource(Protocol):
    """Gives the inputs of items: decoded images, or the cached features of a frozen trunk."""

    def batch(self, ids: np.ndarray, generator: torch.Generator | None, mine: slice = ALL) -> Tensor:
        """The inputs `[B, ...]` of the given items on the device, augmented if a generator is given.

        Args:
            ids: `[B]` the items.
            generator: Gives the random numbers of the whole batch, whatever part of it is wanted.
            mine: The rows that are wanted.
        """
        ...


@dataclass(frozen=True)
class Task:
    """One task of a sequence. Only the learner knows the meaning of its targets, the loop and the methods do not.

    Attributes:
        name: Its name in tables and plots.
        items: `[M]` ids of the training inputs.
        targets: `[M, ...]` the target of each item; `[M, K]` may be sparse, as those of facts are.
        classes: `[K]` ids of what the task teaches: facts or classes, as the learner knows them.
        earlier_classes: The classes of the tasks before this one.
        importance_items: `[M']` ids of the inputs, labelled or not, on which importance is computed.
        importance_subset: True if they are restricted to the images of some facts; the task may then have none.
        validation_items: `[V]` ids of the inputs that are held out of training, for choosing settings.
        validation_targets: `[V, ...]` their targets.
        chooses_weight: False for a task with too few items for `lam: auto`: the weight chosen last is kept.
        earlier_unknown: True if the labels do not mention the classes of earlier tasks: whether an item shows one of
            them is then unknown; otherwise it shows none.
    """

    name: str
    items: np.ndarray
    targets: np.ndarray | csr_array
    classes: np.ndarray
    earlier_classes: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    importance_items: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    importance_subset: bool = False
    validation_items: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    validation_targets: np.ndarray | csr_array = field(default_factory=lambda: np.empty(0, np.int64))
    chooses_weight: bool = True
    earlier_unknown: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def batch(self, inputs: Tensor, rows: np.ndarray | slice) -> Batch:
        """Combine the inputs of some of its items with their targets, on the device of the inputs."""
        return Batch(inputs, _dense(self.targets[rows], inputs.device), self.items[rows])

    def validation_batch(self, inputs: Tensor, rows: np.ndarray | slice) -> Batch:
        """Combine the inputs of some of its validation items with their targets."""
        return Batch(inputs, _dense(self.validation_targets[rows], inputs.device), self.validation_items[rows])


@dataclass(frozen=True)
class Batch:
    """Inputs `[B, ...]` and targets `[B, ...]`, both on the device, and their item ids `[B]`.

    Attributes:
        seed: Of what layers draw at random for these rows, where several processes share a batch.
        counts: False where they share fewer rows than they are: a process without one gets a row that counts nothing.
    """

    inputs: Tensor
    targets: Tensor
    items: np.ndarray
    seed: int = 0
    counts: bool = True


def _dense(targets: np.ndarray | csr_array, device: torch.device) -> Tensor:
    """Copy targets `[B, ...]` to a device; sparse ones become dense only here, batch by batch."""
    return to_device(torch.from_numpy(targets if isinstance(targets, np.ndarray) else targets.toarray()), device)


def derived_seed(*parts: int) -> int:
    """A seed that depends on every part, so that no random state is needed to resume within a task."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0]) >> 1


def steps_per_epoch(task: Task, batch_size: int) -> int:
    """The number of batches of one epoch; the last may be smaller."""
    return -(-len(task) // batch_size)


def epoch_batches(
    task: Task, source: InputSource, *, batch_size: int, seed: tuple[int, ...], start: int, device: torch.device
) -> Iterator[Batch]:
    """Yield the shuffled, augmented batches of one epoch from batch `start` on; of each, the rows of this process.

    Order and augmentation are functions of seed and batch number only: a resumed epoch has the same batches as an
    uninterrupted one, and any number of processes share the same.
    """
    order = np.random.default_rng(derived_seed(*seed)).permutation(len(task))
    for step in range(start, steps_per_epoch(task, batch_size)):
        rows = order[step * batch_size : (step + 1) * batch_size]
        own_seed = derived_seed(*seed, step)
        generator = torch.Generator(device).manual_seed(own_seed)
        if group.size() == 1:
            yield task.batch(source.batch(task.items[rows], generator), rows)
            continue
        share = group.share(len(rows))
        counts = share.start < share.stop
        mine = share if counts else slice(1)
        batch = task.batch(source.batch(task.items[rows], generator, mine), rows[mine])
        yield replace(batch, seed=own_seed, counts=counts)


def plain_batches(source: InputSource, items: np.ndarray, batch_size: int) -> Iterator[Tensor]:
    """Yield the inputs of the items in order, without augmentation."""
    for start in range(0, len(items), batch_size):
        yield source.batch(items[start : start + batch_size], None)


def validation_batches(task: Task, source: InputSource, *, batch_size: int) -> Iterator[Batch]:
    """Yield the held-out items with their targets, in order, without augmentation."""
    for start in range(0, len(task.validation_items), batch_size):
        rows = slice(start, start + batch_size)
        yield task.validation_batch(source.batch(task.validation_items[rows], None), rows)
