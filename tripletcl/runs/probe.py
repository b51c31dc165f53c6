"""Probes of a stage of a run on published sets with verified negatives: VSR and SVO-Probes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tripletcl.data import Fact, FactSetSpec
from tripletcl.data.fact_sets import read_records
from tripletcl.data.images import decode_readable
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation.probe import score_probe
from tripletcl.runs.stored import FactRun

log = logging.getLogger("tripletcl")

PROBES = {"vsr": ("vsr", "random"), "vsr_zeroshot": ("vsr", "zeroshot"), "svo": ("svo_probes", None)}
"""The set and the variant of each probe."""

BATCH = 64
"""Photos to embed at a time."""


class _Row(NamedTuple):
    photo: Path
    fact: Fact
    shown: bool
    group: str | None


def probe(path: str | Path, name: str, root: str | Path, stage: int | None = None) -> dict[str, float]:
    """Measure how well a stage tells photos that show a fact from photos that were verified not to.

    The photos are those for testing; each counts once for a fact. For VSR the groups are the relations, and for
    SVO-Probes the unit in which the photo differs: subject, predicate (the verb) or object. Facts are scored as in
    `evaluate`: by the mean cosine of their units and, for facts that the model was taught, a closed readout. Photos
    that are missing or cannot be decoded are left out with a warning.

    Args:
        path: The run.
        name: One of PROBES.
        root: The folder of the set, as published.
        stage: By default the latest.

    Returns:
        See `tripletcl.evaluation.probe.score_probe`.

    Raises:
        UserError: there is no such run, stage or probe, the set is not in the folder, or no fact can be compared.
    """
    if name not in PROBES:
        raise UserError(f"there is no probe {name!r}; allowed are {', '.join(PROBES)}")
    run = FactRun.open(Path(path))
    folder = run.stage_folder(stage)
    kind, variant = PROBES[name]
    rows = _existing(_rows(FactSetSpec(kind, str(root), variant)), root)
    embedder = FactEmbedder.from_pretrained(folder)
    photos = list(dict.fromkeys(row.photo for row in rows))
    readable, representation = _represent(embedder, photos)
    rows = [row for row in rows if row.photo in readable]
    facts = {fact: number for number, fact in enumerate(dict.fromkeys(row.fact for row in rows))}
    pairs = np.array([(readable[row.photo], facts[row.fact]) for row in rows])
    scores = _scores(embedder, representation, list(facts), pairs)
    return score_probe(scores, pairs[:, 1], np.array([row.shown for row in rows]), [row.group for row in rows])


def _rows(spec: FactSetSpec) -> list[_Row]:
    """The rows for testing whose label is known, each once."""
    rows = [
        _Row(Path(spec.root) / record.image, record.fact, record.label, record.group or record.fact.predicate)
        for record in read_records(spec)
        if record.split == "test" and record.label is not None
    ]
    return list(dict.fromkeys(rows))


def _existing(rows: Sequence[_Row], root: str | Path) -> list[_Row]:
    photos = dict.fromkeys(row.photo for row in rows)
    missing = {photo for photo in photos if not photo.is_file()}
    if missing and len(missing) == len(photos):
        raise UserError(f"all {len(missing)} photos of the probe in {root} are missing, the first {next(iter(photos))}")
    if missing:
        first = next(photo for photo in photos if photo in missing)
        log.warning("%d of %d photos of the probe are missing, the first %s", len(missing), len(photos), first)
    return [row for row in rows if row.photo not in missing]


def _represent(embedder: FactEmbedder, photos: Sequence[Path]) -> tuple[dict[Path, int], Tensor]:
    """The row of each photo that can be decoded, and the representations `[N, C]`."""
    unreadable: dict[Path, str] = {}
    rows: dict[Path, int] = {}
    parts: list[Tensor] = []
    waiting: list[np.ndarray] = []
    with closing(decode_readable(photos, embedder.decode, unreadable, "embedding")) as decoded:
        for photo, pixels in decoded:
            rows[photo] = len(rows)
            waiting.append(pixels)
            if len(waiting) == BATCH:
                parts.append(embedder.represent_images(waiting))
                waiting = []
    parts += [embedder.represent_images(waiting)] if waiting else []
    for photo, reason in unreadable.items():
        log.warning("%s is left out: %s", photo, reason)
    return rows, torch.cat(parts)


def _scores(embedder: FactEmbedder, representation: Tensor, facts: Sequence[Fact], pairs: np.ndarray) -> np.ndarray:
    """The scores `[R]` of pairs `[R, 2]` of a photo and a fact."""
    images, closed = embedder.vectors_and_scores(representation, facts)
    vectors, present = embedder.encode_facts(facts)
    rows, columns = torch.from_numpy(pairs).to(images.device).T
    cosines = (images[rows].double() * vectors[columns].double()).sum(dim=(1, 2)) / present.sum(dim=1)[columns]
    if closed is not None:
        cosines += closed[rows, columns].double()
    return cosines.cpu().numpy()
