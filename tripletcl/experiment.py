"""Where the settings meet the parts: builds the data, the tasks and the learner that a config asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor

from tripletcl.config import Config
from tripletcl.config.schema import LABELLED
from tripletcl.continual import InputSource, Task, plain_batches
from tripletcl.continual.device import make_accelerator
from tripletcl.continual.task import derived_seed
from tripletcl.data import (
    Augment,
    Fact,
    FactTable,
    ImageCache,
    ImageSource,
    list_images,
    read_table,
    split_facts,
    write_scenes,
)
from tripletcl.data.facts import SPLITS
from tripletcl.embedding import FactEmbedder, build_embedder
from tripletcl.embedding.features import FeatureSource
from tripletcl.embedding.learner import FactLearner
from tripletcl.errors import UserError
from tripletcl.evaluation import FactEvaluator, StageScores, equal_queries
from tripletcl.files import locked
from tripletcl.methods import build_method
from tripletcl.retrieval.query import parse_query

EVALUATION_BATCH = 32
"""Images of one forward pass; larger ones leave the CPU's cache."""

FACTS_NAMED = 8
"""In a message about a subset of none."""

HELD_OUT, DRAWN = 1, 2
"""Told apart in seeds: which images are held out of training, and which importance is computed on."""

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
        with nullcontext() if folder.exists() else locked(folder.with_suffix(".lock")):  # drawn by one process alone
            drawn = write_scenes(folder, size=size, progress=_labelled(progress, "drawing scenes"), **settings)
        return read_table(drawn)
    if "${" in data.table:
        raise UserError(f"data.table is {data.table}: set that environment variable, or give data.table=FILE")
    root = Path(data.root) if data.root is not None else None
    return read_table(Path(data.table), root=root, task_column=data.task_column)


def split_name(config: Config) -> str:
    """What tables call the way the facts were dealt to tasks."""
    return config.data.split if config.data.split == "column" else f"{config.data.split}-{config.data.split_seed}"


def deal_facts(
    config: Config, table: FactTable, embedder: FactEmbedder, chosen: np.ndarray | None = None
) -> list[np.ndarray]:
    """The fact ids of each task; the semantic split clusters the facts read as phrases, "dog riding bicycle"."""
    vectors = None
    if config.data.split == "semantic":
        phrases = [" ".join(unit for unit in fact.units if unit is not None) for fact in table.facts]
        vectors = embedder.text.encode(phrases).cpu().numpy()
    groups = split_facts(table, config.data.tasks, by=config.data.split, seed=config.data.split_seed, vectors=vectors)
    return taught_first(table, groups, chosen) if chosen is not None and config.data.subset_first else groups


def taught_first(table: FactTable, groups: Sequence[np.ndarray], chosen: np.ndarray) -> list[np.ndarray]:
    """All chosen facts moved into the first task; the others stay where they are.

    Raises:
        UserError: a task is left without training or test images.
    """
    moved = [np.union1d(groups[0], chosen), *(np.setdiff1d(facts, chosen) for facts in groups[1:])]
    for number, facts in enumerate(moved, 1):
        if not all(len(table.rows_of(split, facts)) for split in SPLITS):
            raise UserError(f"data.subset_first leaves task {number} no facts with training and test images")
    return moved


def chosen_facts(config: Config, table: FactTable) -> np.ndarray | None:
    """Ids of the facts that `data.subset` asks for; None where it is not set.

    It is read as a query is: `?` is any unit and none at all, so "person playing ?" has <person, playing> as well.

    Raises:
        UserError: it is no query, or no fact with training and test images is as it says.
    """
    if config.data.subset is None:
        return None
    wanted = [unit and unit.casefold() for unit in parse_query(config.data.subset).units]
    chosen = [number for number, fact in enumerate(table.facts) if _is_as(wanted, fact)]
    if not chosen:
        some = ", ".join(map(str, table.facts[:FACTS_NAMED]))
        raise UserError(f"data.subset {config.data.subset!r} matches no fact; there are {some} and others")
    for split, kind in zip(SPLITS, ("training", "test"), strict=True):
        if not len(table.rows_of(split, chosen)):
            raise UserError(f"data.subset {config.data.subset!r} matches no fact with {kind} images")
    return np.array(chosen, dtype=np.int64)


def _is_as(wanted: Sequence[str | None], fact: Fact) -> bool:
    return all(unit is None or unit == (own or "").casefold() for unit, own in zip(wanted, fact.units, strict=True))


def images_held_out(config: Config, table: FactTable) -> np.ndarray:
    """Ids of the training images that no method may train on: the same ones for every task, split and method."""
    images = np.unique(table.rows_of("train")[:, 0])
    return drawn(images, round(config.data.validation * len(images)), derived_seed(config.seed, HELD_OUT))


def drawn(items: np.ndarray, count: int | None, seed: int) -> np.ndarray:
    """So many of the items, drawn at random, in their order; all where there are no more or count is None."""
    if count is None or count >= len(items):
        return items
    return np.sort(np.random.default_rng(seed).choice(items, count, replace=False))


