"""MAP of a photo index after its model has learned more: stale, upgraded, or re-embedded; measured on a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from tripletcl.continual import plain_batches
from tripletcl.continual.task import derived_seed
from tripletcl.data.labels import PairLabels
from tripletcl.data.splits import sample
from tripletcl.embedding import FactEmbedder
from tripletcl.embedding.description import read_description
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
from tripletcl.experiments.facts import EVALUATION_BATCH, FactExperiment, build_facts
from tripletcl.experiments.tables import split_name
from tripletcl.files import read_json, write_json
from tripletcl.methods import method_name
from tripletcl.progress import report
from tripletcl.retrieval.upgrade import KEEP, MOST_PHOTOS, upgrade_vectors
from tripletcl.retrieval.vector_map import FEWEST_PHOTOS, KERNEL, learn_map
from tripletcl.runs.layout import DRIFT, EMBEDDER
from tripletcl.runs.stored import FactRun

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MAP_PHOTOS = 3
"""Distinguishes the seed of the photos that a map is learned from."""

WAYS = ("stale", "mapped", "upgraded", "reembedded")
"""The states of an index: unchanged; mapped to the new model; mapped, with a share of the old vectors kept (as by
`index upgrade`); re-embedded, which needs the photos."""


def read_drift(folder: Path) -> dict[str, Any] | None:
    """Read the result of `measure_drift` in a run folder; None if there is none, or the models have changed since."""
    path = Path(folder) / DRIFT
    if not path.exists():
        return None
    result = read_json(path, f"measure it again with `tripletcl drift {folder} --again`")
    return result if result.get("weights") == _weights(FactRun.open(folder)) else None


def measure_drift(
    folder: Path, stages: Sequence[int] | None = None, *, keep: float = KEEP, seed: int = 0
) -> dict[str, Any]:
    """Measure an index of each stage under queries of the latest model, and write the result to RUN/drift.json.

    The gallery is the test images, the queries are the facts. For each index stage s and the last stage t, the result
    has the MAP of t's queries over the gallery as s embedded it (stale), after a map learned from the training images
    of the tasks s + 1 to t (mapped), as after `index upgrade` (upgraded), and as t embeds it (reembedded); of all
    facts, of those that s knew (old), and of those learned since (new). It also has the matrix of all galleries and
    queries, with the figures of `tripletcl.evaluation.compatibility`. Facts are scored by their vectors only, as in an
    index.

    Args:
        folder: A run.
        stages: The index stages to upgrade; by default all before the last. The training images of later tasks are
            needed: where those of the first tasks are missing, give later stages.
        keep: See `tripletcl.retrieval.upgrade.upgrade`.
        seed: Of the images that maps are learned from.

    Returns:
        The content of the file: method, seed, split, weights, stages, keep, matrix, pairs, ac, aa, upgrades.

    Raises:
        UserError: the run has fewer than two trained stages, or one of `stages` is not among them.
    """
    run = FactRun.open(folder)
    trained = [stage for stage in run.stages if stage > 0]
    if len(trained) < 2:
        raise UserError(f"{folder} has {len(trained)} trained stage; an index becomes stale only after two")
    last, old_stages = trained[-1], sorted(set(trained[:-1] if stages is None else stages))
    if wrong := [stage for stage in old_stages if stage not in trained[:-1]]:
        raise UserError(f"{folder} has no stage {wrong[0]} before the last; there are {trained[:-1]}")
    experiment = build_facts(run.own_settings, stored=True, finished_tasks=min(old_stages, default=last))
    models = _Models(run, experiment)
    gallery = _build_gallery(models, trained)
    result = {
        "method": method_name(run.settings.method),
        "seed": run.settings.seed,
        "split": split_name(run.settings),
        "weights": _weights(run),
        "stages": trained,
        "keep": keep,
        **_compatibility(gallery),
        "upgrades": [_measure_upgrade(models, gallery, stage, last, keep, seed) for stage in old_stages],
    }
    write_json(run.path / DRIFT, result)
    return result


@dataclass
class _Models:
    """The models of a run's stages, one in memory at a time, and their vectors of images."""

    run: FactRun
    experiment: FactExperiment

    def load(self, stage: int) -> FactEmbedder:
        """Load the model of a stage into the learner."""
        device = self.experiment.compute.device
        self.experiment.learner.embedder = FactEmbedder.from_pretrained(self.run.stage_folder(stage), device)
        self.experiment.learner.eval()
        return self.experiment.embedder

    def test_vectors(self, stage: int) -> dict[str, Tensor]:
        """A stage's vectors of test images and facts: the stored ones, and those of tables that were added later."""
        stored = self.run.vectors(stage)
        if len(stored["facts"]) == len(self.experiment.table.facts):
            return stored
        self.load(stage)
        computed = self.experiment.vectors().tensors
        rest = torch.isin(stored["image_ids"], computed["image_ids"], invert=True)  # photos that are missing by now
        both = {key: torch.cat([computed[key], stored[key][rest]]) for key in ("image_ids", "images")}
        return {**both, "facts": computed["facts"]}

    @torch.no_grad()
    def training_vectors(self, stage: int, images: np.ndarray) -> Tensor:
        """A stage's vectors `[N, 3, D]` of training images."""
        model, experiment = self.load(stage), self.experiment
        batches = plain_batches(experiment.source, images, EVALUATION_BATCH)
        return torch.cat([model.vectors_of(experiment.learner.represent(batch).float()).cpu() for batch in batches])


