"""What a photo index is worth once the model has moved on: stale, upgraded, or embedded anew; measured on a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripletcl.continual import plain_batches
from tripletcl.continual.task import derived_seed
from tripletcl.data.splits import sample
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation import merge_relevance
from tripletcl.evaluation.average_precision import average_precision_of
from tripletcl.evaluation.compatibility import (
    GROUPS,
    average_accuracy,
    average_compatibility,
    compatibilities,
    compatibility_matrix,
    cross_average_precision,
    facts_of,
    mean_of,
)
from tripletcl.experiments.facts import EVALUATION_BATCH, Experiment, build, split_name
from tripletcl.files import write_text
from tripletcl.methods import method_name
from tripletcl.progress import report
from tripletcl.retrieval.upgrade import KEEP, MOST_PHOTOS, upgraded
from tripletcl.retrieval.vector_map import FEWEST_PHOTOS, KERNEL, learn_map
from tripletcl.runs.layout import DRIFT, EMBEDDER
from tripletcl.runs.train import Run

DRAWN = 3
"""Told apart in seeds: which photos a map is learned from."""

WAYS = ("stale", "mapped", "upgraded", "reembedded")
"""What an index can be: left as it was, mapped to the new model, the same with a part of the old vectors kept
(what `index upgrade` does), and embedded anew, which takes the photos."""


def read_drift(folder: Path) -> dict[str, Any] | None:
    """What `measure_drift` left in a run folder; None where it has not been measured, or the models have changed."""
    path = Path(folder) / DRIFT
    if not path.exists():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    return found if found.get("weights") == _weights(Run.open(folder)) else None


def measure_drift(
    folder: Path,
    stages: Sequence[int] | None = None,
    *,
    keep: float = KEEP,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure what becomes of an index of each stage when the newest model asks, and keep it as RUN/drift.json.

    The gallery is the test images, the queries are the facts. For each index stage s and the last stage t: the MAP of
    t's queries over the gallery as s embedded it (stale), through the map that is learned from the training images of
    the tasks s + 1 to t (mapped), as `index upgrade` leaves it (upgraded), and as t embeds it (reembedded); of all
    facts, of those s knew (old) and of those taught since (new). And the matrix of all galleries and queries, with the
    figures of `tripletcl.evaluation.compatibility`. Facts are scored by the vectors alone, as an index scores them.

    Args:
        folder: A run.
        stages: The index stages to upgrade; by default all before the last. The training images of later tasks are
            needed: where those of the first tasks are gone, give the stages since.
        keep: See `tripletcl.retrieval.upgrade.upgrade`.
        seed: Of the images that maps are learned from.

    Returns:
        What lies in the file: method, seed, split, weights, stages, keep, matrix, pairs, ac, aa, upgrades.

    Raises:
        UserError: the run has fewer than two trained stages, or one of `stages` is not among them.
    """
    run = Run.open(folder)
    there = [stage for stage in run.stages() if stage > 0]
    if len(there) < 2:
        raise UserError(f"{folder} has {len(there)} trained stage, and it takes two for an index to grow stale")
    last, asked = there[-1], sorted(set(there[:-1] if stages is None else stages))
    if wrong := [stage for stage in asked if stage not in there[:-1]]:
        raise UserError(f"{folder} has no stage {wrong[0]} before the last; there are {there[:-1]}")
    experiment = build(run.config, learned=min(asked, default=last))
    models = _Models(run, experiment)
    gallery = _gallery(models, there)
    result = {
        "method": method_name(run.config.method),
        "seed": run.config.seed,
        "split": split_name(run.config),
        "weights": _weights(run),
        "stages": there,
        "keep": keep,
        **_compatibility(gallery),
        "upgrades": [_upgrade(models, gallery, stage, last, keep, seed) for stage in asked],
    }
    write_text(run.path / DRIFT, json.dumps(result, indent=1))
    return result


@dataclass
class _Models:
    """The models of a run's stages, one in memory at a time, and the images that they embed."""

    run: Run
    experiment: Experiment

    def load(self, stage: int) -> FactEmbedder:
        """The model of a stage, in the learner's place."""
        device = self.experiment.compute.device
        self.experiment.learner.embedder = FactEmbedder.from_pretrained(self.run.stage_folder(stage), device)
        self.experiment.learner.eval()
        return self.experiment.embedder

    def tests(self, stage: int) -> dict[str, Tensor]:
        """A stage's vectors of test images and facts: those kept with it, and those of tables that came since."""
        stored = self.run.vectors(stage)
        if len(stored["facts"]) == len(self.experiment.table.facts):
            return stored
        self.load(stage)
        found = self.experiment.vectors()
        only = torch.isin(stored["image_ids"], found["image_ids"], invert=True)  # their photos may be gone by now
        both = {key: torch.cat([found[key], stored[key][only]]) for key in ("image_ids", "images")}
        return {**both, "facts": found["facts"]}

    @torch.no_grad()
    def photos(self, stage: int, images: np.ndarray) -> Tensor:
        """A stage's vectors `[N, 3, D]` of training images."""
        model, experiment = self.load(stage), self.experiment
        batches = plain_batches(experiment.source, images, EVALUATION_BATCH)
        return torch.cat([model.vectors_of(experiment.learner.represent(batch).float()).cpu() for batch in batches])


