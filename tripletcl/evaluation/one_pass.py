"""All that the scores of images and facts are asked for, while each of them is computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tripletcl.evaluation.average_precision import average_precision_of_rows, facts_per_block
from tripletcl.evaluation.cosine import columns_of, cosine_rows

PAIRS_PER_BLOCK = 256
"""True pairs scored at a time: both sides of them stay in the processor's cache."""


@dataclass(frozen=True)
class Shown:
    """The R true pairs of a query and an image.

    Attributes:
        queries: `[R]`, ascending.
        images: `[R]`.
        count: How many images there are.
    """

    queries: Tensor
    images: Tensor
    count: int

    def to(self, device: torch.device) -> Shown:
        """The same on another device."""
        return Shown(self.queries.to(device), self.images.to(device), self.count)


@dataclass(frozen=True)
class Scorer:
    """What the scores of N images and Q queries are made of.

    Attributes:
        images: `[N, U * D]` from `unit_blocks`.
        queries: `[Q, U * D]` likewise.
        units: `[Q]` how many units each query has.
        closed: `[Q, N]` what is added to the mean cosine; it weighs as much as all units, since cosines are summed.
    """

    images: Tensor
    queries: Tensor
    units: Tensor
    closed: Tensor | None = None

    def cosines(self, block: slice) -> Tensor:
        """The sums of the cosines of some queries, `[F, N]` float64."""
        return cosine_rows(self.images, self.queries[block])

    def scores(self, cosines: Tensor, block: slice) -> Tensor:
        """Their scores `[F, N]` float32."""
        if self.closed is not None:
            cosines = cosines + self.closed[block].double() * self.units[block, None]
        return cosines.float()

    def of_pairs(self, shown: Shown) -> Tensor:
        """The mean score of each true pair, `[R]` float32."""
        blocks = zip(shown.queries.split(PAIRS_PER_BLOCK), shown.images.split(PAIRS_PER_BLOCK), strict=True)
        sums = torch.cat([(self.queries[q] * self.images[i]).sum(dim=1) for q, i in blocks])
        if self.closed is not None:
            sums += self.closed[shown.queries, shown.images].double() * self.units[shown.queries]
        return sums.float() / self.units[shown.queries]


@dataclass(frozen=True)
class Found:
    """What `one_pass` found.

    Attributes:
        ap: `[Q]` float64, the average precision over all images; NaN without a relevant image.
        open: `[Q]` the same by cosines alone.
        own: Of each task `[its queries]` the average precision in its own gallery.
        ranks: `[R]` the filtered rank of each true pair among all queries (see `true_fact_ranks`).
    """

    ap: Tensor
    open: Tensor
    own: list[Tensor]
    ranks: Tensor


def one_pass(
    scorer: Scorer, shown: Shown, tasks: Sequence[Tensor], galleries: Sequence[Tensor | None], block: int | None = None
) -> Found:
    """Average precisions and ranks, from one computation of every score.

    Args:
        tasks: The queries of each task, ascending.
        galleries: `[N]` bool, the images each task is searched in; None for all.
        block: Queries taken at a time; bounds the memory and does not change the result.

    Raises:
        UserError: a score is NaN.
    """
    ap, alone, ranks = [], [], _Ranks(scorer, shown)
    own: list[list[Tensor]] = [[] for _ in tasks]
    for rows_of in _blocks(len(scorer.queries), block or facts_per_block(shown.count)):
        lo, hi = torch.searchsorted(shown.queries, shown.queries.new_tensor([rows_of.start, rows_of.stop])).tolist()
        facts, images = shown.queries[lo:hi] - rows_of.start, shown.images[lo:hi]
        cosines = scorer.cosines(rows_of)
        rows = scorer.scores(cosines, rows_of)
        ap.append(average_precision_of_rows(rows, facts, images))
        if scorer.closed is not None:
            alone.append(average_precision_of_rows(cosines.float(), facts, images))
        for task, gallery, found in zip(tasks, galleries, own, strict=True):
            chosen = task[(task >= rows_of.start) & (task < rows_of.stop)].to(rows.device) - rows_of.start
            if gallery is not None and len(chosen):
                found.append(_in_gallery(rows, facts, images, chosen, gallery))
        ranks.add(rows, rows_of, facts, images)
    every = torch.cat(ap)
    whole = [torch.cat(found) if found else every[task] for task, found in zip(tasks, own, strict=True)]
    return Found(every, torch.cat(alone) if alone else every, whole, ranks.ranks)


def _blocks(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _in_gallery(rows: Tensor, facts: Tensor, images: Tensor, chosen: Tensor, gallery: Tensor) -> Tensor:
    """The average precision of the chosen rows over a part of the images."""
    kept = torch.isin(facts, chosen) & gallery[images]
    place = gallery.cumsum(0) - 1
    part = columns_of(rows[chosen], gallery.nonzero().flatten())
    return average_precision_of_rows(part, torch.searchsorted(chosen, facts[kept]), place[images[kept]])


class _Ranks:
    """Counts, for each true pair, the other queries that stand at or above it in its image."""

    def __init__(self, scorer: Scorer, shown: Shown) -> None:
        self.images, order = shown.images.sort(stable=True)  # to gather columns in ascending order
        self.scores, self.units = scorer.of_pairs(shown)[order], scorer.units
        self.ranks = torch.ones_like(self.images)

    def add(self, rows: Tensor, rows_of: slice, facts: Tensor, images: Tensor) -> None:
        """Count the queries of these rows, which are changed; the (fact, image) pairs are true and so no errors."""
        means = rows.div_(self.units[rows_of, None])
        means[facts, images] = torch.nan
        self.ranks += _count(columns_of(means, self.images) >= self.scores)


def _count(found: Tensor) -> Tensor:
    """How many are True in each column of `[F, R]`."""
    if found.device.type != "cpu" or len(found) > np.iinfo(np.uint8).max:
        return found.sum(dim=0)
    return torch.from_numpy(np.add.reduce(found.numpy().view(np.uint8), axis=0, dtype=np.uint8))  # stays in registers
