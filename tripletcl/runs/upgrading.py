"""Bring a run's photo index to another of the run's stages, without the photos that are in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.experiments.facts import load_table
from tripletcl.retrieval import FactIndex, about_index, writing
from tripletcl.retrieval.photos import find_photos
from tripletcl.retrieval.upgrade import KEEP, NOTHING, Upgraded, upgrade
from tripletcl.retrieval.vector_map import FEWEST_PHOTOS
from tripletcl.runs.following import kept_pairs
from tripletcl.runs.layout import INDEX, TASKS, stage_number
from tripletcl.runs.train import Run


@dataclass(frozen=True)
class IndexUpgraded:
    """What was done to an index of a run: from which stage, and how."""

    index: Path
    from_stage: int
    stage: int
    upgraded: Upgraded


def upgrade_index(
    folder: Path,
    index: Path | None = None,
    stage: int | None = None,
    images: Path | Sequence[Path] | None = None,
    *,
    keep: float = KEEP,
) -> IndexUpgraded:
    """Bring an index that a stage of a run made to another stage of it; see `tripletcl.retrieval.upgrade.upgrade`.

    Args:
        folder: The run.
        index: The index; by default RUN/index.
        stage: By default the newest.
        images: What to learn a map from, a folder of photos or photos; by default the training photos, as far as they
            are still there, of the tasks between the two stages, and where they are gone what the run keeps of its
            test images.
        keep: The part of every old vector that stays, where a map is learned.

    Raises:
        UserError: the index is of no stage of this run, or there are too few photos to learn from.
    """
    run, place = Run.open(folder), index or folder / INDEX
    new_folder = run.stage_folder(stage)
    new = stage_number(new_folder)
    made_by = about_index(place).model
    old = run.stage_of(made_by) if made_by is not None else None
    if old is None:
        raise UserError(
            f"the index in {place} was made by model {made_by or 'unknown'}, which is no stage of {folder}: "
            f"its newest is {run.fingerprint()}"
        )
    if run.fingerprint(new) == made_by:
        return IndexUpgraded(place, new, new, Upgraded(NOTHING, made_by, new, len(FactIndex.load(place))))
    before, after = (FactEmbedder.from_pretrained(run.stage_folder(each)) for each in (old, new))
    photos = _to_learn_from(run, old, new) if images is None else find_photos(images)
    with writing(place) as held:
        upgraded = upgrade(held, before, after, photos, stage=new, keep=keep)
    return IndexUpgraded(place, old, new, upgraded)


def _to_learn_from(run: Run, old: int, new: int) -> list[Path] | tuple[Tensor, Tensor]:
    photos = training_photos(run, old, new)
    return photos if len(photos) >= FEWEST_PHOTOS else kept_pairs(run, old, new)


def training_photos(run: Run, old: int, new: int) -> list[Path]:
    """The training photos of the tasks between two stages, as far as they are still there."""
    groups = json.loads((run.path / TASKS).read_text(encoding="utf-8"))
    table, first = load_table(run.config), len(groups) - len(run.config.data.further)
    images: list[int] = []
    for task in range(min(old, new), min(max(old, new), len(groups))):
        rows = table.rows_of("train", groups[task], max(0, task - first + 1))
        images += np.unique(rows[:, 0]).tolist()
    paths = dict.fromkeys(table.paths[image] for image in sorted(set(images)))
    return [path for path in paths if path.exists()]
