"""Where the settings meet the parts: builds the data, the tasks and the learner that a config asks for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.config import FactConfig
from tripletcl.config.facts import LABELLED
from tripletcl.continual import InputSource, Task, Training, plain_batches
from tripletcl.continual.checkpoint import set_seed
from tripletcl.continual.device import Compute, compute_on
from tripletcl.continual.task import derived_seed
from tripletcl.data import FactTable, held_out_facts, list_images, read_table, split_facts
from tripletcl.data.facts import SPLITS
from tripletcl.data.query import parse_query
from tripletcl.data.splits import sample
from tripletcl.embedding import FactEmbedder, build_embedder
from tripletcl.embedding.fact_learner import FactLearner
from tripletcl.errors import UserError
from tripletcl.evaluation import FactEvaluator, StageScores, equal_queries
from tripletcl.experiments.feature_cache import FeatureCache
from tripletcl.experiments.inputs import FormerTable, Joined, Opener, cache_folder, own_folder
from tripletcl.files import locked
from tripletcl.methods import build_method
from tripletcl.scenes import write_scenes

log = logging.getLogger("tripletcl")

EVALUATION_BATCH = 32
"""Images of one forward pass; larger ones leave the CPU's cache."""

FACTS_NAMED = 8
"""In a message about a subset of none."""

HELD_OUT, DRAWN = 1, 2
"""Told apart in seeds: which images are held out of training, and which importance is computed on."""


# --- data ------------------------------------------------------------------------------------------------------------


def load_table(config: FactConfig) -> FactTable:
    """All that the config's tables say, put together."""
    first, *further = load_tables(config)
    return first.join(further)


def load_tables(config: FactConfig) -> list[FactTable]:
    """The first table, whose facts are dealt to tasks, and the further ones, each a task."""
    further = [read_table(Path(entry.table), absolute=True) for entry in config.data.further]
    return [_first_table(config), *further]


def _first_table(config: FactConfig) -> FactTable:
    """The fact table of `data.table`; scenes are drawn where they do not lie in the cache yet."""
    data = config.data
    if data.table == "scenes":
        settings = data.scenes.model_dump()
        name = "-".join(f"{key}{value}" for key, value in settings.items())
        size = config.model.image_size
        folder = cache_folder() / "scenes" / f"{name}-size{size}"
        with nullcontext() if folder.exists() else locked(folder.with_suffix(".lock")):  # drawn by one process alone
            drawn = write_scenes(folder, size=size, **settings)
        return read_table(drawn)
    if "${" in data.table:
        raise UserError(f"data.table is {data.table}: set that environment variable, or give data.table=FILE")
    root = Path(data.root) if data.root is not None else None
    return read_table(Path(data.table), root=root, task_column=data.task_column, absolute=True)


def tasks_of_first_table(config: FactConfig) -> int:
    """How many tasks the facts of `data.table` are dealt to."""
    if config.data.tasks is not None:
        return config.data.tasks
    return len(set(_first_table(config).groups or ()))


def split_name(config: FactConfig) -> str:
    """What tables call the way the facts were dealt to tasks."""
    return config.data.split if config.data.split == "column" else f"{config.data.split}-{config.data.split_seed}"


def deal_facts(
    config: FactConfig, table: FactTable, embedder: FactEmbedder, chosen: np.ndarray | None = None
) -> list[np.ndarray]:
    """The fact ids of each task; the semantic split clusters the facts read as phrases, "dog riding bicycle"."""
    vectors = None
    if config.data.split == "semantic":
        phrases = [" ".join(unit for unit in fact.units if unit is not None) for fact in table.facts]
        vectors = embedder.text.encode(phrases).cpu().numpy()
    groups = split_facts(table, config.data.tasks, by=config.data.split, seed=config.data.split_seed, vectors=vectors)
    if config.data.unseen:
        groups = _without(table, groups, held_out_facts(table, config.data.unseen, config.data.split_seed))
    if chosen is None or not config.data.subset_first:
        return groups
    return taught_first(table, groups, chosen[chosen < len(table.facts)])


def _without(table: FactTable, groups: Sequence[np.ndarray], unseen: np.ndarray) -> list[np.ndarray]:
    """The groups without facts that are not to be taught."""
    left = [np.setdiff1d(facts, unseen) for facts in groups]
    for number, facts in enumerate(left, 1):
        if not all(len(table.rows_of(split, facts)) for split in SPLITS):
            raise UserError(f"data.unseen leaves task {number} no facts with training and test images")
    return left


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


