"""Trains the sequence of tasks of a run, of either kind, in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tripletcl import group
from tripletcl.config import Config
from tripletcl.continual import SequenceRunner
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.files import reading
from tripletcl.methods import build_method
from tripletcl.runs.fact_scores import FIELDS
from tripletcl.runs.kinds import KINDS, Experiment
from tripletcl.runs.layout import METRICS
from tripletcl.runs.stored import StoredRun, with_fact_scores


def train(config: Config, folder: Path) -> RunResult:
    """Train a config's sequence of tasks in a run folder, or resume it, and return its figures.

    Processes that were started together (`tripletcl.group`) train it together, in a folder that all of them see.

    Raises:
        UserError: the folder holds a run of another config, the data is bad, or training diverged.
    """
    with group.joined():
        with group.first():
            run = KINDS[config.learns].run.create(folder, config)
        return group.on_first(lambda: run.result) or learn(run)[0]


def learn(run: StoredRun[Any], *, commit: Callable[[], None] | None = None) -> tuple[RunResult, Experiment]:
    """Learn every task that a run has not learned yet, and write the run's figures.

    Args:
        commit: Called once the data has been read and the method has accepted the tasks, before training.

    Returns:
        The figures, and the experiment with the learner after the last task.
    """
    kind, settings = KINDS[run.learns], run.settings
    with run.locked():
        checkpoint, method = group.on_first(run.folder.latest), build_method(settings.method)
        if checkpoint is None and commit is not None:
            raise UserError(f"{run.path} has no intact checkpoint to continue from")
        if checkpoint is not None:
            run.stage_lines(range(checkpoint[0].stage + 1))  # before training, not after it
        if checkpoint is not None and commit is not None:  # a new task of a finished run
            method.prefetch(checkpoint[1]["method"])
        with group.first():  # it decodes and draws what the others find in the cache
            experiment = kind.prepare(run, checkpoint[0].stage if checkpoint else 0)

        def finish_stage(stage: int) -> dict[str, Any]:
            run.folder.check_exists()
            return {**kind.finish_stage(run, experiment, stage), "method_bytes": method.memory_bytes()}

        runner = SequenceRunner(
            experiment.learner,
            experiment.tasks,
            method,
            experiment.source,
            experiment.trainings,
            experiment.compute,
            run.folder,
            finish_stage,
            seed=settings.seed,
            stability=settings.stability,
        )
        runner.run(checkpoint, commit)
        result = group.on_first(lambda: collect(run, len(experiment.tasks), experiment.task_names))
    return result, experiment


def collect(run: StoredRun[Any], stages: int, task_names: list[str]) -> RunResult:
    """Collect the figures of a run that has learned all its tasks, and write them.

    Args:
        stages: The number of stages after the one before training.
        task_names: The names of the tasks.

    Raises:
        UserError: the metrics lack the figures of a stage, or some of them.
    """
    lines = run.stage_lines(range(stages + 1))
    with reading(run.path / METRICS):
        result = KINDS[run.learns].result(run.settings, lines, task_names)
    run.folder.finish({name: value for name, value in result.to_dict().items() if name not in FIELDS})
    return with_fact_scores(result, run.folder)
