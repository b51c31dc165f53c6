"""A photo index follows its run to another stage, without a look at its photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.runs.layout import INDEX
from tripletcl.runs.train import Run


def index_of(run: Path, index: Path | None) -> Path | None:
    """The index that is to follow: the one given, or RUN/index where there is one.

    Raises:
        UserError: there is none where one was given.
    """
    from tripletcl.retrieval import about_index

    folder = index or run / INDEX
    if index is None and not folder.is_dir():
        return None
    about_index(folder)  # there is one, or that is the mistake
    return folder


def follow(run: Run, index: Path, stage: int, embedder: FactEmbedder | None = None) -> str:
    """Bring an index to a stage of its run, exactly where it keeps what the read-out reads; what was done, in words.

    Else its vectors are mapped, by what the two stages make of the run's test images (`retrieval.upgrade`). An index
    that cannot follow stays of the stage that it is of, and goes on to be searched by that one's model.

    Args:
        embedder: The model of the stage, where it is at hand.
    """
    from tripletcl.retrieval import writing
    from tripletcl.retrieval.upgrade import EXACT, NOTHING, upgrade

    with writing(index) as opened:
        of = None if opened.model is None else run.stage_of(opened.model)
        if of == stage or not len(opened):
            return "as it was"
        if of is None:
            return f"left as it was: made by model {opened.model or 'unknown'}, which is no stage of {run.path}"
        old = FactEmbedder.from_pretrained(run.stage_folder(of))
        new = embedder or FactEmbedder.from_pretrained(run.stage_folder(stage))
        try:
            done = upgrade(opened, old, new, kept_pairs(run, of, stage), stage=stage)
        except UserError as error:
            return f"left at stage {of}: {error}"
    if done.how == NOTHING:
        return "as it was"
    return f"brought to stage {stage} {'exactly' if done.how == EXACT else f'by a learned map ({done.how})'}"


def kept_pairs(run: Run, old: int, new: int) -> tuple[Tensor, Tensor]:
    """What two stages make of the test images that both were scored on, `[N, 3, D]` each."""
    before, after = run.vectors(old), run.vectors(new)
    ids = before["image_ids"].numpy(), after["image_ids"].numpy()
    _, rows_before, rows_after = np.intersect1d(ids[0], ids[1], return_indices=True)
    return before["images"][torch.from_numpy(rows_before)], after["images"][torch.from_numpy(rows_after)]
