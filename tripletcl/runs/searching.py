"""A run, ready to be asked: the index of photos, the stage whose model made it, and what that model's scores mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.retrieval import Calibration, FactIndex, about_index
from tripletcl.runs.calibrate import stage_calibration
from tripletcl.runs.layout import EMBEDDER, INDEX
from tripletcl.runs.train import Run


@dataclass(frozen=True)
class Collection:
    """Photos that can be asked.

    Attributes:
        index: With the model that made it.
        embedder: That model.
        stage: Its stage; None for a model that is no run's.
        calibration: What its scores mean, where that is known.
        newer: A sentence where the run has learned on since.
    """

    index: FactIndex
    embedder: FactEmbedder
    stage: int | None
    calibration: Calibration | None
    newer: str | None = None


def open_collection(run: Path, folder: Path | None = None, stage: int | None = None) -> Collection:
    """Open an index with the model that made it, whichever stage of the run that is.

    Args:
        run: A run folder, or one of `save_pretrained`.
        folder: The index; by default RUN/index.
        stage: The stage that must have made it; by default any.

    Raises:
        UserError: there is no index, no such stage, or another model made the index.
    """
    folder = folder or run / INDEX
    if (run / EMBEDDER).exists():
        embedder = FactEmbedder.from_pretrained(run)
        return Collection(FactIndex.load(folder, embedder), embedder, None, None)
    opened = Run.open(run)
    number = _stage_of(opened, folder, about_index(folder).model, stage)
    embedder = FactEmbedder.from_pretrained(opened.stage_folder(number))
    last = max(opened.stages())
    newer = f"this index is of stage {number}, and the run has stage {last}: tripletcl index upgrade {run}"
    index = FactIndex.load(folder, embedder)
    return Collection(index, embedder, number, stage_calibration(opened, number), newer if number < last else None)


def _stage_of(run: Run, folder: Path, model: str | None, stage: int | None) -> int:
    """The stage that made an index, which must be the one asked for."""
    if stage is not None and model not in (None, run.fingerprint(stage)):
        raise UserError(
            f"the index in {folder} was made by model {model}, and stage {stage} of {run.path} is "
            f"{run.fingerprint(stage)}; leave out --stage, or bring the index to the last stage with "
            f"tripletcl index upgrade {run.path}"
        )
    found = stage if stage is not None else max(run.stages(), default=None) if model is None else run.stage_of(model)
    if found is None:
        raise UserError(
            f"the index in {folder} was made by model {model}, and no stage of {run.path} is that one (its last is "
            f"{run.fingerprint()}); index the photos with this run"
        )
    return found
