"""A collection of photos from the first minute: a run without a table, its index, and what it learns from neither."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.config import FactConfig, load_config
from tripletcl.data.splits import sample
from tripletcl.embedding import FactEmbedder
from tripletcl.embedding.text_vectors import text_encoder
from tripletcl.errors import UserError
from tripletcl.retrieval import Changes, FactIndex, writing
from tripletcl.retrieval.photos import find_photos
from tripletcl.runs.adapt import add_importance, end_of_run, log_adapted
from tripletcl.runs.collection import open_model
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.layout import SETTINGS
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train

log = logging.getLogger("tripletcl")

CONFIG = "collection"
"""The shipped config of such a run."""

BACKGROUND, WEIGHT, BATCH = 2000, 0.1, 256
"""Photos that lessons are told apart from, their weight relative to a lesson's, which was chosen and not tuned, and the
size of a batch."""


@dataclass(frozen=True)
class Collected:
    """A collection that is ready to be asked.

    Attributes:
        run: Its folder.
        changes: What was new in the folder of photos; None if nothing was.
        photos: The number of photos of the index.
    """

    run: Path
    changes: Changes | None
    photos: int


def collect(folder: Path, out: Path, pair: Path | None = None, text: Path | None = None) -> Collected:
    """Make a folder of photos a collection that can be asked, or read what is new in it.

    The model knows photographs by itself (`EmbedderSpec.base`). Lessons are told apart from the photos of the first
    folder, which is what the analytic readout learns from them.

    Args:
        folder: The photos.
        out: The run's folder, new or of an earlier call.
        pair: A CLIP or SigLIP checkpoint, which the model then starts from.
        text: A text encoder instead of the bundled one, such as a multilingual folder of sentence-transformers.

    Raises:
        UserError: there is no photo, none can be read, or the run's folder holds something else.
    """
    listed = find_photos(folder)  # without any, nothing is made
    run = _open(out, collection_config(pair, text))
    if run.index.is_dir() and (known := _unchanged(run, folder, listed)) is not None:
        return Collected(out, None, known)
    model = open_model(out)
    embedder = model.load()
    with writing(run.index, embedder, stage=model.stage) as index:
        changes = index.sync(folder, listed=listed)
    _tell_apart(run, embedder, index)
    return Collected(out, changes, len(index))


def collection_config(pair: Path | None = None, text: Path | None = None) -> FactConfig:
    """Return the settings of a collection.

    Raises:
        UserError: the pair is no CLIP or SigLIP checkpoint, there is no such text encoder, or both are given.
    """
    if pair is not None and text is not None:
        raise UserError("--pair brings its own text encoder: leave out --text, or --pair")
    changes: list[str] = []
    if text is not None:
        changes = [f"model.text={text.absolute()}", f"model.width={text_encoder(str(text.absolute())).width}"]
    if pair is not None:
        prompts = "model.text_prompts=['a photo of a {}', 'a photo of someone {}', 'a photo of a {}']"
        changes = [f"model.pair={pair.absolute()}", "model.base=pair", "model.pooled=[]", prompts]
    config = load_config(CONFIG, changes)
    assert isinstance(config, FactConfig)
    return config


def _open(out: Path, config: FactConfig) -> FactRun:
    """Open the run, or create it; it may have learned more since.

    Raises:
        UserError: the folder holds something else.
    """
    if not (out / SETTINGS).exists():
        train(config, out)
        return FactRun.open(out)
    run = FactRun.open(out)
    first = run.settings.model_copy(update={"data": run.settings.data.model_copy(update={"further": []})})
    if first != config:
        raise UserError(f"{out} holds another run: name the folder of this collection's run with --out")
    if run.result is None:
        continue_run(out)
    return run


def _unchanged(run: FactRun, folder: Path, listed: Sequence[Path]) -> int | None:
    """Return the number of photos of the index if nothing in the folder has changed since; no model is read."""
    index = FactIndex.load(run.index)
    same = len(index) and index.stage == run.stage() and (run.task_count or _is_told_apart(run))
    return len(index) if same and index.agrees_with(folder, listed=listed) else None


def _is_told_apart(run: FactRun) -> bool:
    return any(line["kind"] == "adapt" for line in run.metrics)


def _tell_apart(run: FactRun, embedder: FactEmbedder, index: FactIndex) -> None:
    """Let the readout of a run that was taught nothing keep its outputs on photos of the index, as `adapt` does."""
    if run.task_count or _is_told_apart(run):
        return
    features, rows = index.features, sample(np.flatnonzero(~index.deleted), BACKGROUND, run.settings.seed)
    assert features is not None

    def batches(items: np.ndarray) -> Iterator[Tensor]:
        for start in range(0, len(items), BATCH):
            yield torch.from_numpy(np.array(features[rows[items[start : start + BATCH]]], dtype=np.float32))

    with FactRun.changing(run.path) as held:
        position, state = end_of_run(held)
        add_importance(held, state, embedder, batches, len(rows), WEIGHT)
        log_adapted(held, position, state, images=len(rows), folder=str(held.index), weight=WEIGHT, recompute=False)
