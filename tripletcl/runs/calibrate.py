"""What a stage makes of the test images beside what they show: what its scores mean, what it finds untaught."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tripletcl.data import Fact
from tripletcl.errors import UserError
from tripletcl.evaluation import UnseenScores, score_unseen
from tripletcl.retrieval import Calibration, fit_calibration
from tripletcl.runs.layout import CALIBRATION
from tripletcl.runs.stored import FactRun

log = logging.getLogger("tripletcl")


@dataclass(frozen=True)
class StageTruth:
    """A stage's vectors of the test images, and the truth about them.

    Attributes:
        facts: The F facts that the stage was scored by.
        taught: Ids of those that it had been taught.
        vectors: As `FactRun.vectors` gives them.
        relevant: `[N, F]` bool, which image shows which fact.
    """

    facts: tuple[Fact, ...]
    taught: list[int]
    vectors: dict[str, Tensor]
    relevant: np.ndarray

    @classmethod
    def read(cls, run: FactRun, stage: int | None = None) -> StageTruth:
        """Read it of a stage, by default the last.

        Raises:
            UserError: no such stage, or the run's table is gone or not what it was.
        """
        table, vectors = run.table(), run.vectors(stage)
        facts, images = table.facts[: len(vectors["facts"])], vectors["image_ids"].numpy()
        number = {fact.units: place for place, fact in enumerate(facts)}
        taught = [number.get(fact.units) for fact in run.taught(stage)]
        if None in taught or not np.isin(images, table.rows_of("test")[:, 0]).all():
            raise UserError(f"the facts or the test images in the table of {run.path} are not those of its stages")
        relevant = table.relevance("test", images, np.arange(len(facts)))
        return cls(facts, [place for place in taught if place is not None], vectors, relevant)


def stage_calibration(run: FactRun, stage: int) -> Calibration | None:
    """What the scores of a stage's model mean, by its vectors of the test images; kept in the stage's folder.

    Fitted when first asked for. The model was not trained on those images.

    Returns:
        None where it cannot be told: nothing was taught, or the table of the test images is no longer there.
    """
    path, model = run.stage_folder(stage) / CALIBRATION, run.fingerprint(stage)
    if (kept := Calibration.load(path, model)) is not None:
        return kept
    try:
        fitted = _fitted(StageTruth.read(run, stage), model)
    except UserError as error:
        log.debug("scores stay cosines: %s", error)
        return None
    with suppress(UserError):  # a run may lie where nothing can be written
        fitted.save(path)
    return fitted


def stage_unseen(run: FactRun, stage: int | None = None) -> UnseenScores:
    """How well a stage, by default the last, finds facts that it was never taught, made of units that it was.

    Raises:
        UserError: no such stage, or the run's table is gone or not what it was.
    """
    truth = StageTruth.read(run, stage)
    vectors, relevant = truth.vectors, torch.from_numpy(truth.relevant)
    return score_unseen(truth.facts, truth.taught, vectors["images"], vectors["facts"], vectors["present"], relevant)


def _fitted(truth: StageTruth, model: str) -> Calibration:
    vectors, taught = truth.vectors, truth.taught
    closed = vectors["closed"][:, taught] if "closed" in vectors else None
    facts = [truth.facts[number] for number in taught]
    return fit_calibration(model, facts, vectors["images"], vectors["facts"][taught], truth.relevant[:, taught], closed)
