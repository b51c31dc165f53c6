"""An experiment on facts: the data, the tasks and the learner that a config asks for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tripletcl.config import FactConfig
from tripletcl.config.facts import NO_TABLE
from tripletcl.continual import InputSource, Method, Task, Training, plain_batches
from tripletcl.continual.checkpoint import set_seed
from tripletcl.continual.device import Compute, compute_on
from tripletcl.data import UNITS, FactTable
from tripletcl.data.missing import require_images
from tripletcl.embedding import FactEmbedder, build_embedder
from tripletcl.embedding.fact_learner import FactLearner
from tripletcl.embedding.readout import ClosedScores
from tripletcl.embedding.words import check_words
from tripletcl.errors import UserError
from tripletcl.evaluation import FactEvaluator, StageScores, equal_queries
from tripletcl.experiments.fact_tasks import (
    fact_tasks,
    follow_up_facts,
    partition_facts,
    subset_facts,
    unlabelled_images,
)
from tripletcl.experiments.feature_cache import FeatureCache
from tripletcl.experiments.inputs import EvaluationTable, Joined, Opener, table_cache
from tripletcl.experiments.tables import load_tables
from tripletcl.files.places import cache_folder
from tripletcl.methods import build_method
from tripletcl.methods.analytic import Analytic

log = logging.getLogger("tripletcl")

EVALUATION_BATCH = 32
"""Images of one forward pass; larger batches do not fit the CPU's cache."""


CLOSED_BYTES = 2**30
"""The most that the closed scores of a stage may take to be computed at once and stored with it."""


class StageVectors(NamedTuple):
    """The vectors of a stage.

    Attributes:
        tensors: image_ids `[N]`; images `[N, 3, D]` and facts `[F, 3, D]`, normalised; present `[F, 3]`, True for units
            that a fact has; and closed `[N, F]`, the scores of an analytic readout, if the model has one and they take
            at most CLOSED_BYTES.
        closed: The closed scores, or what computes them block by block; None if the model has none.
    """

    tensors: dict[str, Tensor]
    closed: Tensor | ClosedScores | None


