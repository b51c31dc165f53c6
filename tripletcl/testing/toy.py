"""A sequence so small that a run takes a moment: random inputs, an MLP with one head, tasks that contradict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tripletcl import group
from tripletcl.continual import Batch, Method, RunFolder, SequenceRunner, Stability, Task, Training
from tripletcl.continual.device import compute_on
from tripletcl.data.source import ALL
from tripletcl.embedding.readout import AnalyticReadout
from tripletcl.progress import listening

ITEMS, WIDTH = 120, 6


class ToySource:
    """Random inputs; the augmentation adds noise from the generator it is given."""

    def __init__(self) -> None:
        self.inputs = torch.randn(ITEMS, WIDTH, generator=torch.Generator().manual_seed(1))

    def batch(self, ids: np.ndarray, generator: torch.Generator | None, mine: slice = ALL) -> Tensor:
        inputs = self.inputs[torch.from_numpy(ids)]
        if generator is not None:
            inputs = inputs + 0.1 * torch.randn(inputs.shape, generator=generator, dtype=inputs.dtype)
        return inputs[mine]


class ToyLearner(nn.Module):
    """An MLP with dropout, so that a run also draws from torch's global generator."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
        self.analytic: AnalyticReadout | None = None

    @property
    def protected(self) -> nn.Module:
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        return self.readout(self.represent(inputs))

    def represent(self, inputs: Tensor) -> Tensor:
        return self.net[:3](inputs)

    def readout(self, representation: Tensor) -> Tensor:
        if self.analytic is not None and self.analytic.classes:
            return self.analytic(representation)
        return self.net[3](representation)

    def answers(self, representation: Tensor, out: Tensor) -> Sequence[Tensor]:
        return (out,)

    def trunk(self) -> Iterable[nn.Parameter]:
        return self.net[:3].parameters()

    def begin_task(self, task: Task) -> None:
        pass

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        return group.mean((out - batch.targets).square())

    def install_readout(self, width: int, seed: int, targets: str) -> None:
        self.analytic = AnalyticReadout([8], width, seed, (3,))

    def expand(self, representation: Tensor) -> Tensor:
        assert self.analytic is not None
        return self.analytic.expand(representation)

    def indicators(self, batch: Batch) -> Tensor:
        return torch.ones(len(batch.inputs), 1)  # a toy task is one class

    def read_by_vectors(self) -> bool:
        return False

    def class_vectors(self, classes: np.ndarray, fit: bool = False) -> Tensor:
        raise NotImplementedError

    def set_readout(self, weight: Tensor, classes: np.ndarray, levels: Sequence[float] = ()) -> None:
        assert self.analytic is not None
        self.analytic.solve(weight, torch.eye(3)[torch.from_numpy(classes) % 3])

    @torch.no_grad()
    def score(self, out: Tensor, batch: Batch) -> Tensor:
        return torch.exp(-(out - batch.targets).square().mean(dim=1))

    def functions(
        self, task: Task, inputs: Callable[[np.ndarray], Iterator[Tensor]]
    ) -> Iterable[tuple[Callable[[Tensor], Tensor], Iterable[Tensor]]]:
        yield self.forward, inputs(task.importance_items)


def toy_tasks(count: int = 3) -> list[Task]:
    """Tasks with targets that contradict one another, and a last batch that is smaller than the others."""
    generator = np.random.default_rng(0)
    ids = np.array_split(np.arange(ITEMS), count)
    return [
        Task(
            f"task {i + 1}",
            items,
            generator.normal(size=(len(items), 3)).astype(np.float32),
            np.array([i]),
            np.arange(i),
            items,
        )
        for i, items in enumerate(ids)
    ]


def run_toy(
    folder: Path,
    method: Method,
    *,
    tasks: list[Task] | None = None,
    training: Training | None = None,
    stop_after: int | None = None,
    seed: int = 0,
    stability: Stability = Stability(),
    learner: Any | None = None,
    source: Any | None = None,
) -> tuple[Any, RunFolder]:
    """Train a toy in a folder; `stop_after` raises KeyboardInterrupt at that step or stage, as a kill would."""
    learner, calls, source = learner or ToyLearner(), 0, source or ToySource()
    training = training or Training(epochs=3, batch_size=16, lr=0.05, checkpoint_minutes=0)

    def stop(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if stop_after is not None and calls >= stop_after:
            raise KeyboardInterrupt

    def finish_stage(stage: int) -> dict[str, Any]:
        if group.size() == 1:  # of several processes only one is here, and all of them stop at the same step
            stop()
        learner.eval()
        with torch.no_grad():
            return {"outputs": learner(source.batch(np.arange(5), None)).tolist()}

    with group.first():
        run = RunFolder(folder, "toy: 1\n")
    runner = SequenceRunner(
        learner,
        tasks or toy_tasks(),
        method,
        source,
        training,
        compute_on("cpu"),
        run,
        finish_stage,
        seed=seed,
        stability=stability,
    )
    with listening(stop):
        runner.run()
    return learner, run