@dataclass(frozen=True)
class _Gallery:
    """Every stage's vectors of the test images and the facts.

    Attributes:
        images: `[N, 3, D]` for each stage.
        queries: `[Q, 3, D]` for each stage; facts with equal vectors are one query.
        relevant: `[N, Q]` bool.
        labels: Of the N images and Q queries; None if all pairs are known.
        first_task: `[Q]` the first task, from 1, that teaches a fact of the query.
    """

    images: dict[int, Tensor]
    queries: dict[int, Tensor]
    relevant: csr_array
    labels: PairLabels | None
    first_task: np.ndarray

    def map_of(self, images: Tensor, gallery: int, queries: int) -> dict[str, float | None]:
        """MAP of each group of facts, by one stage's queries over images that another stage embedded."""
        ap = average_precision_of(images, self.queries[queries], self.relevant, labels=self.labels).numpy()
        return {group: mean_of(ap, facts_of(group, gallery, queries, self.first_task)) for group in GROUPS}


def _build_gallery(models: _Models, stages: Sequence[int]) -> _Gallery:
    experiment, vectors = models.experiment, {}
    for done, stage in enumerate(stages, 1):
        vectors[stage] = models.test_vectors(stage)
        report("test images", done, len(stages))
    # Only images with a vector of every stage: a photo may have been deleted in between.
    ids = reduce(np.intersect1d, [of_stage["image_ids"].numpy() for of_stage in vectors.values()])
    table = experiment.table
    groups = experiment.queries.cpu()
    relevant_facts = table.relevance("test", ids, np.arange(len(table.facts)))  # [N, F]
    queries, relevant = merge_relevance(relevant_facts, groups)  # [Q], [N, Q]
    labels = None if table.labels is None else table.pair_labels("test").of_queries(ids, groups.numpy())
    return _Gallery(
        {stage: of_stage["images"][_rows_of(of_stage, ids)] for stage, of_stage in vectors.items()},
        {stage: of_stage["facts"][queries] for stage, of_stage in vectors.items()},
        relevant,
        labels,
        _first_tasks(experiment, queries.numpy()),
    )


def _rows_of(vectors: dict[str, Tensor], ids: np.ndarray) -> np.ndarray:
    """The rows of images in a stage's vectors, `[N]`."""
    own = vectors["image_ids"].numpy()
    order = np.argsort(own)
    return order[np.searchsorted(own, ids, sorter=order)]


def _first_tasks(experiment: FactExperiment, queries: np.ndarray) -> np.ndarray:
    """`[Q]` the first task, from 1, that teaches a fact of each query."""
    first = np.full(len(experiment.table.facts), len(experiment.groups) + 1)
    query_of = experiment.queries.cpu().numpy()
    for number, facts in reversed(list(enumerate(experiment.groups, 1))):
        first[query_of[facts]] = number
    return first[queries]


def _compatibility(gallery: _Gallery) -> dict[str, Any]:
    """The matrix of galleries and queries by group, and the figures derived from it."""
    stages = list(gallery.images)
    ap = cross_average_precision(
        list(gallery.images.values()), list(gallery.queries.values()), gallery.relevant, gallery.labels
    )
    matrix = {group: compatibility_matrix(ap, stages, gallery.first_task, group) for group in GROUPS}
    pairs = {group: compatibilities(ap, stages, gallery.first_task, group) for group in GROUPS}
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


def _measure_upgrade(models: _Models, gallery: _Gallery, old: int, new: int, keep: float, seed: int) -> dict[str, Any]:
    """Upgrade an index from one stage to another: the map's error, and MAP by state of the index and group of facts."""
    label = f"stage {old} to {new}"
    items = np.unique(np.concatenate([task.items for task in models.experiment.tasks[old:new]]))
    items = sample(items, MOST_PHOTOS, derived_seed(seed, MAP_PHOTOS, old, new))
    exact = models.load(old).trunk_fingerprint() == models.load(new).trunk_fingerprint()
    about: dict[str, Any] = {"from": old, "to": new, "exact": exact, "photos": len(items)}
    galleries = {"stale": gallery.images[old], "reembedded": gallery.images[new]}
    if len(items) >= FEWEST_PHOTOS:
        vectors = []
        for done, stage in enumerate((old, new)):
            report(label, done, 3)
            vectors.append(models.training_vectors(stage, items))
        report(label, 2, 3)
        learned = learn_map(vectors[0], vectors[1], seed)
        about |= {"how": KERNEL, "held_out": learned.held_out, "held_out_error": learned.held_out_error}
        galleries["mapped"] = learned(gallery.images[old])
        galleries["upgraded"] = upgrade_vectors(learned, gallery.images[old], keep)
    maps = {way: gallery.map_of(galleries[way], old, new) for way in WAYS if way in galleries}
    report(label, 3, 3)
    return about | {"map": maps, "recovered": {group: _recovered(maps, group) for group in GROUPS}}


def _recovered(maps: dict[str, dict[str, float | None]], group: str) -> float | None:
    """(upgraded - stale) / (reembedded - stale); None where a stale index loses nothing."""
    stale, upgraded, reembedded = (maps.get(way, {}).get(group) for way in ("stale", "upgraded", "reembedded"))
    if stale is None or upgraded is None or reembedded is None or reembedded <= stale:
        return None
    return (upgraded - stale) / (reembedded - stale)


def _weights(run: FactRun) -> dict[str, str]:
    """The SHA-256 of each trained stage's weights, by which a stored result is recognised as current."""
    paths = {stage: run.stage_folder(stage) / EMBEDDER for stage in run.stages if stage > 0}
    return {str(stage): read_description(path, "embedder")["weights_sha256"] for stage, path in paths.items()}
