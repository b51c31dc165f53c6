"""A sequence of tasks, one after another, with checkpoints: stop it at any moment, start it again, get the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripletcl.continual.checkpoint import (
    State,
    load_optimizer_state,
    optimizer_state,
    random_states,
    restore_random_states,
    state_on,
)
from tripletcl.continual.device import Compute
from tripletcl.continual.loop import Diverged, train_task
from tripletcl.continual.method import Learner, Method
from tripletcl.continual.optimization import Training, build_optimizer
from tripletcl.continual.run_folder import Position, RunFolder
from tripletcl.continual.stability import FAILED, Stability, check_validation, validation_score
from tripletcl.continual.task import InputSource, Task, derived_seed, plain_batches, steps_per_epoch
from tripletcl.progress import report

log = logging.getLogger("tripletcl")


def now() -> str:
    """The time of day with its place on earth, as logs have it: `2026-11-20T12:06:13+01:00`."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


FinishStage = Callable[[int], dict[str, Any]]
"""Stage (0 = before training, t = after task t) to the figures to keep."""


class SequenceRunner:
    """Trains a learner on tasks one after another; `run` does it all.

    Args:
        learner: The model with its loss (`Learner`), on the device that it is computed on.
        folder: Where checkpoints and metrics go; an interrupted run there is taken up.
        training: How each task is trained: one for all, or one each.
        finish_stage: Called before training and after every task; what it returns goes to the metrics.
        stability: How the weight of a method with `lam: auto` is chosen for every task.
    """

    def __init__(
        self,
        learner: Learner,
        tasks: Sequence[Task],
        method: Method,
        source: InputSource,
        training: Training | Sequence[Training],
        compute: Compute,
        folder: RunFolder,
        finish_stage: FinishStage,
        *,
        seed: int = 0,
        stability: Stability = Stability(),
    ) -> None:
        self.learner, self.tasks, self.method, self.source = learner, tasks, method, source
        self.trainings = [training] * len(tasks) if isinstance(training, Training) else list(training)
        self.compute, self.folder, self.finish_stage = compute, folder, finish_stage
        self.seed, self.stability = seed, stability
        self.names = {p: name for name, p in learner.named_parameters()}
        self.batch_size = self.trainings[0].batch_size
        """Of the task at hand."""
        self.seconds, self.clock = 0.0, time.monotonic()
        """Time spent in training and in the method's hooks, evaluation left out; goes on over a resume."""

    def check(self) -> None:
        """Look at the tasks before anything is trained.

        Raises:
            UserError: the method cannot do what is asked of it, or a task has too few held-out items for `lam: auto`.
        """
        self.method.check(self.tasks)
        if self.method.searched is not None:
            check_validation(self.tasks)

    def run(self, found: tuple[Position, State] | None = None) -> None:
        """Train every task that the folder has not seen finished.

        Args:
            found: What `RunFolder.latest` returned, where that has been read already.
        """
        self.check()
        self.method.start(self.learner, self._inputs)
        with self.folder.locked():
            start, state = found or self.folder.latest() or (Position(), None)
            self.folder.drop_metrics_from(start)
            if state is None:
                torch.manual_seed(derived_seed(self.seed))
                self.folder.log("stage", start, after=0, time=now(), **self.finish_stage(0))
            for stage in range(start.stage, len(self.tasks)):
                position = start if stage == start.stage else Position(stage)
                self._run_task(position, state)
                state = None
            if state is not None:  # all was done: leave the learner as it was at the end
                self._restore(state)

    def _run_task(self, position: Position, state: State | None) -> None:
        self.clock, self.batch_size = time.monotonic(), self.trainings[position.stage].batch_size
        searched = self.method.searched
        if searched is None or position.stage == 0:
            self._attempt(position, state)
        else:
            position = self._search(searched, position, state)
        self.method.after_task(self.tasks[position.stage])
        self._tick()
        end = replace(position, epoch=self.trainings[position.stage].epochs, step=0)
        figures = self.finish_stage(position.stage + 1)
        if searched is not None:
            figures = {"lam": searched.lam if position.stage > 0 else None, **figures}
        about = {"after": position.stage + 1, "time": now(), "items": len(self.tasks[position.stage])}
        self.folder.log("stage", end, **about, seconds=round(self.seconds, 2), **figures)
        self.folder.save(Position(position.stage + 1), self._state())

    def _search(self, searched: Method, position: Position, state: State | None) -> Position:
        """Learn a task again and again from its start until a weight is to be kept; the position of that attempt.

        Checkpoints inside a search hold, beside the attempt's own state, the task's start and the scores so far.
        """
        state = state or state_on("cpu", self._state())
        origin, scores = state.get("start", state), list(state.get("scores", []))
        start = {key: origin[key] for key in ("model", "method", "random", "scaler") if key in origin}
        while True:
            searched.lam = self.stability.lam(searched, position.attempt)
            scores.append(self._tried(searched, position, state, {"start": start, "scores": list(scores)}))
            self._tick()
            end = replace(position, epoch=self.trainings[position.stage].epochs, step=0)
            self.folder.log("attempt", end, lam=searched.lam, score=scores[-1])
            if self.stability.ends(scores):
                self._say_kept(searched, position, scores)
                return position
            position = Position(position.stage, position.attempt + 1)
            state = {**start, "scores": list(scores), "seconds": self.seconds}
            self.folder.save(position, state)

    def _tried(self, searched: Method, position: Position, state: State, kept: State) -> float:
        """The score of an attempt on the held-out items; FAILED where a large weight made the loss infinite."""
        task = self.tasks[position.stage]
        try:
            self._attempt(position, state, kept)
        except Diverged as error:
            if position.attempt in (0, self.stability.attempts):  # there is no smaller weight left to try
                raise
            log.warning("lam %g is too large: %s", searched.lam, error)
            return FAILED
        return validation_score(self.learner, task, self.source, self.batch_size, self.compute.device)

    def _say_kept(self, searched: Method, position: Position, scores: list[float]) -> None:
        found = (self.tasks[position.stage].name, searched.name, searched.lam, scores[-1], scores[0])
        log.info("%s: %s lam %g is kept with score %.3f on held-out items; fine-tuning has %.3f", *found)
        if not self.stability.passes(scores):
            log.warning("that loses more than stability.drop: raise stability.attempts or lower stability.start")

    def _attempt(self, position: Position, state: State | None, kept: State | None = None) -> None:
        """Learn a task from its start, or go on in its middle; its checkpoints also hold what is to be kept."""
        task = self.tasks[position.stage]
        mid_task = (position.epoch, position.step) != (0, 0)
        if state is not None and not mid_task:
            self._restore(state)
        self.learner.begin_task(task)
        self.method.before_task(task)
        if state is not None and mid_task:
            self._restore(state)
        if any(p.requires_grad for p in self.learner.parameters()):
            self._train(position, state if mid_task else None, kept or {})

    def _train(self, position: Position, state: State | None, kept: State) -> None:
        """Train a task; state is that of a checkpoint in its middle."""
        training = self.trainings[position.stage]
        optimizer = build_optimizer(self.learner, training, self.compute.scaler is None)
        if state is not None:
            load_optimizer_state(optimizer, self.names, state["optimizer"])

        def save(at: Position) -> None:
            self._tick()
            self.folder.save(at, {**self._state(), "optimizer": optimizer_state(optimizer, self.names), **kept})

        train_task(
            self.learner,
            self.tasks[position.stage],
            self.method,
            self.source,
            optimizer,
            training,
            self.compute,
            seed=self.seed,
            start=position,
            on_check=self._on_check,
            save=save,
        )

    def _tick(self) -> None:
        """Count the time since the last look at the clock."""
        now = time.monotonic()
        self.seconds, self.clock = self.seconds + now - self.clock, now

    def _inputs(self, items: np.ndarray) -> Iterator[Tensor]:
        return plain_batches(self.source, items, self.batch_size)

    def _on_check(self, position: Position, loss: float) -> None:
        self.folder.log("train", position, loss=loss)
        task, training = self.tasks[position.stage], self.trainings[position.stage]
        steps = steps_per_epoch(task, training.batch_size)
        searched = self.method.searched if position.stage > 0 else None
        label = task.name if searched is None else f"{task.name}, lam {searched.lam:g}"
        report(label, position.epoch * steps + position.step + 1, steps * training.epochs, loss)

    def _state(self) -> State:
        state: State = {
            "model": self.learner.state_dict(),
            "method": self.method.state_dict(),
            "random": random_states(),
            "seconds": self.seconds,
        }
        if self.compute.scaler is not None:
            state["scaler"] = self.compute.scaler.state_dict()
        return state

    def _restore(self, state: State) -> None:
        self.learner.load_state_dict(state["model"])
        self.method.load_state_dict(state_on(self.compute.device, state["method"]))
        self.seconds = state["seconds"]
        restore_random_states(state["random"])
        if self.compute.scaler is not None and "scaler" in state:
            self.compute.scaler.load_state_dict(state["scaler"])
