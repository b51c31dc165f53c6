"""Runs: train an experiment in a folder, find its stages there again, evaluate them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from tripletcl.config import FactConfig, dump_config, parse_config
from tripletcl.continual import RunFolder, SequenceRunner
from tripletcl.continual.run_folder import SETTINGS
from tripletcl.data.writer import write_table
from tripletcl.embedding import FactEmbedder
from tripletcl.embedding.embedder import SPEC_FILE
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiment import CountProgress, Experiment, build, load_table, split_name
from tripletcl.files import write_atomically, write_text
from tripletcl.kept import Kept, load_texts, save_texts
from tripletcl.methods import build_method, method_name

StepProgress = Callable[[str, int, int, float], None]
"""(task, step, steps, loss)."""


def environment() -> dict[str, str]:
    """Versions and machine, kept with every run."""
    packages = ("tripletcl", "torch", "torchvision", "timm", "transformers", "faiss-cpu", "numpy")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "gpu": device,
    }


BASE_TABLE, RESULT, GROUPS = "tables/base.csv", "result.json", "tasks.json"
KEPT, TEXTS = "kept/test.safetensors", "kept/texts.safetensors"
"""Files of a run."""


def train(
    config: FactConfig, folder: Path, progress: StepProgress | None = None, preparing: CountProgress | None = None
) -> RunResult:
    """Train a config's sequence in a run folder, or go on with it, and return its figures.

    Raises:
        UserError: the folder holds a run of another config, the data is bad, or training diverged.
    """
    run = RunFolder(folder, settings_text(config, folder), environment())
    if run.result is not None:
        return RunResult.from_dict(run.result)
    return learn(run, within(config, folder), progress, preparing)[0]


def learn(
    run: RunFolder,
    config: FactConfig,
    progress: StepProgress | None = None,
    preparing: CountProgress | None = None,
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
        found, method = run.newest(), build_method(config.method)
        if found is None and commit is not None:
            raise UserError(f"{run.path} has no whole checkpoint to go on from")
        if found is not None and thrifty:
            method.get_ready(found[1]["method"])
        learned, encoded = found[0].stage if found else 0, load_texts(run.path / TEXTS)
        experiment = build(config, preparing, learned=learned, thrifty=thrifty, encoded=encoded)
        experiment.kept = Kept.load(run.path / KEPT)
        keep_tables(run.path, experiment)
        keep = _Keeper(run.path, experiment, encoded)

        def finish_stage(stage: int) -> dict[str, Any]:
            vectors = experiment.vectors()
            save_stage(run, stage, experiment, vectors)
            keep()
            return {**asdict(experiment.score(vectors)), "method_bytes": method.memory_bytes()}

        runner = SequenceRunner(
            experiment.learner,
            experiment.tasks,
            method,
            experiment.source,
            experiment.trainings,
            experiment.accelerator,
            run,
            finish_stage,
            seed=config.seed,
            stability=config.stability,
            progress=progress,
        )
        runner.check()
        if commit is not None:
            commit()
        runner.run(found)
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
            self.kept.save(self.folder / KEPT)
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
    config, path = experiment.config.data, folder / GROUPS
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    first = len(groups) - len(config.further)
    if started(folder) and before[:first] != groups[:first]:
        raise UserError(f"{config.table} has changed since {folder} learned from it: its facts are no longer the same")
    for number, table in enumerate(experiment.tables):
        kept = kept_table(folder, number) if number else folder / BASE_TABLE
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
    write_atomically(folder / "vectors.safetensors", lambda temporary: save_file(tensors, temporary))


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
        map_matrix=rows("map_tasks"),
        map_matrix_all=rows("map_tasks_all"),
        map_all=[m["map_all"] for m in stages],
        recall=last["recall"],
        mrr=last["mrr"],
        ap=[(fact, ap) for fact, ap in last["ap"]],
        seconds=last["seconds"],
        map_open=[m["map_open"] for m in stages if m["map_open"] is not None],
        map_subset=[m["map_subset"] for m in stages] if config.data.subset is not None else [],
        method_bytes=[m["method_bytes"] for m in stages],
        lams=[m["lam"] for m in stages if "lam" in m],
    )


def kept_table(folder: Path, number: int) -> Path:
    """Where a run keeps its further table of this number, from 1."""
    return folder / "tables" / f"further-{number:02d}.csv"


def started(folder: Path) -> bool:
    """Has anything been computed there?"""
    return (folder / "metrics.jsonl").exists()


def within(config: FactConfig, folder: Path) -> FactConfig:
    """The config with the tables that its run keeps in place of those named."""
    if not started(folder):
        return config
    further = [
        entry.model_copy(update={"table": str(kept.absolute())})
        if (kept := kept_table(folder, number)).exists()
        else entry
        for number, entry in enumerate(config.data.further, 1)
    ]
    changes: dict[str, Any] = {"further": further}
    if (folder / BASE_TABLE).exists() and config.data.table != "scenes":
        changes |= {"table": str((folder / BASE_TABLE).absolute()), "root": None}
    return config.model_copy(update={"data": config.data.model_copy(update=changes)})


def settings_text(config: FactConfig, folder: Path) -> str:
    """What stands in the folder where it means this config, though another version wrote it; else the config.

    Raises:
        UserError: the run has learned further tables since it was trained by this config.
    """
    there = folder / SETTINGS
    if not there.exists():
        return dump_config(config)
    known = read_settings(folder)
    if known == config:
        return there.read_text(encoding="utf-8")
    alone = known.data.model_copy(update={"further": []})
    if known.data.further and known.model_copy(update={"data": alone}) == config:
        raise UserError(f"{folder} has learned further tables since; go on with `tripletcl train --continue {folder}`")
    return dump_config(config)


def read_settings(folder: Path) -> FactConfig:
    """The settings of a run, as they were given."""
    path = folder / SETTINGS
    return parse_config(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


@dataclass
class Run:
    """A run on disk: its settings and its stages.

    Attributes:
        path: The folder.
        config: Its settings, with the tables that the run keeps in place of those named.
    """

    path: Path
    config: FactConfig

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run folder.

        Raises:
            UserError: the folder holds no run; where runs lie below it, they are named.
        """
        path = Path(path)
        if not (path / SETTINGS).exists():
            below = sorted(p.parent.name for p in path.glob(f"*/{SETTINGS}")) if path.is_dir() else []
            hint = f"; there are runs below it: {', '.join(below)}" if below else ""
            raise UserError(f"{path} is no run folder (it has no config.yaml){hint}")
        return cls(path, within(read_settings(path), path))

    @property
    def result(self) -> RunResult | None:
        """The run's figures, or None while it is not finished."""
        path = self.path / RESULT
        return RunResult.from_dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def stages(self) -> Iterator[int]:
        """The stages whose model is there, in order; 0 is the model before training."""
        for folder in sorted((self.path / "stages").glob("stage-*")):
            if (folder / "vectors.safetensors").exists():
                yield int(folder.name.removeprefix("stage-"))

    def stage_folder(self, stage: int | None = None) -> Path:
        """The model of a stage; the last one by default.

        Raises:
            UserError: no such stage.
        """
        there = list(self.stages())
        chosen = there[-1] if there and stage is None else stage
        if chosen not in there:
            raise UserError(f"{self.path} has no model of stage {chosen}; there are {there or 'none'}")
        return self.path / "stages" / f"stage-{chosen:02d}"

    def fingerprint(self, stage: int | None = None) -> str:
        """What tells the model of a stage from every other."""
        return saved_fingerprint(self.stage_folder(stage))

    def stage_of(self, fingerprint: str) -> int | None:
        """The newest stage whose model has this fingerprint; None where none has."""
        stages = reversed(list(self.stages()))
        return next((stage for stage in stages if self.fingerprint(stage) == fingerprint), None)

    def vectors(self, stage: int | None = None) -> dict[str, Tensor]:
        """The unit blocks of test images and facts as they were at a stage."""
        return load_file(self.stage_folder(stage) / "vectors.safetensors")


