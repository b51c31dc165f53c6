"""The two kinds of runs, side by side: those that learn facts and those that learn to recognise objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tripletcl import group
from tripletcl.config import FactConfig, ObjectConfig
from tripletcl.config.facts import NO_TABLE
from tripletcl.continual import InputSource, Learner, Task, Training
from tripletcl.continual.device import Compute
from tripletcl.data.tables import write_table
from tripletcl.embedding import FactEmbedder
from tripletcl.embedding.classifier import Classifier
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiments.facts import FactExperiment, build_facts
from tripletcl.experiments.feature_cache import FeatureCache
from tripletcl.experiments.object_tasks import describe_tasks
from tripletcl.experiments.objects import ObjectExperiment, build_objects
from tripletcl.experiments.tables import split_name
from tripletcl.files.tensors import write_tensors
from tripletcl.methods import method_name
from tripletcl.runs.fact_scores import FIELDS, write_fact_scores
from tripletcl.runs.layout import BASE_TABLE, FACT_SCORES, FEATURES, SETTINGS, TEXTS, VECTORS, follow_up_table
from tripletcl.runs.stored import (
    FactRun,
    ObjectRun,
    StoredRun,
    check_sets,
    read_tasks,
    started,
    stored_values,
    write_tasks,
)


class Experiment(Protocol):
    """Everything that a config describes, ready to be learned."""

    @property
    def tasks(self) -> list[Task]: ...
    @property
    def task_names(self) -> list[str]: ...
    @property
    def learner(self) -> Learner: ...
    @property
    def source(self) -> InputSource: ...
    @property
    def compute(self) -> Compute: ...
    @property
    def trainings(self) -> Sequence[Training]:
        """The training of each task."""
        ...


class Kind(NamedTuple):
    """A kind of run, by what it learns.

    Attributes:
        run: The run on disk.
        prepare: (run, number of finished tasks) to the experiment; stores the data that it is built from.
        finish_stage: (run, experiment, stage) to the figures of the stage; stores its model.
        result: (settings, lines of the metrics with the figures of each stage, task names) to those of the run.
        evaluate: (run, stage) to the figures of a stored stage, computed again.
    """

    run: type[StoredRun[Any]]
    prepare: Callable[[Any, int], Experiment]
    finish_stage: Callable[[Any, Any, int], dict[str, Any]]
    result: Callable[[Any, Sequence[Mapping[str, Any]], list[str]], RunResult]
    evaluate: Callable[[Any, int], dict[str, Any]]


def open_run(path: Path) -> StoredRun[Any]:
    """Open a run, whatever it learns.

    Raises:
        UserError: the folder holds no run.
    """
    path = Path(path)
    learns = stored_values(path).get("learns", "facts")
    if learns not in KINDS:
        raise UserError(f"{path / SETTINGS}: learns is {learns!r}; allowed are {', '.join(KINDS)}")
    return KINDS[learns].run.open(path)


# --- facts -----------------------------------------------------------------------------------------------------------


def prepare_facts(run: FactRun, finished_tasks: int) -> FactExperiment:
    """Build the experiment of a run, with what the run has cached, and store its tables."""
    experiment = build_facts(
        run.own_settings, stored=started(run.path), finished_tasks=finished_tasks, texts=run.path / TEXTS
    )
    experiment.cache = FeatureCache.load(run.path / FEATURES)
    if group.rank() == 0:
        store_tables(run.path, experiment)
    return experiment


def store_tables(folder: Path, experiment: FactExperiment) -> None:
    """Store what a run learns from, so that the given files may be deleted: its tables, and the facts of each task.

    Raises:
        UserError: the table has changed since the run learned from it.
    """
    groups = [group.tolist() for group in experiment.groups]
    config = experiment.config.data
    before = read_tasks(folder)
    first = len(groups) - len(config.further)
    if started(folder) and before[:first] != groups[:first]:
        raise UserError(
            f"{config.table_name} has changed since {folder} learned from it: its facts are no longer the same"
        )
    new = []
    for number, table in enumerate(experiment.tables):
        stored = follow_up_table(folder, number) if number else folder / BASE_TABLE
        drawn = number == 0 and config.table in ("scenes", NO_TABLE)  # they can be drawn again
        if not drawn and not (started(folder) and stored.exists()):
            write_table(stored, table, config.stored_task_column)
            new.append(stored)
    write_tasks(folder, groups, new)


def finish_fact_stage(run: FactRun, experiment: FactExperiment, stage: int) -> dict[str, Any]:
    """Store the model of a stage with its vectors of the test images, and what holds for later stages; score it."""
    vectors = experiment.vectors()
    folder = run.folder.stage_folder(stage)
    facts = dict.fromkeys(fact for task in experiment.tasks[:stage] for fact in task.classes)
    experiment.embedder.save_pretrained(folder, facts=[experiment.table.facts[fact] for fact in facts])
    scores = experiment.score(vectors)
    write_fact_scores(folder / FACT_SCORES, scores)
    write_tensors(folder / VECTORS, vectors.tensors)
    experiment.cache.save(run.path / FEATURES)
    experiment.embedder.text.vectors.save(run.path / TEXTS)
    return {name: value for name, value in asdict(scores).items() if name not in FIELDS}


def fact_result(config: FactConfig, stages: Sequence[Mapping[str, Any]], tasks: list[str]) -> RunResult:
    """Collect the figures of a finished run from those of its stages; None for tasks not yet known to a stage."""
    last = stages[-1]

    def rows(key: str) -> list[list[float | None]]:
        return [[*m[key], *[None] * (len(tasks) - len(m[key]))] for m in stages]

    return RunResult(
        method=method_name(config.method),
        seed=config.seed,
        split=split_name(config),
        tasks=tasks,
        matrix=rows("map_tasks"),
        overall=[m["map_all"] for m in stages],
        seconds=last["seconds"],
        map_matrix_all=rows("map_tasks_all"),
        recall=last["recall"],
        mrr=last["mrr"],
        ap=[(fact, ap) for fact, ap in last.get("ap", [])],  # of version 0.1: later in a file of its own
        map_open=[m["map_open"] for m in stages if m["map_open"] is not None],
        map_subset=[m["map_subset"] for m in stages] if config.data.subset is not None else [],
        method_bytes=[m["method_bytes"] for m in stages],
        lams=[m["lam"] for m in stages if "lam" in m],
        verified=[tuple(counts) for counts in last.get("verified", [])],
    )


def evaluate_facts(run: FactRun, stage: int) -> dict[str, Any]:
    """Embed the test images with the model of a stage and score them.

    While all images exist, none is taken from the run's cache.

    Returns:
        split, tasks and the fields of `StageScores`.
    """
    complete = all(path.exists() for path in run.table().paths)
    experiment = build_facts(run.own_settings, stored=True, finished_tasks=0 if complete else run.stage())
    experiment.cache = FeatureCache() if complete else FeatureCache.load(run.path / FEATURES)
    device = experiment.compute.device
    experiment.learner.embedder = FactEmbedder.from_pretrained(run.stage_folder(stage), device=device)
    scores = experiment.score(experiment.vectors())
    return {"split": split_name(run.settings), "tasks": experiment.task_names, **asdict(scores)}


# --- objects ---------------------------------------------------------------------------------------------------------


def prepare_objects(run: ObjectRun, finished_tasks: int) -> ObjectExperiment:
    """Build the experiment of a run, and store the names, classes and sizes of its tasks."""
    experiment = build_objects(run.settings)
    if group.rank() == 0:
        store_tasks(run.path, experiment)
    return experiment


def store_tasks(folder: Path, experiment: ObjectExperiment) -> None:
    """Store what a run learns from: the tasks, their classes and sizes.

    Raises:
        UserError: the sets have changed since the run learned from them.
    """
    tasks = describe_tasks(experiment.config, experiment.object_tasks)
    if started(folder):
        check_sets(folder, tasks)
    write_tasks(folder, tasks)


def finish_object_stage(run: ObjectRun, experiment: ObjectExperiment, stage: int) -> dict[str, Any]:
    """Store the model of a stage and score it."""
    experiment.classifier.save_pretrained(run.folder.stage_folder(stage))
    return asdict(experiment.score(stage))


def object_result(config: ObjectConfig, stages: Sequence[Mapping[str, Any]], tasks: list[str]) -> RunResult:
    """Collect the figures of a finished run from those of its stages."""
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


def evaluate_objects(run: ObjectRun, stage: int) -> dict[str, Any]:
    """Classify the test images with the model of a stage.

    Returns:
        split, tasks, accuracy_tasks and average_accuracy.
    """
    experiment = build_objects(run.settings)
    device = experiment.compute.device
    experiment.learner.classifier = Classifier.from_pretrained(run.stage_folder(stage), device=device)
    scores = experiment.score(stage)
    return {
        "split": run.settings.sequence,
        "tasks": experiment.task_names,
        "accuracy_tasks": scores.accuracy,
        "average_accuracy": scores.average,
    }


KINDS = {
    "facts": Kind(FactRun, prepare_facts, finish_fact_stage, fact_result, evaluate_facts),
    "objects": Kind(ObjectRun, prepare_objects, finish_object_stage, object_result, evaluate_objects),
}
"""By `learns` in the settings."""
