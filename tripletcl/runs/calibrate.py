"""Score calibration and zero-shot evaluation of a stage, from its stored vectors of the test images."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tripletcl.data import Fact
from tripletcl.data.labels import PairLabels
from tripletcl.errors import UserError
from tripletcl.evaluation import UnseenScores, score_unseen
from tripletcl.retrieval import Calibration, fit_calibration
from tripletcl.runs.layout import CALIBRATION
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
        vectors: See `FactExperiment.vectors`.
        relevant: `[N, F]` bool, the pairs of an image and a fact that it shows.
        labels: Of all images and facts of the run's table; None if every pair is known.
    """

    facts: tuple[Fact, ...]
    taught_ids: list[int]
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
        return cls(facts, taught_ids, vectors, relevant, None if table.labels is None else table.pair_labels("test"))

    def known(self) -> Tensor | None:
        """`[N, F]` bool, False for pairs of which it is not known whether the image shows the fact."""
        if self.labels is None:
            return None
        images = self.vectors["image_ids"].numpy()
        return torch.from_numpy(~self.labels.unknown(images, np.arange(len(self.facts))))


def stage_calibration(run: FactRun, stage: int) -> Calibration | None:
    """Return the calibration of a stage's scores, which is fitted on the test images once and stored with the stage.

    Returns:
        None if nothing was taught, or the table of the test images is missing.
    """
    path, model = run.stage_folder(stage) / CALIBRATION, run.fingerprint(stage)
    if (stored := Calibration.load(path, model)) is not None:
        return stored
    try:
        evaluation, spec = StageEvaluation.read(run, stage), run.spec(stage)
        if spec.random_features and spec.scored_by != "text" and "closed" not in evaluation.vectors:
            raise UserError(f"the closed scores of {run.path} were too large to be stored")
        calibration = _fit(evaluation, model)
    except UserError as error:
        log.debug("scores remain cosines: %s", error)
        return None
    with suppress(UserError):  # the run may be read-only
        calibration.save(path)
    return calibration


def _fit(evaluation: StageEvaluation, model: str) -> Calibration:
    vectors, ids = evaluation.vectors, evaluation.taught_ids
    closed = vectors["closed"][:, ids] if "closed" in vectors else None
    facts, relevant = [evaluation.facts[number] for number in ids], evaluation.relevant[:, ids]
    return fit_calibration(model, facts, vectors["images"], vectors["facts"][ids], relevant, closed)


def stage_unseen(run: FactRun, stage: int | None = None) -> UnseenScores:
    """Evaluate a stage, by default the latest, on facts that were never taught but consist of units that were.

    Raises:
        UserError: there is no such stage, or the run's table is missing or was changed.
    """
    evaluation = StageEvaluation.read(run, stage)
    vectors, relevant = evaluation.vectors, torch.from_numpy(evaluation.relevant.toarray())
    return score_unseen(
        evaluation.facts,
        evaluation.taught_ids,
        vectors["images"],
        vectors["facts"],
        vectors["present"],
        relevant,
        evaluation.known(),
    )