def chosen_facts(config: FactConfig, table: FactTable) -> np.ndarray | None:
    """Ids of the facts that `data.subset` asks for; None where it is not set.

    It is read as a query is: `?` is any unit and none at all, so "person playing ?" has <person, playing> as well.

    Raises:
        UserError: it is no query, or no fact with training and test images is as it says.
    """
    if config.data.subset is None:
        return None
    subset = parse_query(config.data.subset)
    chosen = [number for number, fact in enumerate(table.facts) if subset.matches(fact)]
    if not chosen:
        some = ", ".join(map(str, table.facts[:FACTS_NAMED]))
        raise UserError(f"data.subset {config.data.subset!r} matches no fact; there are {some} and others")
    for split, kind in zip(SPLITS, ("training", "test"), strict=True):
        if not len(table.rows_of(split, chosen)):
            raise UserError(f"data.subset {config.data.subset!r} matches no fact with {kind} images")
    return np.array(chosen, dtype=np.int64)


def images_held_out(config: FactConfig, table: FactTable) -> np.ndarray:
    """Ids of the training images that no method may train on: the same ones for every task, split and method.

    They are drawn from each table by itself, so that one that comes later changes nothing; of the few photos that a
    fact was taught by, none is.
    """
    held_out = []
    for number in range(len(table.starts)):
        images = np.unique(table.rows_of("train", table=number)[:, 0])
        taught = number > 0 and config.data.further[number - 1].taught is not None
        count = 0 if taught else round(config.data.validation * len(images))
        held_out.append(sample(images, count, derived_seed(config.seed, HELD_OUT, *([number] if number else []))))
    return np.concatenate(held_out)


def fact_tasks(
    config: FactConfig,
    table: FactTable,
    groups: Sequence[np.ndarray],
    names: Sequence[str],
    unlabelled: np.ndarray,
    chosen: np.ndarray | None = None,
    origins: Sequence[int] | None = None,
) -> list[Task]:
    """A task of each group of facts: its training images, each with all facts of the group that it shows.

    Args:
        unlabelled: Ids of the images of no task, where `data.importance` is a folder of them.
        chosen: Ids of the facts whose images alone importance is computed on; None for all facts.
        origins: The table, of those put together, that each task takes its images from; None for all tables.

    Raises:
        UserError: nothing of a task is left to train on.
    """
    held_out, tasks = images_held_out(config, table), []
    for number, (name, facts) in enumerate(zip(names, groups, strict=True)):
        origin = None if origins is None else origins[number]
        images = np.unique(table.rows_of("train", facts, origin)[:, 0])
        items, validation = np.setdiff1d(images, held_out), np.intersect1d(images, held_out)
        if not len(images):
            raise UserError(f"{name} has no training images")
        if not len(items):
            raise UserError(f"data.validation {config.data.validation:g} leaves {name} no image to train on")
        shown = facts if chosen is None else np.intersect1d(facts, chosen)
        sensitive = np.union1d(unlabelled, labelled_images(config, table, shown, held_out, origin))
        task = Task(
            name,
            items,
            table.relevance("train", items, facts),
            facts,
            earlier_classes=np.concatenate([np.empty(0, np.int64), *groups[:number]]),
            importance_items=sample(sensitive, config.data.importance_images, derived_seed(config.seed, DRAWN, number)),
            importance_subset=chosen is not None,
            validation_items=validation,
            validation_targets=table.relevance("train", validation, facts),
        )
        tasks.append(task)
    return tasks


def labelled_images(
    config: FactConfig, table: FactTable, facts: np.ndarray, held_out: np.ndarray, origin: int | None = None
) -> np.ndarray:
    """Ids of the images of some facts that importance is computed on: those trained on, the test images, or both."""
    splits = {"train": ["train"], "test": ["test"], "both": ["train", "test"]}.get(config.data.importance, [])
    shown = {split: table.rows_of(split, facts, origin)[:, 0] for split in splits}
    if "train" in shown:
        shown["train"] = np.setdiff1d(shown["train"], held_out)
    return np.unique(np.concatenate([np.empty(0, np.int64), *shown.values()]))


# --- one experiment --------------------------------------------------------------------------------------------------


