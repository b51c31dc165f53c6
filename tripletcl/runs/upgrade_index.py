"""The photo index of a run brought to another stage, in most cases without its photos."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.files.addresses import Place
from tripletcl.retrieval import FactIndex, about_index, writing
from tripletcl.retrieval.photos import find_photos
from tripletcl.retrieval.upgrade import EXACT, KEEP, NOTHING, Upgraded, upgrade
from tripletcl.retrieval.vector_map import FEWEST_PHOTOS
from tripletcl.runs.stored import FactRun


@dataclass(frozen=True)
class IndexUpgraded:
    """An index of a run that was brought from one stage to another."""

    index: Place
    from_stage: int
    stage: int
    upgraded: Upgraded


def upgrade_index(
    folder: Path,
    index: Place | None = None,
    stage: int | None = None,
    images: Path | Sequence[Path] | None = None,
    *,
    keep: float = KEEP,
) -> IndexUpgraded:
    """Bring an index that a stage of a run made to another stage; see `tripletcl.retrieval.upgrade.upgrade`.

    Args:
        folder: The run.
        index: The index; by default RUN/index.
        stage: By default the latest.
        images: A folder of photos, or photos, to learn a map from. By default the existing training photos of the
            tasks between the two stages, or, if they are too few, the run's stored vectors of its test images.
        keep: The part of every old vector that is kept when a map is learned.

    Raises:
        UserError: the index is of no stage of this run, or there are too few photos to learn from.
    """
    run = FactRun.open(folder)
    index = index or run.index
    old, new = run.stage_of_index(index), run.stage(stage)
    if run.fingerprint(new) == run.fingerprint(old):
        upgraded = Upgraded(NOTHING, run.fingerprint(new), new, len(FactIndex.load(index)))
        return IndexUpgraded(index, new, new, upgraded)
    before, after = (FactEmbedder.from_pretrained(run.stage_folder(each)) for each in (old, new))
    photos = _photos_between(run, old, new) if images is None else find_photos(images)
    with writing(index) as opened:
        upgraded = upgrade(opened, before, after, photos, stage=new, keep=keep)
    return IndexUpgraded(index, old, new, upgraded)


def update_index(run: FactRun, index: Place, stage: int, embedder: FactEmbedder | None = None) -> str:
    """Bring an index to a stage of its run after a lesson, without any photo; returns what was done, in words.

    Exactly, if it stores the features that the readout reads; otherwise by a map that is learned from the stored
    vectors of the run's test images. An index that cannot be brought there stays at its stage, and is searched with
    the model of that stage.

    Args:
        embedder: The model of the stage, if it is loaded already.
    """
    with suppress(UserError):  # until its first photo is written it has no description
        if about_index(index).model == run.fingerprint(stage):
            return "as it was"
    with writing(index) as opened:
        old = run.stage_of(opened.model)
        if old == stage or not len(opened):
            return "as it was"
        if old is None:
            return f"left as it was: made by model {opened.model or 'unknown'}, which is no stage of {run.path}"
        before = FactEmbedder.from_pretrained(run.stage_folder(old))
        after = embedder or FactEmbedder.from_pretrained(run.stage_folder(stage))
        try:
            done = upgrade(opened, before, after, lambda: stored_pairs(run, old, stage), stage=stage)
        except UserError as error:
            return f"left at stage {old}: {error}"
    if done.how == NOTHING:
        return "as it was"
    return f"brought to stage {stage} {'exactly' if done.how == EXACT else f'by a learned map ({done.how})'}"


def _photos_between(run: FactRun, old: int, new: int) -> list[Path] | tuple[Tensor, Tensor]:
    photos = training_photos(run, old, new)
    return photos if len(photos) >= FEWEST_PHOTOS else stored_pairs(run, old, new)


def training_photos(run: FactRun, old: int, new: int) -> list[Path]:
    """List the existing training photos of the tasks between two stages."""
    groups, table = run.read_tasks(), run.table()
    first = len(groups) - len(run.settings.data.further)
    images: list[int] = []
    for task in range(min(old, new), min(max(old, new), len(groups))):
        rows = table.rows_of("train", groups[task], max(0, task - first + 1))
        images += np.unique(rows[:, 0]).tolist()
    paths = dict.fromkeys(table.paths[image] for image in sorted(set(images)))
    return [path for path in paths if path.exists()]


def stored_pairs(run: FactRun, old: int, new: int) -> tuple[Tensor, Tensor]:
    """Read two stages' vectors `[N, 3, D]` of the test images that both were scored on."""
    before, after = run.vectors(old), run.vectors(new)
    ids = before["image_ids"].numpy(), after["image_ids"].numpy()
    _, rows_before, rows_after = np.intersect1d(ids[0], ids[1], return_indices=True)
    return before["images"][torch.from_numpy(rows_before)], after["images"][torch.from_numpy(rows_after)]
