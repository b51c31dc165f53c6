"""Score calibration and zero-shot evaluation of a stage, from its stored vectors of the test images."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tripletcl.data import UNITS, Fact
from tripletcl.data.images import Photo
from tripletcl.data.labels import PairLabels
from tripletcl.embedding import FactEmbedder, TextEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation import UnseenScores, score_unseen
from tripletcl.experiments.feature_cache import FeatureCache
from tripletcl.retrieval import Calibration, Query, fit_calibration, query_vectors
from tripletcl.retrieval.fitting import Ask, PartOfScores
from tripletcl.runs.layout import CALIBRATION, FEATURES, TEXTS
from tripletcl.runs.stored import FactRun

if TYPE_CHECKING:
    from scipy.sparse import csr_array

log = logging.getLogger("tripletcl")

PER_IMAGE = frozenset({"image_ids", "images", "closed"})
"""The vectors of a stage that have a row for each image."""


@dataclass(frozen=True)
class StageEvaluation:
    """A stage's vectors of the test images, and their labels.

    Attributes:
        facts: The F facts that the stage was scored on.
        taught_ids: The ids of those that it had been taught.
        photos: The N test images.
        vectors: See `FactExperiment.vectors`.
        relevant: `[N, F]` bool, the pairs of an image and a fact that it shows.
        labels: Of the N images and F facts; None if every pair is known.
    """

    facts: tuple[Fact, ...]
    taught_ids: list[int]
    photos: list[Photo]
    vectors: dict[str, Tensor]
    relevant: csr_array
    labels: PairLabels | None

    @classmethod
    def read(cls, run: FactRun, stage: int | None = None) -> StageEvaluation:
        """Read the evaluation of a stage, by default of the latest.

        Raises:
            UserError: there is no such stage, or the run's table is missing or was changed.
        """
        table, vectors = run.table(), run.vectors(stage)
        kept = ~np.isin(vectors["image_ids"].numpy(), table.left_out)  # a later task trains on the others
        vectors |= {name: vectors[name][torch.from_numpy(kept)] for name in PER_IMAGE & vectors.keys()}
        facts, images = table.facts[: len(vectors["facts"])], vectors["image_ids"].numpy()
        ids = {fact.units: number for number, fact in enumerate(facts)}
        taught_ids = [ids.get(fact.units, -1) for fact in run.taught(stage)]
        if -1 in taught_ids or not np.isin(images, table.rows_of("test", label=None)[:, 0]).all():
            raise UserError(f"the facts or the test images in the table of {run.path} are not those of its stages")
        relevant = table.relevance("test", images, np.arange(len(facts)))
        labels = None if table.labels is None else table.pair_labels("test").of_queries(images, np.arange(len(facts)))
        return cls(facts, taught_ids, [table.photos[image] for image in images], vectors, relevant, labels)


def stage_calibration(run: FactRun, stage: int) -> Calibration | None:
    """Return the calibration of a stage's scores, which is fitted on the test images once and stored with the stage.

    Returns:
        None if nothing was taught, or the table of the test images is missing.
    """
    path, model = run.stage_folder(stage) / CALIBRATION, run.fingerprint(stage)
    if (stored := Calibration.load(path, model)) is not None:
        return stored
    try:
        evaluation = StageEvaluation.read(run, stage)
        calibration = _fit(evaluation, model, _closed_scores(run, stage, evaluation), _ask(run, stage))
    except UserError as error:
        log.debug("scores remain cosines: %s", error)
        return None
    with suppress(UserError):  # the run may be read-only
        calibration.save(path)
    return calibration


def _ask(run: FactRun, stage: int) -> Ask | None:
    """Return what encodes queries of a model with a base as a whole; None for other models."""
    if run.spec(stage).base is None:
        return None
    embedder = TextEmbedder.from_pretrained(run.stage_folder(stage))
    embedder.vectors.load(run.path / TEXTS)

    def encode(queries: Sequence[tuple[str | None, ...]]) -> Tensor:
        vectors = query_vectors([Query(*units) for units in queries], embedder)
        return torch.from_numpy(vectors).unflatten(1, (len(UNITS), -1))

    return encode


def _fit(evaluation: StageEvaluation, model: str, closed: PartOfScores | None, ask: Ask | None) -> Calibration:
    vectors, ids = evaluation.vectors, evaluation.taught_ids
    facts, relevant = [evaluation.facts[number] for number in ids], evaluation.relevant[:, ids]
    labels = None if evaluation.labels is None else evaluation.labels.of_facts(ids)
    of_taught = None if closed is None else lambda images, numbers: closed(images, np.array(ids)[numbers])
    return fit_calibration(
        model, facts, vectors["images"], vectors["facts"][ids], relevant, of_taught, labels=labels, ask=ask
    )


def _closed_scores(run: FactRun, stage: int, evaluation: StageEvaluation) -> PartOfScores | None:
    """Find the closed scores of test images and facts, as what gives a part of them; None if the model has none.

    Those that were too large to be stored are computed from the features that the run has cached.

    Raises:
        UserError: the features of a test image are missing.
    """
    if "closed" in evaluation.vectors:
        stored = evaluation.vectors["closed"]
        return lambda images, facts: stored[images][:, facts]
    spec = run.spec(stage)
    if not spec.random_features or spec.scored_by == "text":
        return None
    embedder, cache = FactEmbedder.from_pretrained(run.stage_folder(stage)), FeatureCache.load(run.path / FEATURES)
    rows = cache.rows(embedder, evaluation.photos)
    if None in rows:
        raise UserError(f"{run.path} has no features of some test images, from which their closed scores are computed")

    def compute(images: np.ndarray, facts: np.ndarray) -> Tensor:
        representation = cache.representation[[rows[image] for image in images]]
        closed = embedder.closed_scores(representation, [evaluation.facts[fact] for fact in facts])
        return torch.zeros(len(images), len(facts)) if closed is None else closed[:].T

    return compute


def stage_unseen(run: FactRun, stage: int | None = None) -> UnseenScores:
    """Evaluate a stage, by default the latest, on facts that were never taught but consist of units that were.

    Raises:
        UserError: there is no such stage, or the run's table is missing or was changed.
    """
    evaluation = StageEvaluation.read(run, stage)
    vectors = evaluation.vectors
    return score_unseen(
        evaluation.facts,
        evaluation.taught_ids,
        vectors["images"],
        vectors["facts"],
        vectors["present"],
        evaluation.relevant,
        evaluation.labels,
    )
