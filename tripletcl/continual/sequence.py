"""A sequence of tasks with checkpoints: a run that is killed and resumed gives the same result as one that is not."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripletcl import group
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
from tripletcl.errors import UserError
from tripletcl.progress import report

log = logging.getLogger("tripletcl")


def now() -> str:
    """The local time with its UTC offset: `2026-11-20T12:06:13+01:00`."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


BEFORE = Position(-1)
"""The position of what was logged before the start of a sequence without tasks, which has a checkpoint."""

FinishStage = Callable[[int], dict[str, Any]]
"""Stage (0 = before training, t = after task t) to the figures to log."""


class SequenceRunner:
    """Trains a learner on a sequence of tasks; call `run`.

    Args:
        learner: The model with its loss, on the device of `compute`.
        folder: For checkpoints and metrics; an interrupted run in it is resumed.
        training: The settings of training, for all tasks or one for each.
        finish_stage: Called before training and after every task; its result is logged.
        stability: The choice of the weight of a method with `lam: auto`.
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
        self.batch_size = self.trainings[0].batch_size if self.trainings else 1
        """The batch size of the current task."""
        self.seconds, self.clock = 0.0, time.monotonic()
        """Time spent in training and in the method's hooks, without evaluation; it continues after a resume."""

    def run(self, checkpoint: tuple[Position, State] | None = None, commit: Callable[[], None] | None = None) -> None:
        """Train every task that is not finished yet in the folder.

        Args:
            checkpoint: The result of `RunFolder.latest`, if it has been read already.
            commit: Called when the method is known to be able to learn the tasks, before anything is trained.

        Raises:
            UserError: The method cannot learn the tasks, or not by several processes; or a task has too few held-out
                items for `lam: auto`.
        """
        self.method.check(self.tasks)
        if group.size() > 1 and not self.method.losses_in_parts:
            raise UserError(
                f"{self.method.name} adds a loss of its own and does not say (loss_in_parts) that it is a part of "
                "that of the whole batch, so it is trained by one process only"
            )
        if self.method.auto_method is not None:
            check_validation(self.tasks)
        if commit is not None:
            commit()
        self.method.start(self.learner, self._inputs)
        with self.folder.locked():
            start, state = checkpoint or group.on_first(self.folder.latest) or (Position(), None)
            self.folder.drop_metrics_from(BEFORE if state is None else start)
            if state is None:
                self._begin()
            for stage in range(start.stage, len(self.tasks)):
                position = start if stage == start.stage else Position(stage)
                self._run_task(position, state)
                state = None
            if state is not None:  # all tasks are finished: leave the learner as it was at the end
                self._restore(state)

    def _begin(self) -> None:
        """Log the model before training. A sequence without tasks, which later ones may follow, ends there."""
        torch.manual_seed(derived_seed(self.seed))
        position = Position() if self.tasks else BEFORE
        self.folder.log("stage", position, after=0, time=now(), seconds=0.0, **self._finish(0))
        if not self.tasks:
            self.folder.save(Position(), self._state())

    def _run_task(self, position: Position, state: State | None) -> None:
        self.clock, self.batch_size = time.monotonic(), self.trainings[position.stage].batch_size
        auto_method = self.method.auto_method
        if auto_method is None or position.stage == 0:
            self._attempt(position, state)
        elif not self.tasks[position.stage].chooses_weight:
            auto_method.lam = group.on_first(partial(self._last_weight, auto_method))
            self._attempt(position, state)
        else:
            position = self._search(auto_method, position, state)
        self.method.after_task(self.tasks[position.stage])
        self._tick()
        end = replace(position, epoch=self.trainings[position.stage].epochs, step=0)
        figures = self._finish(position.stage + 1)
        if auto_method is not None:
            figures = {"lam": auto_method.lam if position.stage > 0 else None, **figures}
        values = {"after": position.stage + 1, "time": now(), "items": len(self.tasks[position.stage])}
        self.folder.log("stage", end, **values, seconds=round(self.seconds, 2), **figures)
        self.folder.save(Position(position.stage + 1), self._state())

    def _finish(self, stage: int) -> dict[str, Any]:
        """The figures of a stage, which the first of several processes computes; all go on with its random numbers."""
        figures = group.on_first(lambda: self.finish_stage(stage))
        if group.size() > 1:
            restore_random_states(group.agreed(random_states()))
        return figures

    def _search(self, method: Method, position: Position, state: State | None) -> Position:
        """Learn a task from its start with one weight after another until one passes; returns that attempt's position.

        Checkpoints during a search contain the task's start and the scores so far in addition to the attempt's state.
        """
        state = state or state_on("cpu", self._state())
        origin, scores = state.get("start", state), list(state.get("scores", []))
        start = {key: origin[key] for key in ("model", "method", "random", "scaler") if key in origin}
        while True:
            method.lam = self.stability.lam(method, position.attempt)
            scores.append(self._try_weight(method, position, state, {"start": start, "scores": list(scores)}))
            self._tick()
            end = replace(position, epoch=self.trainings[position.stage].epochs, step=0)
            self.folder.log("attempt", end, lam=method.lam, score=scores[-1])
            if self.stability.ends(scores):
                self._log_choice(method, position, scores)
                return position
            position = Position(position.stage, position.attempt + 1)
            state = {**start, "scores": list(scores), "seconds": self.seconds}
            self.folder.save(position, state)

    def _last_weight(self, method: Method) -> float:
        """The weight that was chosen last; before any choice the first weight that a search tries."""
        weights = [m["lam"] for m in self.folder.metrics if m["kind"] == "stage" and m.get("lam") is not None]
        return weights[-1] if weights else self.stability.lam(method, 1)

    def _try_weight(self, method: Method, position: Position, state: State, search: State) -> float:
        """The score of an attempt on the held-out items; FAILED if a large weight made the loss infinite."""
        task = self.tasks[position.stage]
        try:
            self._attempt(position, state, search)
        except Diverged as error:
            if position.attempt in (0, self.stability.attempts):  # there is no smaller weight left to try
                raise
            log.warning("lam %g is too large: %s", method.lam, error)
            return FAILED
        device = self.compute.device
        return group.on_first(lambda: validation_score(self.learner, task, self.source, self.batch_size, device))

    def _log_choice(self, method: Method, position: Position, scores: list[float]) -> None:
        values = (self.tasks[position.stage].name, method.name, method.lam, scores[-1], scores[0])
        log.info("%s: %s lam %g is kept with score %.3f on held-out items; fine-tuning has %.3f", *values)
        if not self.stability.passes(scores):
            log.warning("that loses more than stability.drop: raise stability.attempts or lower stability.start")

    def _attempt(self, position: Position, state: State | None, search: State | None = None) -> None:
        """Learn a task from its start, or resume it; its checkpoints also contain the state of a search."""
        task = self.tasks[position.stage]
        mid_task = (position.epoch, position.step) != (0, 0)
        if state is not None and not mid_task:
            self._restore(state)
        self.learner.begin_task(task)
        self.method.before_task(task)
        if state is not None and mid_task:
            self._restore(state)
        if any(p.requires_grad for p in self.learner.parameters()):
            self._train(position, state if mid_task else None, search or {})

    def _train(self, position: Position, state: State | None, search: State) -> None:
        """Train a task, from the state of a checkpoint within it or from its start."""
        training = self.trainings[position.stage]
        optimizer = build_optimizer(self.learner, training, self.compute.scaler is None)
        if state is not None:
            load_optimizer_state(optimizer, self.names, state["optimizer"])

        def save(at: Position) -> None:
            self._tick()
            self.folder.save(at, {**self._state(), "optimizer": optimizer_state(optimizer, self.names), **search})

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
        """Add the time since the last reading of the clock."""
        now = time.monotonic()
        self.seconds, self.clock = self.seconds + now - self.clock, now

    def _inputs(self, items: np.ndarray) -> Iterator[Tensor]:
        return plain_batches(self.source, items, self.batch_size)

    def _on_check(self, position: Position, loss: float) -> None:
        self.folder.log("train", position, loss=loss)
        task, training = self.tasks[position.stage], self.trainings[position.stage]
        steps = steps_per_epoch(task, training.batch_size)
        auto_method = self.method.auto_method if position.stage > 0 else None
        label = task.name if auto_method is None else f"{task.name}, lam {auto_method.lam:g}"
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