@dataclass
class FactExperiment:
    """Everything that a config describes, ready to train or to evaluate.

    Attributes:
        tables: The config's tables by themselves; `table` is all of them put together.
        groups: The fact ids of each task, and `origins` the table of each. Joint training has one task but all groups.
        queries: `[F]` which facts are one query, told by the text before training: a collapsed projection may not
            merge them.
        chosen: Ids of the facts of `data.subset`.
        former: The tables that were learned before, by their number.
        cache: Features of test images that hold while the trunk is frozen.
        cached_only: Leave test images of former tables out whose scores would cost more than the trained part of the
            network.
    """

    config: FactConfig
    tables: list[FactTable]
    table: FactTable
    groups: list[np.ndarray]
    origins: list[int]
    tasks: list[Task]
    learner: FactLearner
    source: InputSource
    compute: Compute
    queries: Tensor
    chosen: np.ndarray | None = None
    former: dict[int, FormerTable] = field(default_factory=dict)
    cache: FeatureCache = field(default_factory=FeatureCache)
    cached_only: bool = False

    @property
    def embedder(self) -> FactEmbedder:
        return self.learner.embedder

    @property
    def task_names(self) -> list[str]:
        """Names of the groups of facts."""
        return task_names(len(self.groups))

    @property
    def trainings(self) -> list[Training]:
        """How each task is trained."""
        own = [entry.training for entry in self.config.data.further]
        return [(origin and own[origin - 1]) or self.config.training for origin in self.origins[: len(self.tasks)]]

    def test_images(self) -> np.ndarray:
        """Ids of the images that have a test row."""
        return np.unique(self.table.rows_of("test")[:, 0])

    def scored_images(self) -> np.ndarray:
        """Ids of the test images that scores are of: of former tables those whose photo, or what is kept, is there."""
        images = self.test_images()
        of = self.table.table_of(images)
        there = np.isin(of, list(self.former), invert=True)
        for number, former in self.former.items():
            if not self.cached_only or former.is_cheap:
                there |= np.isin(images, former.there + self.table.starts[number])
        there |= np.array([row is not None for row in self._kept_rows(images)], dtype=bool)
        if not there.all():
            log.warning(
                "%d of %d test images are left out of the figures: their photos are no longer there%s",
                (~there).sum(),
                len(there),
                ", or what the network makes of them is not at hand" if self.cached_only else "",
            )
        return images[there]

    @torch.no_grad()
    def vectors(self) -> dict[str, Tensor]:
        """Normalised unit blocks of the test images and of all facts, and closed scores, with the current weights."""
        self.learner.eval()
        images = self.scored_images()
        representation = self._represent(images)
        outputs, closed = self.embedder.vectors_and_scores(representation, self.table.facts)
        facts, present = self.embedder.encode_facts(self.table.facts)
        return {
            **({} if closed is None else {"closed": closed.cpu()}),
            "image_ids": torch.from_numpy(images),
            "images": outputs.cpu(),
            "facts": facts.detach().cpu(),
            "present": present.cpu(),
        }

    def _represent(self, images: np.ndarray) -> Tensor:
        """The representation `[N, C]` of test images, kept from now on where the trunk stands still."""
        rows = self._kept_rows(images)
        new = np.array([row is None for row in rows], dtype=bool)
        batches = plain_batches(self.source, images[new], EVALUATION_BATCH)
        found = [self.learner.represent(batch).float() for batch in batches]
        device = self.compute.device
        if not new.all():
            found.append(self.cache.representation[[row for row in rows if row is not None]].to(device))
        if not found:
            return self.embedder.represent_images([])
        order = np.argsort(np.concatenate([np.flatnonzero(new), np.flatnonzero(~new)]))
        representation = torch.cat(found)[torch.from_numpy(order).to(device)]
        if new.any() and self.embedder.trunk_is_frozen:
            self.cache = FeatureCache.of(self.embedder, [self.table.paths[image] for image in images], representation)
        return representation

    def _kept_rows(self, images: np.ndarray) -> list[int | None]:
        return self.cache.rows(self.embedder, [self.table.paths[image] for image in images])

    def score(self, vectors: dict[str, Tensor]) -> StageScores:
        """MAP, recall and the rest of one stage."""
        facts, present = vectors["facts"], vectors["present"]
        evaluator = FactEvaluator(
            self.table, self.groups, facts, present, groups=self.queries, subset=self.chosen, origins=self.origins
        )
        return evaluator.evaluate(vectors["images"], vectors["image_ids"].numpy(), vectors.get("closed"))


def task_names(count: int) -> list[str]:
    """What tables and plots call the tasks."""
    return [f"task {number}" for number in range(1, count + 1)]


