"""Runs: train an experiment in a folder, find its stages there again, evaluate them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from safetensors.torch import load_file, save_file
from torch import Tensor

from tripletcl.config import Config, FactConfig, ObjectConfig
from tripletcl.continual import RunFolder
from tripletcl.data.tables import write_table
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiments.facts import Experiment, build, load_table, split_name
from tripletcl.experiments.feature_cache import Kept, load_texts, save_texts
from tripletcl.files import write_atomically, write_text
from tripletcl.methods import build_method, method_name
from tripletcl.runs.layout import (
    BASE_TABLE,
    EMBEDDER,
    FEATURES,
    SETTINGS,
    TASKS,
    TEXTS,
    VECTORS,
    follow_up_table,
    stage_number,
)
from tripletcl.runs.learning import run_sequence
from tripletcl.runs.objects import ObjectRun, evaluate_objects, train_objects
from tripletcl.runs.stored import StoredRun, environment, read_settings, settings_text, started


def train(config: Config, folder: Path) -> RunResult:
    """Train a config's sequence in a run folder, or go on with it, and return its figures.

    Raises:
        UserError: the folder holds a run of another config, the data is bad, or training diverged.
    """
    if isinstance(config, ObjectConfig):
        return train_objects(config, folder)
    assert isinstance(config, FactConfig)
    if (folder / SETTINGS).exists():
        check_not_continued(config, folder)
    run = RunFolder(folder, settings_text(config, folder), environment(), last_file=VECTORS)
    if run.result is not None:
        return RunResult.from_dict(run.result)
    return learn(run, within(config, folder))[0]


def learn(
    run: RunFolder,
    config: FactConfig,
    *,
    thrifty: bool = False,
    commit: Callable[[], None] | None = None,
) -> tuple[RunResult, Experiment]:
    """Learn every task of a config that its run has not learned yet, and write the run's figures.

    Args:
        config: From `within`.
        thrifty: See `Experiment`.
        commit: Called when the data was found to be good and the method to be able to learn it, before it learns.
    """
    with run.locked():
        found, method = run.latest(), build_method(config.method)
        if found is None and commit is not None:
            raise UserError(f"{run.path} has no whole checkpoint to go on from")
        if found is not None and thrifty:
            method.prefetch(found[1]["method"])
        learned, encoded = found[0].stage if found else 0, load_texts(run.path / TEXTS)
        experiment = build(config, learned=learned, thrifty=thrifty, encoded=encoded)
        experiment.kept = Kept.load(run.path / FEATURES)
        keep_tables(run.path, experiment)
        keep = _Keeper(run.path, experiment, encoded)

        def finish_stage(stage: int) -> dict[str, Any]:
            vectors = experiment.vectors()
            save_stage(run, stage, experiment, vectors)
            keep()
            return asdict(experiment.score(vectors))

        run_sequence(run, config, method, experiment, finish_stage, found=found, commit=commit)
        result = collect_result(config, run.metrics, experiment.task_names)
        run.finish(result.to_dict())
    return result, experiment


class _Keeper:
    """Writes what a run keeps (`kept`), each time where there is something new."""

    def __init__(self, folder: Path, experiment: Experiment, encoded: Mapping[str, Tensor]) -> None:
        self.folder, self.experiment = folder, experiment
        self.kept, self.texts = experiment.kept, len(encoded)

    def __call__(self) -> None:
        if self.experiment.kept is not self.kept:
            self.kept = self.experiment.kept
            self.kept.save(self.folder / FEATURES)
        encoded = self.experiment.embedder.text.encoded
        if len(encoded) > self.texts:
            self.texts = len(encoded)
            save_texts(self.folder / TEXTS, encoded)


def keep_tables(folder: Path, experiment: Experiment) -> None:
    """Keep with the run what it learns from, whatever becomes of the table: its rows, and the facts of each task.

    Raises:
        UserError: the table has changed since the run learned from it.
    """
    groups = [group.tolist() for group in experiment.groups]
    config, path = experiment.config.data, folder / TASKS
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    first = len(groups) - len(config.further)
    if started(folder) and before[:first] != groups[:first]:
        raise UserError(f"{config.table} has changed since {folder} learned from it: its facts are no longer the same")
    for number, table in enumerate(experiment.tables):
        kept = follow_up_table(folder, number) if number else folder / BASE_TABLE
        drawn = number == 0 and config.table == "scenes"  # they can be drawn again
        if not drawn and not (started(folder) and kept.exists()):
            write_table(kept, table, config.task_column)
    write_text(path, json.dumps(groups))


def save_stage(run: RunFolder, stage: int, experiment: Experiment, vectors: dict[str, Tensor]) -> None:
    """Keep the model of a stage, what it has been taught, and its vectors of the test images."""
    folder = run.stage_folder(stage)
    taught = dict.fromkeys(i for task in experiment.tasks[:stage] for i in task.classes)
    experiment.embedder.save_pretrained(folder, facts=[experiment.table.facts[i] for i in taught])
    tensors = {key: value.contiguous() for key, value in vectors.items()}
    write_atomically(folder / VECTORS, lambda temporary: save_file(tensors, temporary))


def collect_result(config: FactConfig, metrics: Sequence[dict[str, Any]], tasks: list[str]) -> RunResult:
    """The figures of a finished run, from the stages in its metrics; what a stage did not know yet is None."""
    stages = [m for m in metrics if m["kind"] == "stage"]
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
        ap=[(fact, ap) for fact, ap in last["ap"]],
        map_open=[m["map_open"] for m in stages if m["map_open"] is not None],
        map_subset=[m["map_subset"] for m in stages] if config.data.subset is not None else [],
        method_bytes=[m["method_bytes"] for m in stages],
        lams=[m["lam"] for m in stages if "lam" in m],
    )


def within(config: FactConfig, folder: Path) -> FactConfig:
    """The config with the tables that its run keeps in place of those named."""
    if not started(folder):
        return config
    further = [
        entry.model_copy(update={"table": str(kept.absolute())})
        if (kept := follow_up_table(folder, number)).exists()
        else entry
        for number, entry in enumerate(config.data.further, 1)
    ]
    changes: dict[str, Any] = {"further": further}
    if (folder / BASE_TABLE).exists() and config.data.table != "scenes":
        changes |= {"table": str((folder / BASE_TABLE).absolute()), "root": None}
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def fact_settings(folder: Path) -> FactConfig:
    """The settings of a run that learned facts, as they were given.

    Raises:
        UserError: the folder holds no run, or one that learned no facts.
    """
    config = read_settings(folder)
    if not isinstance(config, FactConfig):
        raise UserError(
            f"{folder} learned to recognise objects, and this is asked of runs that learned facts; such a run can be "
            "trained, evaluated, compared and reported"
        )
    return config


def check_not_continued(config: FactConfig, folder: Path) -> None:
    """Refuse a run that has gone on since it was trained by this config.

    Raises:
        UserError: it has learned further tables.
    """
    known = fact_settings(folder)
    alone = known.data.model_copy(update={"further": []})
    if known != config and known.data.further and known.model_copy(update={"data": alone}) == config:
        raise UserError(f"{folder} has learned further tables since; go on with `tripletcl train --continue {folder}`")


@dataclass
class Run(StoredRun):
    """A run that learned facts; its settings name the tables that it keeps in place of those given."""

    config: FactConfig
    last_file: ClassVar[str] = VECTORS

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run folder.

        Raises:
            UserError: the folder holds no run, or one that learned no facts.
        """
        return cls(Path(path), within(fact_settings(Path(path)), Path(path)))

    def fingerprint(self, stage: int | None = None) -> str:
        """What tells the model of a stage from every other."""
        return saved_fingerprint(self.stage_folder(stage))

    def stage_of(self, fingerprint: str) -> int | None:
        """The newest stage whose model has this fingerprint; None where none has."""
        stages = reversed(list(self.stages()))
        return next((stage for stage in stages if self.fingerprint(stage) == fingerprint), None)

    def vectors(self, stage: int | None = None) -> dict[str, Tensor]:
        """The unit blocks of test images and facts as they were at a stage."""
        return load_file(self.stage_folder(stage) / VECTORS)


