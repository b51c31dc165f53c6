"""Bring an index to a newer model without the photos that are in it."""

from __future__ import annotations

from collections.abc import Sequence
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
"""The part of an old vector that stays by default; measured in docs/measured/drift.md."""

MOST_PHOTOS = 2000
"""A map is learned from so many photos at most: its cost grows with their cube."""

NOTHING, EXACT = "nothing", "exact"
BATCH = 64


@dataclass(frozen=True)
class Upgraded:
    """What `upgrade` did.

    Attributes:
        how: "nothing": the index was of the new model already. "exact": every vector was computed from the features
            that the index keeps. "kernel": the vectors went through a learned map.
        model: The new model's fingerprint.
        stage: Its stage, where it belongs to a run.
        photos: How many photos the index holds.
        learned_from: How many photos the map was learned from.
        held_out: How many of them its error was measured on.
        held_out_error: See `LearnedMap`.
        keep: The part of each old vector that stayed.
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
    images: Sequence[Path] | tuple[Tensor, Tensor],
    *,
    stage: int | None = None,
    keep: float = KEEP,
    seed: int = 0,
) -> Upgraded:
    """Give every photo of an index a vector of the new model, without reading the photo.

    Exactly, where the index keeps features of the trunk that both models share. Else by a map that is learned from
    other photos, which both models embed (`learn_map`): those the new model learned from, or any others; no label is
    needed. On disk (`writing`) the index is of the new model whole or not at all.

    A map that foretells the new model well foretells what it has forgotten, too, so part of the old vector stays:
    normalise((1 - keep) map(old) + keep old), unit by unit. Both lie in one space of texts; their sum finds old facts
    nearly as the old model did, and new ones nearly as the new one does.

    Args:
        index: In memory, or on disk within `writing(folder)`.
        old_embedder: The model that made it.
        new_embedder: The model it is to be of.
        images: Photos, or what both models gave some photos, `[N, 3, D]` each; of more than MOST_PHOTOS so many are
            drawn.
        stage: The new model's stage, where it belongs to a run.
        keep: In [0, 1]. 0 follows the new model in everything, its forgetting included.
        seed: Of the photos drawn and held out.

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
    before, after = _pairs(images, old_embedder, new_embedder, seed)
    learned = learn_map(before, after, seed)
    index.replace_vectors(
        lambda block: upgraded(learned, torch.from_numpy(block.copy()), keep), model=model, stage=stage
    )
    index.embedder = new_embedder
    return Upgraded(KERNEL, model, stage, len(index), learned.photos, learned.held_out, learned.held_out_error, keep)


def upgraded(learned: LearnedMap, vectors: Tensor, keep: float = KEEP) -> Tensor:
    """Vectors `[B, 3, D]` of the old model to those that an upgraded index holds, each unit of length 1."""
    return functional.normalize((1 - keep) * learned(vectors) + keep * functional.normalize(vectors, dim=-1), dim=-1)


def _pairs(
    images: Sequence[Path] | tuple[Tensor, Tensor],
    old_embedder: PhotoEmbedder,
    new_embedder: PhotoEmbedder,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """What both models make of photos, `[N, 3, D]` each; those that cannot be read are left out."""
    if isinstance(images, tuple) and len(images) == 2 and all(isinstance(each, Tensor) for each in images):
        before, after = map(torch.as_tensor, images)
        rows = torch.from_numpy(sample(np.arange(len(before)), MOST_PHOTOS, seed))
        return before[rows], after[rows]
    names = [str(images[number]) for number in sample(np.arange(len(images)), MOST_PHOTOS, seed)]
    embedded = []
    for number, embedder in enumerate((old_embedder, new_embedder)):
        found: dict[str, np.ndarray] = {}
        done = number * len(names)
        for batch in encode_photos(embedder, names, BATCH):
            found |= zip((name for name, _ in batch.photos), batch.vectors, strict=True)
            done += len(batch.photos) + len(batch.broken)
            report("embedding photos to learn from", done, 2 * len(names))
        embedded.append(found)
    both = [name for name in names if name in embedded[0] and name in embedded[1]]
    before, after = (torch.from_numpy(_stacked([found[name] for name in both])) for found in embedded)
    return before, after


def _stacked(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows `[3 * D]` as `[N, 3, D]`."""
    return np.stack(rows).reshape(len(rows), len(UNITS), -1) if rows else np.zeros((0, len(UNITS), 0), np.float32)