def fact_tasks(
    config: Config,
    table: FactTable,
    groups: Sequence[np.ndarray],
    names: Sequence[str],
    unlabelled: np.ndarray,
    chosen: np.ndarray | None = None,
) -> list[Task]:
    """A task of each group of facts: its training images, each with all facts of the group that it shows.

    Args:
        unlabelled: Ids of the images of no task, where `data.importance` is a folder of them.
        chosen: Ids of the facts whose images alone importance is computed on; None for all facts.

    Raises:
        UserError: nothing of a task is left to train on.
    """
    held_out, tasks = images_held_out(config, table), []
    for number, (name, facts) in enumerate(zip(names, groups, strict=True)):
        images = np.unique(table.rows_of("train", facts)[:, 0])
        items, validation = np.setdiff1d(images, held_out), np.intersect1d(images, held_out)
        if not len(items):
            raise UserError(f"data.validation {config.data.validation:g} leaves {name} no image to train on")
        shown = facts if chosen is None else np.intersect1d(facts, chosen)
        sensitive = np.union1d(unlabelled, labelled_images(config, table, shown, held_out))
        task = Task(
            name,
            items,
            table.relevance("train", items, facts),
            facts,
            seen=np.concatenate([np.empty(0, np.int64), *groups[:number]]),
            importance_items=drawn(sensitive, config.data.importance_images, derived_seed(config.seed, DRAWN, number)),
            importance_subset=chosen is not None,
            validation_items=validation,
            validation_targets=table.relevance("train", validation, facts),
        )
        tasks.append(task)
    return tasks


def labelled_images(config: Config, table: FactTable, facts: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Ids of the images of some facts that importance is computed on: those trained on, the test images, or both."""
    splits = {"train": ["train"], "test": ["test"], "both": ["train", "test"]}.get(config.data.importance, [])
    shown = {split: table.rows_of(split, facts)[:, 0] for split in splits}
    if "train" in shown:
        shown["train"] = np.setdiff1d(shown["train"], held_out)
    return np.unique(np.concatenate([np.empty(0, np.int64), *shown.values()]))


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
    chosen: np.ndarray | None = None
    """Ids of the facts of `data.subset`."""

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
        """Normalised unit blocks of the test images and of all facts, and closed scores, with the current weights."""
        self.learner.eval()
        images = self.test_images()
        batches = plain_batches(self.source, images, EVALUATION_BATCH)
        representation = torch.cat([self.learner.represent(batch).float() for batch in batches])
        outputs = self.learner.readout(representation)
        facts, present = self.embedder.encode_facts(self.table.facts)
        closed = self.embedder.closed_scores(representation, self.table.facts)
        return {
            **({} if closed is None else {"closed": closed.cpu()}),
            "image_ids": torch.from_numpy(images),
            "images": torch.nn.functional.normalize(outputs, dim=-1).cpu(),
            "facts": facts.detach().cpu(),
            "present": present.cpu(),
        }

    def score(self, vectors: dict[str, Tensor]) -> StageScores:
        """MAP, recall and the rest of one stage."""
        facts, present = vectors["facts"], vectors["present"]
        evaluator = FactEvaluator(self.table, self.groups, facts, present, groups=self.queries, subset=self.chosen)
        return evaluator.evaluate(vectors["images"], vectors["image_ids"].numpy(), vectors.get("closed"))


def build(config: Config, progress: CountProgress | None = None) -> Experiment:
    """Build the data, the tasks and the untrained learner of a config."""
    method = build_method(config.method)
    accelerator = make_accelerator(config.device, config.precision)
    set_seed(config.seed)
    table = load_table(config, progress)
    chosen = chosen_facts(config, table)
    embedder = build_embedder(config.model, config.seed).to(accelerator.device)
    groups = deal_facts(config, table, embedder, chosen)
    first = sorted({u for i in groups[0] for u in table.facts[i].units if u is not None})
    if config.model.centre:  # on the first task alone: the names of later facts are not known yet
        embedder.text.set_centre(first)
    if config.model.whiten:
        embedder.text.whiten(first, config.model.whitening_floor)
    unlabelled = unlabelled_images(config)
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
        config,
        table,
        [np.concatenate(groups)] if method.joint else groups,
        names,
        np.arange(len(table.images), len(table.images) + len(unlabelled)),
        chosen if method.properties.adaptive or config.data.subset_importance == "always" else None,
    )
    vectors, present = embedder.encode_facts(table.facts)
    queries = equal_queries(vectors.cpu(), present.cpu())
    return Experiment(config, table, groups, tasks, learner, source, accelerator, queries, chosen)


def unlabelled_images(config: Config) -> list[Path]:
    """The unlabelled images that importance is computed on, where `data.importance` names a folder."""
    if config.data.importance in LABELLED:
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
