"""Where the settings meet the parts: builds the data, the tasks and the learner that a config asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from tripletcl.config import Config
from tripletcl.continual import InputSource, Task, plain_batches
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
from tripletcl.evaluation import FactEvaluator, StageScores, equal_queries
from tripletcl.methods import build_method

EVALUATION_BATCH = 32
"""Images of one forward pass; larger ones leave the CPU's cache."""

CountProgress = Callable[[str, int, int], None]
"""(label, done, total)."""


def cache_folder() -> Path:
    """Where decoded images, features and drawn scenes are kept: `TRIPLETCL_CACHE`, else `~/.cache/tripletcl`."""
    return Path(os.environ.get("TRIPLETCL_CACHE") or Path.home() / ".cache" / "tripletcl")


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
    joint = build_method(config.method).joint
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
    names = ["all tasks"] if joint else [f"task {i + 1}" for i in range(len(groups))]
    tasks = fact_tasks(
        table,
        [np.concatenate(groups)] if joint else groups,
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


def _labelled(progress: CountProgress | None, label: str) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(label, done, total)
