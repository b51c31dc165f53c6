"""Runs that learn to recognise objects: train them in a folder, evaluate their stages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from tripletcl.config import ObjectConfig
from tripletcl.continual import RunFolder
from tripletcl.embedding.classifier import Classifier
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiments.object_tasks import some_paths
from tripletcl.experiments.objects import ObjectExperiment, build_objects
from tripletcl.files import write_text
from tripletcl.methods import build_method, method_name
from tripletcl.runs.layout import CLASSIFIER, TASKS, stage_number
from tripletcl.runs.learning import run_sequence
from tripletcl.runs.stored import StoredRun, environment, settings_text, started

PATHS_KEPT = 8
"""Training images of each task that the run's folder names, for pages to show."""


@dataclass
class ObjectRun(StoredRun):
    """A run that learned to recognise objects."""

    config: ObjectConfig
    last_file: ClassVar[str] = CLASSIFIER

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """Of each task its name, its classes, and the paths of some of its training images."""
        found: list[dict[str, Any]] = json.loads((self.path / TASKS).read_text(encoding="utf-8"))
        return found

    def classifier(self, stage: int | None = None) -> Classifier:
        """The model of a stage; the last one by default."""
        return Classifier.from_pretrained(self.stage_folder(stage))


def train_objects(config: ObjectConfig, folder: Path) -> RunResult:
    """Train a config's sequence in a run folder, or go on with it, and return its figures.

    Raises:
        UserError: the folder holds a run of another config, the data is bad, or training diverged.
    """
    run = RunFolder(folder, settings_text(config, folder), environment(), last_file=CLASSIFIER)
    if run.result is not None:
        return RunResult.from_dict(run.result)
    with run.locked():
        experiment = build_objects(config)
        keep_tasks(folder, experiment)

        def finish_stage(stage: int) -> dict[str, Any]:
            experiment.classifier.save_pretrained(run.stage_folder(stage))
            return asdict(experiment.score(stage))

        run_sequence(run, config, build_method(config.method), experiment, finish_stage)
        result = collect_result(config, run.metrics, experiment.task_names)
        run.finish(result.to_dict())
    return result


def keep_tasks(folder: Path, experiment: ObjectExperiment) -> None:
    """Keep with the run what it learns from: the tasks, their classes and sizes.

    Raises:
        UserError: the sets have changed since the run learned from them.
    """
    tasks = [
        {
            "name": part.name,
            "classes": part.classes,
            "train": len(part.items(train=True)),
            "test": len(part.items(train=False)),
            "images": [str(path) for path in some_paths(part, PATHS_KEPT)],
        }
        for part in experiment.parts
    ]
    path = folder / TASKS
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() and started(folder) else None
    if kept is not None and kept != json.loads(json.dumps(tasks)):
        raise UserError(f"the sets have changed since {folder} learned from them: their images are no longer the same")
    write_text(path, json.dumps(tasks, ensure_ascii=False))


def collect_result(config: ObjectConfig, metrics: Sequence[dict[str, Any]], tasks: list[str]) -> RunResult:
    """The figures of a finished run, from the stages in its metrics."""
    stages = [m for m in metrics if m["kind"] == "stage"]
    return RunResult(
        method=method_name(config.method),
        seed=config.seed,
        split=config.sequence,
        tasks=tasks,
        matrix=[m["accuracy"] for m in stages],
        overall=[m["average"] for m in stages],
        seconds=stages[-1]["seconds"],
        metric="accuracy",
        method_bytes=[m["method_bytes"] for m in stages],
        lams=[m["lam"] for m in stages if "lam" in m],
    )


def evaluate_objects(run: ObjectRun, stage: int | None = None) -> dict[str, Any]:
    """Recognise the test images anew with the model of a stage.

    Returns:
        accuracy_tasks and average_accuracy, and what they are of: method, seed, split, stage, tasks. Where the run is
        finished also its forgetting and training seconds, which belong to the run and not to a stage.
    """
    folder = run.stage_folder(stage)
    number = stage_number(folder)
    experiment = build_objects(run.config)
    experiment.learner.classifier = Classifier.from_pretrained(folder, device=experiment.compute.device)
    scores, finished = experiment.score(number), run.result
    return {
        "method": method_name(run.config.method),
        "seed": run.config.seed,
        "split": run.config.sequence,
        "stage": number,
        "tasks": experiment.task_names,
        "accuracy_tasks": scores.accuracy,
        "average_accuracy": scores.average,
        "forgetting": finished.forgetting if finished else None,
        "seconds": finished.seconds if finished else None,
    }
