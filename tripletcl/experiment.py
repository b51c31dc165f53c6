"""Where the settings meet the parts: builds what a config asks for, trains it, takes it up again from its folder."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch import Tensor

from tripletcl.config import Config, dump_config, parse_config
from tripletcl.continual import InputSource, RunFolder, SequenceRunner, Task, plain_batches
from tripletcl.continual.device import make_accelerator
from tripletcl.data import (
    Augment,
    FactTable,
    ImageCache,
    ImageSource,
    list_images,
    read_table,
    split_facts,
    write_scenes,
)
from tripletcl.embedding import FactEmbedder, build_embedder
from tripletcl.embedding.features import FeatureSource
from tripletcl.embedding.learner import FactLearner
from tripletcl.errors import UserError
from tripletcl.evaluation import FactEvaluator, RunResult, StageScores, equal_queries
from tripletcl.files import write_atomically, write_text
from tripletcl.methods import METHODS

log = logging.getLogger("tripletcl")

EVALUATION_BATCH = 32
"""Images of one forward pass; larger ones leave the CPU's cache."""

StepProgress = Callable[[str, int, int, float], None]
CountProgress = Callable[[str, int, int], None]


def cache_folder() -> Path:
    """Where decoded images, features and drawn scenes are kept: `TRIPLETCL_CACHE`, else `~/.cache/tripletcl`."""
    return Path(os.environ.get("TRIPLETCL_CACHE") or Path.home() / ".cache" / "tripletcl")


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


# --- data ------------------------------------------------------------------------------------------------------------


def load_table(config: Config, progress: CountProgress | None = None) -> FactTable:
    """The config's fact table; scenes are drawn where they do not lie in the cache yet."""
    data = config.data
    if data.table == "scenes":
        settings = data.scenes.model_dump()
        name = "-".join(f"{key}{value}" for key, value in settings.items())
        size = config.model.image_size
        folder = cache_folder() / "scenes" / f"{name}-size{size}"
        return read_table(write_scenes(folder, size=size, progress=_labelled(progress, "drawing scenes"), **settings))
    if "${" in data.table:
        raise UserError(f"data.table is {data.table}: set that environment variable, or give data.table=FILE")
    root = Path(data.root) if data.root is not None else None
    return read_table(Path(data.table), root=root, task_column=data.task_column)


def split_name(config: Config) -> str:
    """What tables call the way the facts were dealt to tasks."""
    return config.data.split if config.data.split == "column" else f"{config.data.split}-{config.data.split_seed}"


def deal_facts(config: Config, table: FactTable, embedder: FactEmbedder) -> list[np.ndarray]:
    """The fact ids of each task; the semantic split clusters the facts read as phrases, "dog riding bicycle"."""
    vectors = None
    if config.data.split == "semantic":
        phrases = [" ".join(unit for unit in fact.units if unit is not None) for fact in table.facts]
        vectors = embedder.text.encode(phrases).cpu().numpy()
    return split_facts(table, config.data.tasks, by=config.data.split, seed=config.data.split_seed, vectors=vectors)


def fact_tasks(
    table: FactTable, groups: Sequence[np.ndarray], names: Sequence[str], where: str, unlabelled: np.ndarray
) -> list[Task]:
    """A task of each group of facts: its training images, each with all facts of the group that it shows.

    Args:
        where: The images that importance is computed on: "train", "test", "both", or else the unlabelled ones.
        unlabelled: Ids of the images of no task.
    """
    tasks = []
    for number, (name, facts) in enumerate(zip(names, groups, strict=True)):
        items = np.unique(table.rows_of("train", facts)[:, 0])
        seen = np.concatenate([np.empty(0, np.int64), *groups[:number]])
        splits = {"train": ["train"], "test": ["test"], "both": ["train", "test"]}.get(where, [])
        importance_items = np.unique(np.concatenate([unlabelled, *(table.rows_of(s, facts)[:, 0] for s in splits)]))
        tasks.append(Task(name, items, table.relevance("train", items, facts), facts, seen, importance_items))
    return tasks


# --- one experiment --------------------------------------------------------------------------------------------------