@dataclass
class FactExperiment:
    """Everything that a config describes, ready to train or to evaluate.

    Attributes:
        tables: The config's tables; `table` is all of them as one.
        groups: The fact ids of each task. Joint training has one task, but all groups.
        origins: The number of the table that each group comes from.
        queries: `[F]` the number of the query that a fact is; facts with equal text vectors before training are one
            query, so that a collapsed projection cannot merge more of them.
        subset: Ids of the facts of `data.subset`.
        finished: The tables whose tasks are all learned, by number: they are opened for evaluation only.
        cache: Features of test images from a frozen trunk.
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
    subset: np.ndarray | None = None
    finished: dict[int, EvaluationTable] = field(default_factory=dict)
    cache: FeatureCache = field(default_factory=FeatureCache)

    @property
    def embedder(self) -> FactEmbedder:
        return self.learner.embedder

    @property
    def task_names(self) -> list[str]:
        """The names of the groups of facts."""
        return task_names(len(self.groups))

    @property
    def trainings(self) -> list[Training]:
        """The training of each task."""
        own = [entry.training for entry in self.config.data.further]
        return [(origin and own[origin - 1]) or self.config.training for origin in self.origins[: len(self.tasks)]]

    def scored_images(self) -> np.ndarray:
        """Return the ids of the test images that can be scored; a warning counts the others."""
        images = np.unique(self.table.rows_of("test", label=None)[:, 0])
        available = np.isin(self.table.table_of(images), list(self.finished), invert=True)
        for number, finished in self.finished.items():
            available |= np.isin(images, finished.existing + self.table.starts[number])
        available |= np.array([row is not None for row in self._cached_rows(images)], dtype=bool)
        if not available.all():
            log.warning(
                "%d of %d test images are left out of the figures: their photos are missing",
                (~available).sum(),
                len(available),
            )
        return images[available]

    @torch.no_grad()
    def vectors(self) -> StageVectors:
        """Compute the vectors of the test images and of all facts with the current weights."""
        self.learner.eval()
        images = self.scored_images()
        representation = self._represent(images)
        closed: Tensor | ClosedScores | None
        if 4 * len(images) * len(self.table.facts) <= CLOSED_BYTES:
            outputs, closed = self.embedder.vectors_and_scores(representation, self.table.facts)
        else:
            outputs = self.embedder.vectors_of(representation)
            closed = self.embedder.closed_scores(representation, self.table.facts)
        facts, present = self.embedder.encode_facts(self.table.facts)
        tensors = {
            "image_ids": torch.from_numpy(images),
            "images": outputs.cpu(),
            "facts": facts.detach().cpu(),
            "present": present.cpu(),
        }
        if isinstance(closed, Tensor):
            closed = tensors["closed"] = closed.cpu()
        return StageVectors(tensors, closed)

    def _represent(self, images: np.ndarray) -> Tensor:
        """Compute the representation `[N, C]` of test images, which is cached if the trunk is frozen."""
        rows = self._cached_rows(images)
        new = np.array([row is None for row in rows], dtype=bool)
        batches = plain_batches(self.source, images[new], EVALUATION_BATCH)
        parts = [self.learner.represent(batch).float() for batch in batches]
        device = self.compute.device
        if not new.all():
            parts.append(self.cache.representation[[row for row in rows if row is not None]].to(device))
        if not parts:
            return self.embedder.represent_images([])
        # The new images come first in `parts`: back to the order of `images`.
        order = np.argsort(np.concatenate([np.flatnonzero(new), np.flatnonzero(~new)]))
        representation = torch.cat(parts)[torch.from_numpy(order).to(device)]
        if new.any() and self.embedder.trunk_is_frozen:
            self.cache = FeatureCache.of(self.embedder, [self.table.photos[image] for image in images], representation)
        return representation

    def _cached_rows(self, images: np.ndarray) -> list[int | None]:
        return self.cache.rows(self.embedder, [self.table.photos[image] for image in images])

    def score(self, vectors: StageVectors) -> StageScores:
        """Compute MAP, recall and the other figures of a stage from what `vectors` returned."""
        if not self.groups:  # no table yet: nothing is known of any image
            return StageScores([], [], None, [], {}, None, 0)
        tensors, closed = vectors
        evaluator = FactEvaluator(
            self.table,
            self.groups,
            tensors["facts"],
            tensors["present"],
            groups=self.queries,
            subset=self.subset,
            origins=self.origins,
        )
        return evaluator.evaluate(tensors["images"], tensors["image_ids"].numpy(), closed)


def task_names(count: int) -> list[str]:
    """Return the names of tasks in tables and plots."""
    return [f"task {number}" for number in range(1, count + 1)]


def build_facts(
    config: FactConfig,
    *,
    stored: bool = False,
    finished_tasks: int = 0,
    texts: Path | None = None,
    source: InputSource | None = None,
) -> FactExperiment:
    """Build the data, the tasks and the untrained learner of a config.

    Args:
        stored: See `load_tables`.
        finished_tasks: The number of tasks that are learned already. Tables whose tasks are all learned are opened for
            evaluation only, and their files may be missing.
        texts: A file of vectors of texts that were encoded before (`TextVectors.save`).
        source: The inputs of all images in place of their files, such as features that were computed elsewhere.
    """
    method = build_method(config.method)
    compute = compute_on(config.device, config.precision)
    set_seed(config.seed)
    _check_base(config, method)
    embedder = build_embedder(config.model, config.seed, cache=cache_folder(), texts=texts)  # refuses unknown networks
    embedder.to(compute.device)
    tables = load_tables(config, stored)
    table = tables[0].join(tables[1:])
    if table.left_out:
        log.warning(
            "%d test images are left out of the figures: the tables also train on these photos", len(table.left_out)
        )
    subset = subset_facts(config, table)
    groups = partition_facts(config, tables[0], embedder, subset)
    _fit_texts(config, tables[0], groups[0] if groups else np.empty(0, np.int64), embedder)
    first, groups = len(groups), [*groups, *(follow_up_facts(table, each) for each in tables[1:])]
    origins = [0] * first + list(range(1, len(tables)))
    finished = [finished_tasks >= (1 if method.joint else first + number) for number in range(len(tables))]
    new = [each for each, done in zip(tables, finished, strict=True) if not done]
    check_words(embedder.text.encode, [text for each in new for unit in range(len(UNITS)) for text in each.units(unit)])
    unlabelled, evaluation_tables = unlabelled_images(config), dict[int, EvaluationTable]()
    if source is None:
        for each in new:
            require_images(each.root, each.images)
        opener = Opener(config, embedder.image, compute.device)
        source, evaluation_tables = _open_images(opener, table, unlabelled, finished)
    learner = FactLearner(
        embedder,
        table.facts,
        loss=config.loss.name,
        temperature=config.loss.temperature,
        negatives=config.loss.negatives,
        learn_temperature=config.loss.learn_temperature,
        from_features=config.data.cache_features,
        labels=None if table.labels is None else table.pair_labels("train"),
    ).to(compute.device)
    tasks = fact_tasks(
        config,
        table,
        [np.array(list(dict.fromkeys(np.concatenate(groups).tolist())))] if method.joint else groups,
        ["all tasks"] if method.joint else task_names(len(groups)),
        np.arange(len(table.images), len(table.images) + len(unlabelled)),
        subset if method.properties.adaptive or config.data.subset_importance == "always" else None,
        None if method.joint else origins,
    )
    vectors, present = embedder.encode_facts(table.facts)
    queries = equal_queries(vectors.detach().cpu(), present.cpu())
    return FactExperiment(
        config, tables, table, groups, origins, tasks, learner, source, compute, queries, subset, evaluation_tables
    )  # fmt: skip


def _check_base(config: FactConfig, method: Method) -> None:
    """Refuse settings that would lose what a model knows before it is taught, or leave it with nothing.

    Raises:
        UserError: a base without the analytic method, or no table without a base.
    """
    if config.model.base is not None and not isinstance(method, Analytic):
        raise UserError(f"model.base stays beside an analytic readout: set method to analytic, not {method.name}")
    if config.data.table == NO_TABLE and config.model.base is None:
        raise UserError("data.table is none, so the model would know nothing: set model.base, or name a table")


def _fit_texts(config: FactConfig, table: FactTable, facts: np.ndarray, embedder: FactEmbedder) -> None:
    """Centre or whiten the text vectors by those of the first task: the texts of later ones are not known yet."""
    prompts = embedder.prompts([table.facts[fact] for fact in facts])
    texts = sorted({text for units in prompts for text in units if text is not None})
    if config.model.centre and texts:
        embedder.text.set_centre(texts)
    if config.model.whiten and texts:
        embedder.text.whiten(texts, config.model.whitening_floor)


def _open_images(
    opener: Opener, table: FactTable, unlabelled: Sequence[Path], finished: Sequence[bool]
) -> tuple[InputSource, dict[int, EvaluationTable]]:
    """Open the images of all tables, and after them the unlabelled ones, as one source.

    Args:
        finished: For each table, True if its tasks are all learned.

    Returns:
        The source, and the finished tables by number.
    """
    ends = [*table.starts[1:], len(table.images)]
    tests = np.unique(table.rows_of("test", label=None)[:, 0])
    sources: list[InputSource] = []
    evaluation_tables: dict[int, EvaluationTable] = {}
    for number, (start, end) in enumerate(zip(table.starts, ends, strict=True)):
        photos = table.photos[start:end]
        folder = table_cache(number, table.paths[start:end])
        if finished[number]:
            own = tests[(tests >= start) & (tests < end)] - start
            evaluation_tables[number] = EvaluationTable(opener, photos, own, folder)
            sources.append(evaluation_tables[number])
        else:
            sources.append(opener.open(photos, folder))
    if unlabelled:
        sources.append(opener.open(unlabelled, cache_folder() / "unlabelled"))
    return Joined([*table.starts, len(table.images)][: len(sources)], sources), evaluation_tables
