"""All scores of one stage of a sequence, from the vectors of the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.fact_table import FactTable
from tripletcl.data.labels import PairLabels
from tripletcl.embedding.readout import ClosedScores
from tripletcl.errors import UserError
from tripletcl.evaluation.average_precision import mean_average_precision
from tripletcl.evaluation.cosine import unit_blocks
from tripletcl.evaluation.equal_queries import equal_queries
from tripletcl.evaluation.one_pass import Scorer, TruePairs, one_pass, recall_of_ranks


@dataclass(frozen=True)
class StageScores:
    """The scores of one stage, fractions in [0, 1]; None where no test image determines the score.

    Attributes:
        map_tasks: `[T]` MAP of each task's facts; the gallery is the task's own test images.
        map_tasks_all: `[T]` MAP of each task's facts; the gallery is all test images.
        map_all: MAP of all tasks' facts over all test images.
        ap: (fact, AP over all test images) of each fact that some test images show and others do not.
        training_images: The number of training images of each of these facts.
        verified_facts: True for each of these facts that is ranked against verified negatives only.
        recall: Image-to-fact recall over all true (image, fact) pairs, keys "1", "5" and "10".
        mrr: Image-to-fact mean reciprocal rank over the same pairs.
        left_out: Number of facts that no or every test image shows; they have no AP and no part in any MAP.
        map_subset: MAP of the chosen subset of facts over all test images; None where none was chosen.
        map_open: As map_all, from the vectors only; None where nothing was added to their cosines.
        verified: `[T]` of each task's facts with an AP, (number ranked against verified negatives only, number of all).
    """

    map_tasks: list[float | None]
    map_tasks_all: list[float | None]
    map_all: float | None
    ap: list[tuple[str, float]]
    recall: dict[str, float | None]
    mrr: float | None
    left_out: int
    map_subset: float | None = None
    map_open: float | None = None
    verified: list[tuple[int, int]] = field(default_factory=list)
    training_images: list[int] = field(default_factory=list)
    verified_facts: list[bool] = field(default_factory=list)


class FactEvaluator:
    """Scores test images against facts, by task and over all.

    The own gallery of a task is the test images that have a row of one of the task's facts; for a task of one fact it
    is all test images, since its own would hold nothing but right answers. A photo may show several facts: it is
    relevant to each, and a negative of none of them. Pairs that are not known (`PairLabels`) are left out: a fact with
    verified negatives is ranked among these and the images that show it. Facts with equal vectors are one query, which
    has the images of all of them and counts once in a mean, under the name of the first (see `equal_queries`).

    Args:
        table: The facts of each image; its "test" rows are the truth.
        tasks: The fact ids of each task.
        fact_vectors: `[F, 3, D]`, zero in the units a fact lacks.
        present: `[F, 3]` bool.
        groups: `[F]` from `equal_queries`; by default of fact_vectors, which is right for a frozen text branch. For one
            that is trained, give the groups of the untrained model: otherwise a model that maps its facts to one vector
            would be scored as if there were a single query.
        subset: Ids of the facts whose MAP is reported separately.
        origins: For a table joined from several, the number of the table that each task's own gallery is taken from; by
            default all of them.

    Attributes:
        merged: Number of facts that are merged into an earlier one.

    Raises:
        UserError: a task has no facts, or all facts have the same vectors.
    """

    def __init__(
        self,
        table: FactTable,
        tasks: Sequence[np.ndarray],
        fact_vectors: Tensor,
        present: Tensor,
        groups: Tensor | None = None,
        subset: np.ndarray | None = None,
        origins: Sequence[int] | None = None,
    ) -> None:
        if len(fact_vectors) != len(table.facts):
            raise ValueError(f"{len(fact_vectors)} fact vectors for the table's {len(table.facts)} facts")
        for number, task in enumerate(tasks, start=1):
            if not len(task):
                raise UserError(f"task {number} has no facts, so it cannot be evaluated")
        self.table, self.origins = table, origins
        fact_vectors, present = fact_vectors.detach().cpu(), present.cpu()
        self.groups = equal_queries(fact_vectors, present) if groups is None else groups.cpu()
        self.queries = self.groups.unique()  # [Q] the fact that represents each query
        self.tasks = [self._queries_of(task) for task in tasks]
        self.of_tasks = torch.cat(self.tasks).unique()
        self.subset = None if subset is None else self._queries_of(subset)
        self.fact_vectors, self.present = fact_vectors[self.queries], present[self.queries]
        self.merged = len(self.groups) - len(self.queries)

    @torch.no_grad()
    def evaluate(
        self, image_vectors: Tensor, image_ids: np.ndarray, closed: Tensor | ClosedScores | None = None
    ) -> StageScores:
        """Compute all scores of the model that embedded the images.

        Every score of an image and a fact is computed once, in blocks of facts.

        Args:
            image_vectors: `[N, 3, D]` of the test images.
            image_ids: `[N]` their ids in the table, each once.
            closed: `[N, F]`, added to the mean cosine of an image and a fact (`FactEmbedder.vectors_and_scores`), or
                what computes them block by block (`FactEmbedder.closed_scores`).

        Raises:
            UserError: a vector has NaN.
        """
        pairs, labels = self._pairs(image_ids)
        pairs, labelled = pairs.to(image_vectors.device), _labelled(pairs, labels).to(image_vectors.device)
        own_images = self._own_images(image_ids)
        galleries = [_own_gallery(pairs, labelled, task, own) for task, own in zip(self.tasks, own_images, strict=True)]
        result = one_pass(self._scorer(image_vectors, closed), pairs, self.tasks, galleries, labels=labels)
        ap, answerable = result.ap, (~result.ap.isnan()).nonzero().flatten().tolist()
        recall, mrr = recall_of_ranks(result.ranks)
        facts, values = self.queries.tolist(), ap.tolist()
        return StageScores(
            map_tasks=[_map(own) for own in result.own],
            map_tasks_all=[_map(ap[task]) for task in self.tasks],
            map_all=_map(ap[self.of_tasks]),
            ap=[(str(self.table.facts[facts[query]]), values[query]) for query in answerable],
            recall=recall,
            mrr=mrr,
            left_out=len(ap) - len(answerable),
            map_subset=None if self.subset is None else _map(ap[self.subset]),
            map_open=None if closed is None else _map(result.open[self.of_tasks]),
            verified=[_verified(ap[task], task, labels) for task in self.tasks],
            training_images=self._count_training_images()[answerable].tolist(),
            verified_facts=[labels is not None and bool(labels.verified[query]) for query in answerable],
        )

    def _scorer(self, image_vectors: Tensor, closed: Tensor | ClosedScores | None) -> Scorer:
        device = image_vectors.device
        if isinstance(closed, Tensor):
            closed = closed[:, self.queries.to(closed.device)].T.to(device)  # [Q, N]
        elif closed is not None:
            closed = closed.of(self.queries)
        units = self.present.sum(dim=1).to(device)
        return Scorer(unit_blocks(image_vectors), self.fact_vectors.to(device), units, closed)

    def _pairs(self, image_ids: np.ndarray) -> tuple[TruePairs, PairLabels | None]:
        """The pairs of a query and an image of these ids `[N]`, which are counted in their order, and their labels."""
        position = np.full(len(self.table.images), -1)
        position[image_ids] = np.arange(len(image_ids))
        query_of = np.searchsorted(self.queries.numpy(), self.groups.numpy())  # [F]
        images, facts = self.table.rows_of("test").T  # [rows], [rows]
        images, queries = position[images], query_of[facts]
        known, count = images >= 0, max(1, len(image_ids))
        pairs = np.unique(queries[known] * count + images[known])  # a query of several facts counts once: [R]
        queries, images = np.divmod(pairs, count)
        shown = TruePairs(torch.from_numpy(queries), torch.from_numpy(images), len(image_ids))
        if self.table.labels is None:
            return shown, None
        return shown, self.table.pair_labels("test").of_queries(image_ids, self.groups.numpy())

    def _own_images(self, image_ids: np.ndarray) -> list[Tensor]:
        """For each task `[N]` bool: True for the images of the table that its own gallery is taken from."""
        if self.origins is None:
            return [torch.ones(len(image_ids), dtype=torch.bool)] * len(self.tasks)
        table = torch.from_numpy(self.table.table_of(image_ids))
        return [table == origin for origin in self.origins]

    def _count_training_images(self) -> np.ndarray:
        """`[Q]` the number of training images of each query."""
        images, facts = self.table.rows_of("train").T
        pairs = np.unique(self.groups.numpy()[facts] * len(self.table.images) + images)
        return np.bincount(pairs // max(1, len(self.table.images)), minlength=len(self.groups))[self.queries.numpy()]

    def _queries_of(self, facts: np.ndarray) -> Tensor:
        """The queries that these facts are merged into, as positions in `queries`."""
        return torch.searchsorted(self.queries, self.groups[torch.as_tensor(facts)].unique())


def _map(ap: Tensor) -> float | None:
    """The MAP, or None where no fact is measured."""
    return None if ap.isnan().all() else mean_average_precision(ap)


def _labelled(shown: TruePairs, labels: PairLabels | None) -> TruePairs:
    """The pairs that are shown or verified not to be."""
    if labels is None:
        return shown
    images, queries = labels.labelled()
    return TruePairs(torch.from_numpy(queries), torch.from_numpy(images), shown.count)


def _verified(ap: Tensor, task: Tensor, labels: PairLabels | None) -> tuple[int, int]:
    """The number of a task's queries with an AP that are ranked against verified negatives, and of all with one."""
    measured = ~ap.isnan().cpu()
    verified = 0 if labels is None else int(labels.verified[task.cpu().numpy()][measured.numpy()].sum())
    return verified, int(measured.sum())


def _own_gallery(pairs: TruePairs, labelled: TruePairs, task: Tensor, own: Tensor) -> Tensor | None:
    """`[N]` bool, the images that a task is searched in; None for all of them."""
    own = own.to(pairs.images.device)
    of_task, of_gallery = (
        torch.isin(each.queries, task.to(each.queries.device)) & own[each.images] for each in (pairs, labelled)
    )
    gallery = torch.zeros(pairs.count, dtype=torch.bool, device=pairs.images.device)
    gallery[labelled.images[of_gallery]] = True
    positives = int(of_task.sum())  # where every image is relevant to every query, no image can be a wrong answer
    return None if positives and positives == int(gallery.sum()) * len(task) else gallery
