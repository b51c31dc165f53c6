"""The toy sequence of `tripletcl.testing`, and one with a head for each task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm.layers  # noqa: F401  # what is imported before the first test is not searched for garbage in every run
import torch
from torch import Tensor, nn

from tripletcl import group
from tripletcl.continual import Batch, Method, RunFolder, Task
from tripletcl.testing.toy import ITEMS, WIDTH, ToyLearner, ToySource, run_toy, toy_tasks

__all__ = ["ToyLearner", "ToySource", "run_toy", "toy_tasks"]


class MultiHeadToy(nn.Module):
    """A trunk that the tasks share and a head for each, with dropout in both; targets are class ids.

    Joint training has several heads in play: an item is distinguished from the classes of its own head only.
    """

    def __init__(self, tasks: Sequence[Task], seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 8), nn.ReLU())
            self.heads = nn.ModuleList(nn.Sequential(nn.Dropout(0.2), nn.Linear(8, len(t.classes))) for t in tasks)
        self.classes = [task.classes.tolist() for task in tasks]
        self.playing = list(range(len(tasks)))
        self.before: list[int] = []

    @property
    def protected(self) -> nn.Module:
        return self.net

    def forward(self, inputs: Tensor) -> Tensor:
        return self.readout(self.represent(inputs))

    def represent(self, inputs: Tensor) -> Tensor:
        return self.net(inputs)

    def readout(self, representation: Tensor) -> Tensor:
        return torch.cat([self.heads[head](representation) for head in self.playing], dim=1)

    def answers(self, representation: Tensor, out: Tensor) -> Sequence[Tensor]:
        return [self.heads[head](representation) for head in self.before]

    def trunk(self) -> Iterable[nn.Parameter]:
        return self.net.parameters()

    def begin_task(self, task: Task) -> None:
        self.playing = [head for head, classes in enumerate(self.classes) if set(classes) <= set(task.classes)]
        self.before = [head for head, classes in enumerate(self.classes) if set(classes) <= set(task.earlier_classes)]

    def columns(self) -> tuple[Tensor, Tensor]:
        """The class and the head of each column of the outputs."""
        together = [(c, head) for head in self.playing for c in self.classes[head]]
        classes, heads = torch.tensor(together).T
        return classes, heads

    def of_own_head(self, out: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs with those of other heads masked, and the columns of the targets."""
        classes, heads = self.columns()
        true = (targets[:, None] == classes).long().argmax(dim=1)
        return out.masked_fill(heads != heads[true][:, None], float("-inf")), true

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        losses = nn.functional.cross_entropy(*self.of_own_head(out, batch.targets), reduction="sum")
        return losses / group.total(len(out))

    @torch.no_grad()
    def score(self, out: Tensor, batch: Batch) -> Tensor:
        masked, true = self.of_own_head(out, batch.targets)
        return (masked.argmax(dim=1) == true).float()

    def functions(
        self, task: Task, inputs: Callable[[np.ndarray], Iterator[Tensor]]
    ) -> Iterable[tuple[Callable[[Tensor], Tensor], Iterable[Tensor]]]:
        yield self.forward, inputs(task.importance_items)


def multi_head_tasks(held_out: int = 0) -> list[Task]:
    """Three tasks of classes of their own, each a linear map of the inputs; the last items of each are held out."""
    generator, inputs, tasks = np.random.default_rng(0), ToySource().inputs.numpy(), []
    for i, classes in enumerate(([0, 1, 2], [3, 4], [5, 6, 7])):
        items = np.arange(ITEMS)[i::3]
        targets = classes[0] + (inputs[items] @ generator.normal(size=(WIDTH, len(classes)))).argmax(axis=1)
        end = len(items) - held_out
        task = Task(f"task {i + 1}", items[:end], targets[:end], np.array(classes), np.arange(classes[0]), items[:end])
        tasks.append(replace(task, validation_items=items[end:], validation_targets=targets[end:]))
    return tasks


def joint_task(tasks: Sequence[Task]) -> Task:
    """All tasks at once."""
    parts = [np.concatenate([getattr(task, name) for task in tasks]) for name in ("items", "targets", "classes")]
    return Task("joint", *parts, importance_items=parts[0])


def weights(learner: nn.Module) -> dict[str, Tensor]:
    """A copy of the learner's weights."""
    return {name: p.detach().clone() for name, p in learner.named_parameters()}


def run_multi_head(folder: Path, method: Method, **settings: Any) -> tuple[MultiHeadToy, RunFolder]:
    """Train the toy with a head for each task; `settings` as in `run_toy`."""
    tasks = multi_head_tasks()
    return run_toy(folder, method, **{"learner": MultiHeadToy(tasks), "tasks": tasks, **settings})


def assert_same(left: nn.Module, right: nn.Module) -> None:
    """Bit for bit."""
    for name, value in left.state_dict().items():
        assert torch.equal(value, right.state_dict()[name]), name
