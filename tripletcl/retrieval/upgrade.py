"""Upgrade of an index to a newer model, without its photos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tripletcl.data.facts import UNITS
from tripletcl.data.splits import sample
from tripletcl.errors import UserError
from tripletcl.progress import report
from tripletcl.retrieval.index import FactIndex
from tripletcl.retrieval.model import PhotoEmbedder
from tripletcl.retrieval.photos import encode_photos
from tripletcl.retrieval.vector_map import KERNEL, LearnedMap, learn_map

KEEP = 1 / 3
"""Share of an old vector that stays by default; measured in docs/measured/drift.md."""

MOST_PHOTOS = 2000
"""Largest number of photos that a map is learned from: its cost grows with their cube."""

NOTHING, EXACT = "nothing", "exact"
BATCH = 64


@dataclass(frozen=True)
class Upgraded:
    """The result of `upgrade`.

    Attributes:
        how: "nothing": the index was of the new model already. "exact": every vector was computed from the features
            that the index keeps. "kernel": the vectors were mapped by kernel regression.
        model: The new model's fingerprint.
        stage: Its stage, where it belongs to a run.
        photos: Number of photos in the index.
        learned_from: Number of photos that the map was learned from.
        held_out: Number of those that its error was measured on.
        held_out_error: See `LearnedMap`.
        keep: The share of each old vector that stayed.
    """

    how: str
    model: str
    stage: int | None
    photos: int
    learned_from: int = 0
    held_out: int = 0
    held_out_error: dict[str, float] = field(default_factory=dict)
    keep: float = 0.0


def upgrade(
    index: FactIndex,
    old_embedder: PhotoEmbedder,
    new_embedder: PhotoEmbedder,
    images: Sequence[Path] | tuple[Tensor, Tensor] | Callable[[], tuple[Tensor, Tensor]],
    *,
    stage: int | None = None,
    keep: float = KEEP,
    seed: int = 0,
) -> Upgraded:
    """Replace the vectors of an index by those of a newer model, without reading its photos; on disk atomically.

    The new vectors are exact where the index keeps features of the trunk that both models share. Otherwise they are
    mapped (`learn_map`), and the map is learned from other photos, which both models embed: the new model's training
    photos, or any others; no label is needed.

    A map that predicts the new model well predicts its forgetting too, so a share of the old vector stays:
    normalise((1 - keep) map(old) + keep old), unit by unit. Both are in one space of texts. Their sum finds old facts
    nearly as well as the old model did, and new ones nearly as well as the new one.

    Args:
        index: In memory, or on disk within `writing(folder)`.
        old_embedder: The model that made it.
        new_embedder: The newer model.
        images: Photos, or both models' vectors of some photos, `[N, 3, D]` each, or a function that reads these if
            they are needed; at most MOST_PHOTOS are used.
        stage: The new model's stage, where it belongs to a run.
        keep: In [0, 1]; 0 follows the new model in everything, its forgetting included.
        seed: Of the sample of photos, and of those held out.

    Raises:
        UserError: another model made the index, there are too few photos to learn from, or keep is not in [0, 1].
    """
    if not 0 <= keep <= 1:
        raise UserError(f"keep is {keep:g}; it is a part, from 0 to 1")
    model = new_embedder.fingerprint()
    if index.model == model:
        return Upgraded(NOTHING, model, index.stage, len(index))
    if index.model != (old := old_embedder.fingerprint()):
        raise UserError(f"the index was made by model {index.model or 'unknown'}, not by {old}")
    if index.features is not None and index.trunk == new_embedder.trunk_fingerprint():
        index.refresh(new_embedder, stage=stage)
        return Upgraded(EXACT, model, stage, len(index))
    learned = learn_map(
        *_embed_by_both(images() if callable(images) else images, old_embedder, new_embedder, seed), seed
    )
    index.replace_vectors(
        lambda block: upgrade_vectors(learned, torch.from_numpy(block.copy()), keep), model=model, stage=stage
    )
    index.embedder = new_embedder
    return Upgraded(KERNEL, model, stage, len(index), learned.photos, learned.held_out, learned.held_out_error, keep)


def upgrade_vectors(learned: LearnedMap, vectors: Tensor, keep: float = KEEP) -> Tensor:
    """Map vectors `[B, 3, D]` of the old model to those of an upgraded index, each unit of length 1."""
    return functional.normalize((1 - keep) * learned(vectors) + keep * functional.normalize(vectors, dim=-1), dim=-1)


def _embed_by_both(
    images: Sequence[Path] | tuple[Tensor, Tensor],
    old_embedder: PhotoEmbedder,
    new_embedder: PhotoEmbedder,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Both models' vectors `[N, 3, D]` of the photos that can be read."""
    if isinstance(images, tuple) and len(images) == 2 and all(isinstance(each, Tensor) for each in images):
        before, after = map(torch.as_tensor, images)
        rows = torch.from_numpy(sample(np.arange(len(before)), MOST_PHOTOS, seed))
        return before[rows], after[rows]
    names = [str(images[number]) for number in sample(np.arange(len(images)), MOST_PHOTOS, seed)]
    rows_of: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] = ({}, {})  # of each name, by each model
    for number, embedder in enumerate((old_embedder, new_embedder)):
        done = number * len(names)
        for batch in encode_photos(embedder, names, BATCH):
            rows_of[number].update(zip((name for name, _ in batch.photos), batch.vectors, strict=True))
            done += len(batch.photos) + len(batch.broken)
            report("embedding photos to learn from", done, 2 * len(names))
    both = [name for name in names if name in rows_of[0] and name in rows_of[1]]
    before, after = (_stack([rows[name] for name in both]) for rows in rows_of)
    return before, after


def _stack(rows: Sequence[np.ndarray]) -> Tensor:
    """Stack rows `[3 * D]` to `[N, 3, D]`."""
    return torch.from_numpy(np.stack(rows)).unflatten(1, (len(UNITS), -1)) if rows else torch.zeros(0, len(UNITS), 0)
