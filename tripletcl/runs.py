"""Runs: train an experiment in a folder, find its stages there again, evaluate them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor

from tripletcl.config import Config, dump_config, parse_config
from tripletcl.continual import RunFolder, SequenceRunner
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiment import CountProgress, Experiment, build, split_name
from tripletcl.files import write_atomically, write_text
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


def train(
    config: Config, folder: Path, progress: StepProgress | None = None, preparing: CountProgress | None = None
) -> RunResult:
    """Train a config's sequence in a run folder, or go on with it, and return its figures.

    Raises:
        UserError: the folder holds a run of another config, the data is bad, or training diverged.
    """
    run = RunFolder(folder, dump_config(config), environment())
    if run.result is not None:
        return RunResult.from_dict(run.result)
    experiment = build(config, preparing)
    write_text(run.path / "tasks.json", json.dumps([group.tolist() for group in experiment.groups]))
    method = build_method(config.method)

    def finish_stage(stage: int) -> dict[str, Any]:
        vectors = experiment.vectors()
        save_stage(run, stage, experiment, vectors)
        return {**asdict(experiment.score(vectors)), "method_bytes": method.memory_bytes()}

    SequenceRunner(
        experiment.learner,
        experiment.tasks,
        method,
        experiment.source,
        config.training,
        experiment.accelerator,
        run,
        finish_stage,
        seed=config.seed,
        stability=config.stability,
        progress=progress,
    ).run()
    result = collect_result(config, run, experiment.task_names)
    run.finish(result.to_dict())
    return result


def save_stage(run: RunFolder, stage: int, experiment: Experiment, vectors: dict[str, Tensor]) -> None:
    """Keep the model of a stage, what it has been taught, and its vectors of the test images."""
    folder = run.stage_folder(stage)
    taught = [i for task in experiment.tasks[:stage] for i in task.classes]
    experiment.embedder.save_pretrained(folder, facts=[experiment.table.facts[i] for i in taught])
    tensors = {key: value.contiguous() for key, value in vectors.items()}
    write_atomically(folder / "vectors.safetensors", lambda temporary: save_file(tensors, temporary))


def collect_result(config: Config, run: RunFolder, tasks: list[str]) -> RunResult:
    """The figures of a finished run, from the stages in its metrics."""
    stages = [m for m in run.metrics if m["kind"] == "stage"]
    last = stages[-1]
    return RunResult(
        method=method_name(config.method),
        seed=config.seed,
        split=split_name(config),
        tasks=tasks,
        map_matrix=[m["map_tasks"] for m in stages],
        map_matrix_all=[m["map_tasks_all"] for m in stages],
        map_all=[m["map_all"] for m in stages],
        recall=last["recall"],
        mrr=last["mrr"],
        ap=last["ap"],
        seconds=last["seconds"],
        map_open=[m["map_open"] for m in stages if m["map_open"] is not None],
        map_subset=[m["map_subset"] for m in stages if m["map_subset"] is not None],
        method_bytes=[m["method_bytes"] for m in stages],
        lams=[m["lam"] for m in stages if "lam" in m],
    )


@dataclass
class Run:
    """A run on disk: its settings and its stages."""

    path: Path
    config: Config

    @classmethod
    def open(cls, path: Path) -> Run:
        """Open a run folder.

        Raises:
            UserError: the folder holds no run; where runs lie below it, they are named.
        """
        settings = Path(path) / "config.yaml"
        if not settings.exists():
            below = sorted(p.parent.name for p in Path(path).glob("*/config.yaml")) if Path(path).is_dir() else []
            hint = f"; there are runs below it: {', '.join(below)}" if below else ""
            raise UserError(f"{path} is no run folder (it has no config.yaml){hint}")
        return cls(Path(path), parse_config(yaml.safe_load(settings.read_text(encoding="utf-8")), str(settings)))

    @property
    def result(self) -> RunResult | None:
        """The run's figures, or None while it is not finished."""
        path = self.path / "result.json"
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

    def vectors(self, stage: int | None = None) -> dict[str, Tensor]:
        """The unit blocks of test images and facts as they were at a stage."""
        return load_file(self.stage_folder(stage) / "vectors.safetensors")


def evaluate(path: Path, stage: int | None = None, progress: CountProgress | None = None) -> dict[str, Any]:
    """Embed the test images anew with the model of a stage and score them.

    Returns:
        The fields of `StageScores`, and what they are of: method, seed, split, stage, tasks. Where the run is finished
        also its forgetting and training seconds, which belong to the run and not to a stage.
    """
    run = Run.open(path)
    folder = run.stage_folder(stage)
    experiment = build(run.config, progress)
    trained = FactEmbedder.from_pretrained(folder, device=experiment.accelerator.device)
    experiment.learner.embedder = trained
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