def build_facts(
    config: FactConfig,
    *,
    learned: int = 0,
    cached_only: bool = False,
    texts: Mapping[str, Tensor] | None = None,
) -> FactExperiment:
    """Build the data, the tasks and the untrained learner of a config.

    Args:
        learned: How many tasks have been learned already; of tables whose tasks have all been, nothing is needed any
            more: their test images are scored where they are still there.
        cached_only: See `FactExperiment`.
        texts: Vectors of texts that were encoded before.
    """
    method = build_method(config.method)
    compute = compute_on(config.device, config.precision)
    set_seed(config.seed)
    tables = load_tables(config)
    table = tables[0].join(tables[1:])
    chosen = chosen_facts(config, table)
    embedder = build_embedder(config.model, config.seed).to(compute.device)
    embedder.text.add_encoded(texts or {})
    groups = deal_facts(config, tables[0], embedder, chosen)
    know_first_texts(config, tables[0], groups[0], embedder)
    first, groups = len(groups), [*groups, *(further_facts(table, each) for each in tables[1:])]
    origins = [0] * first + list(range(1, len(tables)))
    done = [learned >= (1 if method.joint else first + number) for number in range(len(tables))]
    opener = Opener(config, embedder.image, compute.device)
    source, former = open_images(opener, table, unlabelled := unlabelled_images(config), done)
    learner = FactLearner(
        embedder,
        table.facts,
        loss=config.loss.name,
        temperature=config.loss.temperature,
        negatives=config.loss.negatives,
        learn_temperature=config.loss.learn_temperature,
        from_features=config.data.cache_features,
    ).to(compute.device)
    tasks = fact_tasks(
        config,
        table,
        [np.array(list(dict.fromkeys(np.concatenate(groups).tolist())))] if method.joint else groups,
        ["all tasks"] if method.joint else task_names(len(groups)),
        np.arange(len(table.images), len(table.images) + len(unlabelled)),
        chosen if method.properties.adaptive or config.data.subset_importance == "always" else None,
        None if method.joint else origins,
    )
    vectors, present = embedder.encode_facts(table.facts)
    queries = equal_queries(vectors.cpu(), present.cpu())
    return FactExperiment(
        config, tables, table, groups, origins, tasks, learner, source, compute, queries, chosen, former,
        cached_only=cached_only,
    )  # fmt: skip


def know_first_texts(config: FactConfig, table: FactTable, facts: np.ndarray, embedder: FactEmbedder) -> None:
    """Centre or whiten the text vectors by the first task alone: the names of later facts are not known yet."""
    texts = sorted({unit for fact in facts for unit in table.facts[fact].units if unit is not None})
    if config.model.centre:
        embedder.text.set_centre(texts)
    if config.model.whiten:
        embedder.text.whiten(texts, config.model.whitening_floor)


def further_facts(table: FactTable, further: FactTable) -> np.ndarray:
    """The ids, among all facts, of those of one table."""
    number = {fact: number for number, fact in enumerate(table.facts)}
    return np.sort(np.array([number[fact] for fact in further.facts], dtype=np.int64))


def open_images(
    opener: Opener, table: FactTable, unlabelled: Sequence[Path], done: Sequence[bool]
) -> tuple[InputSource, dict[int, FormerTable]]:
    """The images of all tables, and behind them the unlabelled ones, as one source; and the tables that are done.

    Args:
        done: For each of the tables put together: have its tasks been learned?
    """
    ends = [*table.starts[1:], len(table.images)]
    tests = np.unique(table.rows_of("test")[:, 0])
    sources: list[InputSource] = []
    former: dict[int, FormerTable] = {}
    for number, (start, end) in enumerate(zip(table.starts, ends, strict=True)):
        paths = table.paths[start:end]
        folder = own_folder("table", paths) if number else cache_folder()
        if done[number]:
            own = tests[(tests >= start) & (tests < end)] - start
            former[number] = FormerTable(opener, paths, own, folder)
        sources.append(former[number] if done[number] else opener.open(paths, folder))
    if unlabelled:
        sources.append(opener.open(unlabelled, cache_folder() / "unlabelled"))
    return Joined([*table.starts, len(table.images)][: len(sources)], sources), former


def unlabelled_images(config: FactConfig) -> list[Path]:
    """The unlabelled images that importance is computed on, where `data.importance` names a folder."""
    if config.data.importance in LABELLED:
        return []
    folder = Path(config.data.importance)
    images = list_images(folder) if folder.is_dir() else []
    if not images:
        raise UserError(f"data.importance is {str(folder)!r}; allowed are train, test, both, or a folder with images")
    return images