@dataclass(frozen=True)
class _Gallery:
    """The test images and the facts by every stage's model, and when each fact was first taught.

    Attributes:
        images: Stage to `[N, 3, D]`.
        queries: Stage to `[Q, 3, D]`; facts with equal vectors are one query.
        relevant: `[N, Q]` bool.
        taught: `[Q]` the task that each was first taught in, from 1.
    """

    images: dict[int, Tensor]
    queries: dict[int, Tensor]
    relevant: Tensor
    taught: np.ndarray

    def map_of(self, images: Tensor, gallery: int, queries: int) -> dict[str, float | None]:
        """MAP of each group of facts by a stage's queries over a gallery that a stage made."""
        ap = average_precision_of(images, self.queries[queries], self.relevant).numpy()
        return {group: mean_of(ap, facts_of(group, gallery, queries, self.taught)) for group in GROUPS}


def _gallery(models: _Models, stages: Sequence[int]) -> _Gallery:
    experiment, found = models.experiment, {}
    for done, stage in enumerate(stages, 1):
        found[stage] = models.tests(stage)
        report("test images", done, len(stages))
    table, ids = experiment.table, _common([vectors["image_ids"].numpy() for vectors in found.values()])
    shown = torch.from_numpy(table.relevance("test", ids, np.arange(len(table.facts))))
    queries, relevant = merge_relevance(shown, experiment.queries.cpu())
    return _Gallery(
        {stage: vectors["images"][_places(vectors, ids)] for stage, vectors in found.items()},
        {stage: vectors["facts"][queries] for stage, vectors in found.items()},
        relevant,
        _first_taught(experiment, queries.numpy()),
    )


def _common(ids: Sequence[np.ndarray]) -> np.ndarray:
    """The images that every stage has a vector of: a photo may be gone by now."""
    return reduce(np.intersect1d, ids)


def _places(vectors: dict[str, Tensor], ids: np.ndarray) -> np.ndarray:
    own = vectors["image_ids"].numpy()
    order = np.argsort(own)
    return order[np.searchsorted(own, ids, sorter=order)]


def _first_taught(experiment: Experiment, queries: np.ndarray) -> np.ndarray:
    """`[Q]` the first task, from 1, that teaches a fact of each query."""
    first = np.full(len(experiment.table.facts), len(experiment.groups) + 1)
    query_of = experiment.queries.cpu().numpy()
    for number, facts in reversed(list(enumerate(experiment.groups, 1))):
        first[query_of[facts]] = number
    return first[queries]


def _compatibility(found: _Gallery) -> dict[str, Any]:
    """The matrix of galleries and queries by group, and the figures that are read off it."""
    stages = list(found.images)
    ap = cross_average_precision(list(found.images.values()), list(found.queries.values()), found.relevant)
    matrix = {group: compatibility_matrix(ap, stages, found.taught, group) for group in GROUPS}
    pairs = {group: compatibilities(ap, stages, found.taught, group) for group in GROUPS}
    return {
        "matrix": matrix,
        "pairs": [
            {**asdict(pair), "compatible": pair.compatible, "update_gain": pair.update_gain}
            for group in GROUPS
            for pair in pairs[group]
        ],
        "ac": {group: average_compatibility(pairs[group]) for group in GROUPS},
        "aa": {group: average_accuracy(matrix[group]) for group in GROUPS},
    }


def _upgrade(models: _Models, found: _Gallery, old: int, new: int, keep: float, seed: int) -> dict[str, Any]:
    """An index of one stage brought to another: the map, and MAP by what the index is and by group of facts."""
    label = f"stage {old} to {new}"
    items = np.unique(np.concatenate([task.items for task in models.experiment.tasks[old:new]]))
    items = sample(items, MOST_PHOTOS, derived_seed(seed, DRAWN, old, new))
    exact = models.load(old).trunk_fingerprint() == models.load(new).trunk_fingerprint()
    about: dict[str, Any] = {"from": old, "to": new, "exact": exact, "photos": len(items)}
    galleries = {"stale": found.images[old], "reembedded": found.images[new]}
    if len(items) >= FEWEST_PHOTOS:
        embedded = []
        for done, stage in enumerate((old, new)):
            report(label, done, 3)
            embedded.append(models.photos(stage, items))
        report(label, 2, 3)
        learned = learn_map(embedded[0], embedded[1], seed)
        about |= {"how": KERNEL, "held_out": learned.held_out, "held_out_error": learned.held_out_error}
        galleries |= {"mapped": learned(found.images[old]), "upgraded": upgraded(learned, found.images[old], keep)}
    maps = {way: found.map_of(galleries[way], old, new) for way in WAYS if way in galleries}
    report(label, 3, 3)
    return about | {"map": maps, "recovered": {group: _recovered(maps, group) for group in GROUPS}}


def _recovered(maps: dict[str, dict[str, float | None]], group: str) -> float | None:
    """(upgraded - stale) / (reembedded - stale): None where staleness loses nothing."""
    stale, up, new = (maps.get(way, {}).get(group) for way in ("stale", "upgraded", "reembedded"))
    if stale is None or up is None or new is None or new <= stale:
        return None
    return (up - stale) / (new - stale)


def _weights(run: Run) -> dict[str, str]:
    """The SHA-256 of each trained stage's weights: what the measurement is of."""
    abouts = {stage: run.stage_folder(stage) / EMBEDDER for stage in run.stages() if stage > 0}
    return {
        str(stage): json.loads(path.read_text(encoding="utf-8"))["weights_sha256"] for stage, path in abouts.items()
    }