@dataclass
class Experiment:
    """Everything that a config describes, ready to train or to evaluate."""

    config: Config
    table: FactTable
    groups: list[np.ndarray]
    tasks: list[Task]
    learner: FactLearner
    source: InputSource
    accelerator: Accelerator
    queries: Tensor
    """`[F]` which facts are one query, told by the text before training: a collapsed projection may not merge them."""

    @property
    def embedder(self) -> FactEmbedder:
        return self.learner.embedder

    @property
    def task_names(self) -> list[str]:
        """Names of the groups of facts; joint training has one task but all groups."""
        return [f"task {i + 1}" for i in range(len(self.groups))]

    def test_images(self) -> np.ndarray:
        """Ids of the images that have a test row."""
        return np.unique(self.table.rows_of("test")[:, 0])

    @torch.no_grad()
    def vectors(self) -> dict[str, Tensor]:
        """Normalised unit blocks of the test images and of all facts, with the current weights."""
        self.learner.eval()
        images = self.test_images()
        batches = plain_batches(self.source, images, EVALUATION_BATCH)
        outputs = torch.cat([self.learner(batch).float() for batch in batches])
        facts, present = self.embedder.encode_facts(self.table.facts)
        return {
            "image_ids": torch.from_numpy(images),
            "images": torch.nn.functional.normalize(outputs, dim=-1).cpu(),
            "facts": facts.detach().cpu(),
            "present": present.cpu(),
        }

    def score(self, vectors: dict[str, Tensor]) -> StageScores:
        """MAP, recall and the rest of one stage."""
        evaluator = FactEvaluator(self.table, self.groups, vectors["facts"], vectors["present"], groups=self.queries)
        return evaluator.evaluate(vectors["images"], vectors["image_ids"].numpy())


def build(config: Config, progress: CountProgress | None = None) -> Experiment:
    """Build the data, the tasks and the untrained learner of a config."""
    method = METHODS[config.method["name"]]
    accelerator = make_accelerator(config.device, config.precision)
    set_seed(config.seed)
    table = load_table(config, progress)
    embedder = build_embedder(config.model, config.seed).to(accelerator.device)
    groups = deal_facts(config, table, embedder)
    if config.model.centre:  # on the first task alone: the names of later facts are not known yet
        embedder.text.set_centre(sorted({u for i in groups[0] for u in table.facts[i].units if u is not None}))
    unlabelled = importance_images(config)
    images = image_source(config, [*table.paths, *unlabelled], accelerator.device, progress)
    source: InputSource = images
    if config.data.cache_features:
        if config.model.freeze_until is None:
            raise UserError("data.cache_features needs model.freeze_until: nothing is frozen, so nothing can be cached")
        source = FeatureSource.open(
            images, embedder.image, cache_folder(), progress=_labelled(progress, "frozen features")
        )
    learner = FactLearner(
        embedder,
        table.facts,
        loss=config.loss.name,
        temperature=config.loss.temperature,
        negatives=config.loss.negatives,
        learn_temperature=config.loss.learn_temperature,
        from_features=config.data.cache_features,
    ).to(accelerator.device)
    names = ["all tasks"] if method.joint else [f"task {i + 1}" for i in range(len(groups))]
    tasks = fact_tasks(
        table,
        [np.concatenate(groups)] if method.joint else groups,
        names,
        config.data.importance,
        np.arange(len(table.images), len(table.images) + len(unlabelled)),
    )
    vectors, present = embedder.encode_facts(table.facts)
    queries = equal_queries(vectors.cpu(), present.cpu())
    return Experiment(config, table, groups, tasks, learner, source, accelerator, queries)


def importance_images(config: Config) -> list[Path]:
    """The unlabelled images that importance is computed on, where `data.importance` names a folder."""
    if config.data.importance in ("train", "test", "both"):
        return []
    folder = Path(config.data.importance)
    images = list_images(folder) if folder.is_dir() else []
    if not images:
        raise UserError(f"data.importance is {str(folder)!r}; allowed are train, test, both, or a folder with images")
    return images


def image_source(
    config: Config, paths: Sequence[Path], device: torch.device, progress: CountProgress | None
) -> ImageSource:
    """The decoded, augmented images."""
    size, augmentation = config.model.image_size, config.data.augmentation
    cache = ImageCache.open(paths, size, cache_folder(), progress=_labelled(progress, "decoding images"))
    return ImageSource(cache, Augment(augmentation.flip, augmentation.crop, augmentation.jitter), device)


# --- runs ------------------------------------------------------------------------------------------------------------


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
    settings = {key: value for key, value in config.method.items() if key != "name"}
    method = METHODS[config.method["name"]](**settings)

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
        method=config.method["name"],
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
        import yaml

        settings = Path(path) / "config.yaml"
        if not settings.exists():
            below = sorted(p.parent.name for p in Path(path).glob("*/config.yaml")) if Path(path).is_dir() else []
            hint = f"; there are runs below it: {', '.join(below)}" if below else ""
            raise UserError(f"{path} is no run folder (it has no config.yaml){hint}")
        return cls(Path(path), parse_config(yaml.safe_load(settings.read_text(encoding="utf-8")), str(settings)))

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
    experiment.embedder.load_state_dict(trained.state_dict())
    result = RunFolder(path, dump_config(run.config)).result
    finished = RunResult.from_dict(result) if result is not None else None
    return {
        "method": run.config.method["name"],
        "seed": run.config.seed,
        "split": split_name(run.config),
        "stage": int(folder.name.removeprefix("stage-")),
        "tasks": experiment.task_names,
        **asdict(experiment.score(experiment.vectors())),
        "forgetting": finished.forgetting if finished else None,
        "gap_closed": None,
        "seconds": finished.seconds if finished else None,
    }


def _labelled(progress: CountProgress | None, label: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(label, done, total)
