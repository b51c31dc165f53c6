"""All scores of one stage of a sequence, from the vectors of the test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.facts import FactTable
from tripletcl.errors import UserError
from tripletcl.evaluation.average_precision import mean_average_precision
from tripletcl.evaluation.cosine import unit_blocks
from tripletcl.evaluation.equal_queries import equal_queries
from tripletcl.evaluation.one_pass import Scorer, Shown, one_pass
from tripletcl.evaluation.recall import CUTOFFS, recall_of_ranks


@dataclass(frozen=True)
class StageScores:
    """The scores of one stage, fractions in [0, 1]; None where there is no test image to tell it by.

    Attributes:
        map_tasks: `[T]` MAP of each task's facts; the gallery is the task's own test images.
        map_tasks_all: `[T]` MAP of each task's facts; the gallery is all test images.
        map_all: MAP of all tasks' facts over all test images.
        ap: (fact, AP over all test images) of each fact that has a test image.
        recall: Image-to-fact recall over all true (image, fact) pairs, keys "1", "5" and "10".
        mrr: Image-to-fact mean reciprocal rank over the same pairs.
        left_out: How many facts have no test image, and so no AP and no part in any MAP.
        map_subset: MAP of the chosen subset of facts over all test images; None where none was chosen.
        map_open: As map_all, from the vectors alone; None where nothing was added to their cosines.
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


class FactEvaluator:
    """Scores test images against facts, by task and over all.

    The own gallery of a task is the test images that have a row of one of the task's facts; of a task of one fact, all
    test images: its own would hold nothing but right answers. A photo may show several
    facts: it is relevant to each, and a negative of none of them. Facts with equal vectors are one query, which has
    the images of all of them and counts once in a mean, under the name of the first (see `equal_queries`).

    Args:
        table: Which image shows which fact; its "test" rows are the truth.
        tasks: The fact ids of each task.
        fact_vectors: `[F, 3, D]`, zero in the units a fact lacks.
        present: `[F, 3]` bool.
        groups: `[F]` from `equal_queries`; by default of fact_vectors, which is right where the text branch is fixed.
            Where it learns, give the groups of the untrained model: a model that maps its facts to one vector would
            else be scored as if it had been asked one question.
        subset: Ids of the facts whose MAP is to be told apart.
        origins: Of a table put together from several, which of them each task's own gallery is taken from; by default
            from all.

    Attributes:
        merged: How many facts are merged into an earlier one.

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
        self.queries = self.groups.unique()
        self.tasks = [self._queries_of(task) for task in tasks]
        self.dealt = torch.cat(self.tasks).unique()
        self.subset = None if subset is None else self._queries_of(subset)
        self.fact_vectors, self.present = fact_vectors[self.queries], present[self.queries]
        self.merged = len(self.groups) - len(self.queries)

    @torch.no_grad()
    def evaluate(self, image_vectors: Tensor, image_ids: np.ndarray, closed: Tensor | None = None) -> StageScores:
        """All scores of the model that gave the images these vectors.

        Every score of an image and a fact is computed once, in blocks of facts.

        Args:
            image_vectors: `[N, 3, D]` of the test images.
            image_ids: `[N]` their ids in the table, each once.
            closed: `[N, F]` what is added to the mean cosine of an image and a fact (`FactEmbedder.closed_scores`).

        Raises:
            UserError: a vector holds NaN.
        """
        shown = self._shown(image_ids).to(image_vectors.device)
        galleries = [
            _own_gallery(shown, task, own) for task, own in zip(self.tasks, self._own_images(image_ids), strict=True)
        ]
        scorer = self._scorer(image_vectors, closed)
        found = one_pass(scorer, shown, self.tasks, galleries)
        ap, answerable = found.ap, (~found.ap.isnan()).nonzero().flatten().tolist()
        recall = recall_of_ranks(found.ranks) if len(found.ranks) else {}
        names, values = self.queries.tolist(), ap.tolist()
        return StageScores(
            map_tasks=[_map(own) for own in found.own],
            map_tasks_all=[_map(ap[task]) for task in self.tasks],
            map_all=_map(ap[self.dealt]),
            ap=[(str(self.table.facts[names[query]]), values[query]) for query in answerable],
            recall={str(k): recall.get(f"recall@{k}") for k in CUTOFFS},
            mrr=recall.get("mrr"),
            left_out=len(ap) - len(answerable),
            map_subset=None if self.subset is None else _map(ap[self.subset]),
            map_open=None if closed is None else _map(found.open[self.dealt]),
        )

    def _scorer(self, image_vectors: Tensor, closed: Tensor | None) -> Scorer:
        device = image_vectors.device
        closed = None if closed is None else closed[:, self.queries.to(closed.device)].T.to(device)
        units = self.present.sum(dim=1).to(device)
        return Scorer(unit_blocks(image_vectors), unit_blocks(self.fact_vectors.to(device)), units, closed)

    def _shown(self, image_ids: np.ndarray) -> Shown:
        """Which image shows what is asked by which query."""
        place = np.full(len(self.table.images), -1)
        place[image_ids] = np.arange(len(image_ids))
        images, facts = self.table.rows_of("test").T
        images, queries = place[images], np.searchsorted(self.queries.numpy(), self.groups.numpy()[facts])
        here = images >= 0
        pairs = np.unique(queries[here] * max(1, len(image_ids)) + images[here])  # a query of several facts: once
        queries, images = np.divmod(pairs, max(1, len(image_ids)))
        return Shown(torch.from_numpy(queries), torch.from_numpy(images), len(image_ids))

    def _own_images(self, image_ids: np.ndarray) -> list[Tensor]:
        """`[N]` bool for each task: is the image of the table that the task's own gallery is taken from?"""
        if self.origins is None:
            return [torch.ones(len(image_ids), dtype=torch.bool)] * len(self.tasks)
        table = torch.from_numpy(self.table.table_of(image_ids))
        return [table == origin for origin in self.origins]

    def _queries_of(self, facts: np.ndarray) -> Tensor:
        """The places among the queries of what these facts are merged into."""
        return torch.searchsorted(self.queries, self.groups[torch.as_tensor(facts)].unique())


def _map(ap: Tensor) -> float | None:
    """The MAP, or None where no fact has a relevant image."""
    return None if ap.isnan().all() else mean_average_precision(ap)


def _own_gallery(shown: Shown, task: Tensor, own: Tensor) -> Tensor | None:
    """`[N]` bool, the images that a task is searched in; None for all of them."""
    of_task = torch.isin(shown.queries, task.to(shown.queries.device)) & own.to(shown.images.device)[shown.images]
    gallery = torch.zeros(shown.count, dtype=torch.bool, device=shown.images.device)
    gallery[shown.images[of_task]] = True
    right = int(of_task.sum())  # of a single fact: no image there can be a wrong answer
    return None if right and right == int(gallery.sum()) * len(task) else gallery
