"""A sequence of tasks, one after another, with checkpoints: stop it at any moment, start it again, get the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from tripletcl.continual.checkpoint import (
    State,
    load_optimizer_state,
    optimizer_state,
    random_states,
    restore_random_states,
)
from tripletcl.continual.loop import train_task
from tripletcl.continual.method import Learner, Method
from tripletcl.continual.optimization import Training, build_optimizer
from tripletcl.continual.run_folder import Position, RunFolder
from tripletcl.continual.task import InputSource, Task, derived_seed, plain_batches, steps_per_epoch

FinishStage = Callable[[int], dict[str, Any]]
"""Stage (0 = before training, t = after task t) to the figures to keep."""

Progress = Callable[[str, int, int, float], None]
"""(task name, step, steps in the task, loss): called every few steps."""


class SequenceRunner:
    """Trains a learner on tasks one after another; `run` does it all.

    Args:
        learner: The model with its loss (`Learner`), on the accelerator's device.
        folder: Where checkpoints and metrics go; an interrupted run there is taken up.
        finish_stage: Called before training and after every task; what it returns goes to the metrics.
    """

    def __init__(
        self,
        learner: Learner,
        tasks: Sequence[Task],
        method: Method,
        source: InputSource,
        training: Training,
        accelerator: Accelerator,
        folder: RunFolder,
        finish_stage: FinishStage,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.learner, self.tasks, self.method, self.source = learner, tasks, method, source
        self.training, self.accelerator, self.folder, self.finish_stage = training, accelerator, folder, finish_stage
        self.seed, self.progress = seed, progress
        self.names = {p: name for name, p in learner.named_parameters()}
        self.seconds = 0.0
        """Time spent in training and in the method's hooks, evaluation left out; goes on over a resume."""

    def run(self) -> None:
        """Train every task that the folder has not seen finished."""
        self.method.start(self.learner, self._inputs)
        with self.folder.locked():
            start, state = self.folder.newest() or (Position(), None)
            self.folder.forget_after(start)
            if state is None:
                torch.manual_seed(derived_seed(self.seed))
                self.folder.log("stage", start, after=0, **self.finish_stage(0))
            for stage in range(start.stage, len(self.tasks)):
                position = start if stage == start.stage else Position(stage)
                self._run_task(position, state)
                state = None
            if state is not None:  # all was done: leave the learner as it was at the end
                self._restore(state)

    def _run_task(self, position: Position, state: State | None) -> None:
        task, clock = self.tasks[position.stage], time.monotonic()
        mid_task = position != Position(position.stage)
        if state is not None and not mid_task:
            self._restore(state)
        self.learner.begin_task(task)
        self.method.before_task(task)
        if state is not None and mid_task:
            self._restore(state)
        if any(p.requires_grad for p in self.learner.parameters()):
            self._train(position, state if mid_task else None, clock)
            self.accelerator.free_memory()  # it holds on to every optimizer that it has prepared
        self.method.after_task(task)
        self.seconds += time.monotonic() - clock
        end = Position(position.stage, self.training.epochs)
        figures = self.finish_stage(position.stage + 1)
        self.folder.log("stage", end, after=position.stage + 1, seconds=round(self.seconds, 2), **figures)
        self._save(Position(position.stage + 1), None)

    def _train(self, position: Position, state: State | None, clock: float) -> None:
        """Train a task; state is that of a checkpoint in its middle."""
        optimizer = self.accelerator.prepare_optimizer(build_optimizer(self.learner.parameters(), self.training))
        if state is not None:
            load_optimizer_state(optimizer, self.names, state["optimizer"])
        seconds = self.seconds

        def save(at: Position) -> None:
            self.seconds = seconds + time.monotonic() - clock
            self._save(at, optimizer)

        train_task(
            self.learner,
            self.tasks[position.stage],
            self.method,
            self.source,
            optimizer,
            self.training,
            self.accelerator,
            seed=self.seed,
            start=position,
            on_check=self._on_check,
            save=save,
        )
        self.seconds = seconds

    def _inputs(self, items: np.ndarray) -> Iterator[Tensor]:
        return plain_batches(self.source, items, self.training.batch_size)

    def _on_check(self, position: Position, loss: float) -> None:
        self.folder.log("train", position, loss=loss)
        if self.progress is not None:
            task = self.tasks[position.stage]
            steps = steps_per_epoch(task, self.training.batch_size)
            done = position.epoch * steps + position.step + 1
            self.progress(task.name, done, steps * self.training.epochs, loss)

    def _save(self, position: Position, optimizer: torch.optim.Optimizer | None) -> None:
        state: State = {
            "model": self.learner.state_dict(),
            "method": self.method.state_dict(),
            "optimizer": optimizer_state(optimizer, self.names) if optimizer is not None else {},
            "random": random_states(),
            "seconds": self.seconds,
        }
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        self.folder.save(position, state)

    def _restore(self, state: State) -> None:
        self.learner.load_state_dict(state["model"])
        self.method.load_state_dict(_to(state["method"], self.accelerator.device))
        self.seconds = state["seconds"]
        restore_random_states(state["random"])
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def _to(tree: State, device: torch.device) -> State:
    return {
        key: _to(value, device) if isinstance(value, dict) else value.to(device) if isinstance(value, Tensor) else value
        for key, value in tree.items()
    }