def saved_fingerprint(folder: Path) -> str:
    """The fingerprint of a saved embedder; folders of a former version, which do not say it, are read as a whole."""
    about = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    return about.get("fingerprint") or FactEmbedder.from_pretrained(folder).fingerprint()


def evaluate(path: Path, stage: int | None = None, progress: CountProgress | None = None) -> dict[str, Any]:
    """Embed the test images anew with the model of a stage and score them; those that are gone by now are left out.

    Returns:
        The fields of `StageScores`, and what they are of: method, seed, split, stage, tasks. Where the run is finished
        also its forgetting and training seconds, which belong to the run and not to a stage.
    """
    run = Run.open(path)
    folder = run.stage_folder(stage)
    gone = not all(path.exists() for path in load_table(run.config, progress).paths)
    experiment = build(run.config, progress, learned=max(run.stages()) if gone else 0)
    trained = FactEmbedder.from_pretrained(folder, device=experiment.accelerator.device)
    experiment.learner.embedder = trained
    experiment.kept = Kept.load(run.path / KEPT) if gone else Kept()
    finished = run.result
    return {
        "method": method_name(run.config.method),
        "seed": run.config.seed,
        "split": split_name(run.config),
        "stage": int(folder.name.removeprefix("stage-")),
        "tasks": experiment.task_names,
        **asdict(experiment.score(experiment.vectors())),
        "forgetting": finished.forgetting if finished else None,
        "gap_closed": None,
        "seconds": finished.seconds if finished else None,
    }