def open_run(path: Path) -> StoredRun:
    """A run on disk, whatever it learned.

    Raises:
        UserError: the folder holds no run.
    """
    config = read_settings(Path(path))
    return ObjectRun(Path(path), config) if isinstance(config, ObjectConfig) else Run.open(path)


def saved_fingerprint(folder: Path) -> str:
    """The fingerprint of a saved embedder; folders of a former version, which do not say it, are read as a whole."""
    about = json.loads((folder / EMBEDDER).read_text(encoding="utf-8"))
    return about.get("fingerprint") or FactEmbedder.from_pretrained(folder).fingerprint()


def evaluate(path: Path, stage: int | None = None) -> dict[str, Any]:
    """Embed the test images anew with the model of a stage and score them; those that are gone by now are left out.

    Returns:
        Of facts the fields of `StageScores`, of objects those of `ObjectScores`, and what they are of: method, seed,
        split, stage, tasks. Where the run is finished
        also its forgetting and training seconds, which belong to the run and not to a stage.
    """
    run = open_run(path)
    if isinstance(run, ObjectRun):
        return evaluate_objects(run, stage)
    assert isinstance(run, Run)
    folder = run.stage_folder(stage)
    gone = not all(path.exists() for path in load_table(run.config).paths)
    experiment = build(run.config, learned=max(run.stages()) if gone else 0)
    trained = FactEmbedder.from_pretrained(folder, device=experiment.compute.device)
    experiment.learner.embedder = trained
    experiment.kept = Kept.load(run.path / FEATURES) if gone else Kept()
    finished = run.result
    return {
        "method": method_name(run.config.method),
        "seed": run.config.seed,
        "split": split_name(run.config),
        "stage": stage_number(folder),
        "tasks": experiment.task_names,
        **asdict(experiment.score(experiment.vectors())),
        "forgetting": finished.forgetting if finished else None,
        "gap_closed": None,
        "seconds": finished.seconds if finished else None,
    }
