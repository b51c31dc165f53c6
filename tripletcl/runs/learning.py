"""A sequence learned in a run folder, whatever is learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from tripletcl.config import Config
from tripletcl.continual import InputSource, Learner, Method, Position, RunFolder, SequenceRunner, Task, Training
from tripletcl.continual.checkpoint import State
from tripletcl.continual.device import Compute


class Learnable(Protocol):
    """What a config describes, ready to be learned."""

    @property
    def tasks(self) -> list[Task]: ...
    @property
    def learner(self) -> Learner: ...
    @property
    def source(self) -> InputSource: ...
    @property
    def compute(self) -> Compute: ...
    @property
    def trainings(self) -> Sequence[Training]:
        """How each task is trained."""
        ...


def run_sequence(
    run: RunFolder,
    config: Config,
    method: Method,
    experiment: Learnable,
    finish_stage: Callable[[int], dict[str, Any]],
    *,
    found: tuple[Position, State] | None = None,
    commit: Callable[[], None] | None = None,
) -> None:
    """Learn every task that the run folder has not seen finished.

    Args:
        finish_stage: Stage (0 = before training, t = after task t) to its figures; called with each.
        found: The newest checkpoint, where it has been read already.
        commit: Called when the data was found to be good and the method to be able to learn it, before it learns.
    """

    def finish(stage: int) -> dict[str, Any]:
        return {**finish_stage(stage), "method_bytes": method.memory_bytes()}

    runner = SequenceRunner(
        experiment.learner,
        experiment.tasks,
        method,
        experiment.source,
        experiment.trainings,
        experiment.compute,
        run,
        finish,
        seed=config.seed,
        stability=config.stability,
    )
    runner.run(found, commit)
