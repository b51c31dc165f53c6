"""Average precisions over all images and over the tasks' own galleries, and ranks of facts, from one pass of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tripletcl.data.labels import PairLabels
from tripletcl.embedding.readout import ClosedScores
from tripletcl.evaluation.average_precision import average_precision_of_rows, facts_per_block
from tripletcl.evaluation.cosine import cosine_rows, unit_blocks
from tripletcl.progress import report

BLOCKS_UNREPORTED = 16
"""Blocks of facts that are scored without reports of progress."""

CUTOFFS = (1, 5, 10)
PAIRS_PER_BLOCK = 256
"""True pairs to score at a time: both sides of them stay in the processor's cache."""


@dataclass(frozen=True)
class TruePairs:
    """The R pairs of a query and an image that shows it.

    Attributes:
        queries: `[R]`, ascending.
        images: `[R]`.
        count: N, the number of images.
    """

    queries: Tensor
    images: Tensor
    count: int

    def to(self, device: torch.device) -> TruePairs:
        """Copy the pairs to another device."""
        return TruePairs(self.queries.to(device), self.images.to(device), self.count)


@dataclass(frozen=True)
class Scorer:
    """Computes the scores of N images and Q queries, block by block.

    Attributes:
        images: `[N, U * D]` from `unit_blocks`.
        queries: `[Q, U, D]` of any length; `unit_blocks` of all would be large in float64.
        units: `[Q]` the number of units of each query.
        closed: `[Q, N]` what is added to the mean cosine; it counts once per unit, since cosines are summed.
    """

    images: Tensor
    queries: Tensor
    units: Tensor
    closed: Tensor | ClosedScores | None = None

    def cosines(self, block: slice) -> Tensor:
        """The sums of the cosines of a block of queries, `[F, N]` float64."""
        return cosine_rows(self.images, unit_blocks(self.queries[block]))

    def scores(self, cosines: Tensor, block: slice) -> Tensor:
        """The scores of a block of queries, `[F, N]` float32, from the sums of their cosines."""
        if self.closed is not None:
            cosines = cosines + self.closed[block].double() * self.units[block, None]
        return cosines.float()

    def _unit_blocks(self, queries: Tensor) -> Tensor:
        """The `unit_blocks` of queries `[R]` in ascending order, of which many are the same."""
        distinct, places = queries.unique_consecutive(return_inverse=True)
        return unit_blocks(self.queries[distinct])[places]

    def mean_scores(self, pairs: TruePairs) -> Tensor:
        """The score per unit of each true pair, `[R]` float32."""
        blocks = zip(pairs.queries.split(PAIRS_PER_BLOCK), pairs.images.split(PAIRS_PER_BLOCK), strict=True)
        sums = torch.cat([(self._unit_blocks(q) * self.images[i]).sum(dim=1) for q, i in blocks])  # [R]
        if self.closed is not None:
            sums += self.closed[pairs.queries, pairs.images].double() * self.units[pairs.queries]
        return sums.float() / self.units[pairs.queries]


@dataclass(frozen=True)
class PassResult:
    """The result of `one_pass`.

    Attributes:
        ap: `[Q]` float64, the average precision over all images; NaN where no or every image is relevant.
        open: `[Q]` the same by cosines only.
        own: For each task `[its queries]` the average precision in its own gallery.
        ranks: `[R]` the filtered rank of each true pair, in the order of its images: 1 + the number of queries that the
            image does not show and whose score per unit is at least as high. The image's other true queries do not
            count, since a right answer above is no error (Bordes et al., "Translating embeddings for modeling
            multi-relational data", NeurIPS 2013); ties count against the query.
    """

    ap: Tensor
    open: Tensor
    own: list[Tensor]
    ranks: Tensor


def one_pass(
    scorer: Scorer,
    pairs: TruePairs,
    tasks: Sequence[Tensor],
    galleries: Sequence[Tensor | None],
    block_size: int | None = None,
    labels: PairLabels | None = None,
) -> PassResult:
    """Compute average precisions and ranks, with every score computed once.

    Args:
        tasks: The queries of each task, ascending.
        galleries: `[N]` bool, the images each task is searched in; None for all.
        block_size: Queries per block; bounds the memory and does not change the result.
        labels: Of the images and queries: a pair that is not known is left out of the ranking of its query, and of that
            of its image. None if every pair without a row is a negative.

    Raises:
        UserError: a score is NaN.
    """
    ap, by_cosines, ranks = [], [], _Ranks(scorer, pairs)
    own: list[list[Tensor]] = [[] for _ in tasks]
    size = block_size or facts_per_block(pairs.count)
    for start in range(0, len(scorer.queries), size):
        block = slice(start, min(start + size, len(scorer.queries)))
        bounds = pairs.queries.new_tensor([block.start, block.stop])
        low, high = torch.searchsorted(pairs.queries, bounds).tolist()
        facts, images = pairs.queries[low:high] - start, pairs.images[low:high]  # the pairs of the block
        cosines = scorer.cosines(block)
        known = None
        if labels is not None:
            known = torch.from_numpy(~labels.unknown(slice(None), block)).T.to(cosines.device)  # [F, N]
            cosines = cosines.masked_fill(~known, -torch.inf)  # nothing is ranked below them
        ranked = None if known is None else known.sum(dim=1)
        rows = scorer.scores(cosines, block)  # [F, N]
        ap.append(average_precision_of_rows(rows, facts, images, ranked))
        if scorer.closed is not None:
            by_cosines.append(average_precision_of_rows(cosines.float(), facts, images, ranked))
        for task, gallery, parts in zip(tasks, galleries, own, strict=True):
            of_block = task[(task >= block.start) & (task < block.stop)].to(rows.device) - start
            if gallery is not None and len(of_block):
                parts.append(_in_gallery(rows, facts, images, of_block, gallery, known))
        ranks.add(rows, block, facts, images)
        if len(scorer.queries) > BLOCKS_UNREPORTED * size:
            report("scoring facts", block.stop, len(scorer.queries))
    overall = torch.cat(ap)  # [Q]
    of_tasks = [torch.cat(parts) if parts else overall[task] for task, parts in zip(tasks, own, strict=True)]
    return PassResult(overall, torch.cat(by_cosines) if by_cosines else overall, of_tasks, ranks.ranks)


def _in_gallery(
    rows: Tensor, facts: Tensor, images: Tensor, selected: Tensor, gallery: Tensor, known: Tensor | None
) -> Tensor:
    """The average precision `[S]` of selected rows `[S]` over the images of a gallery, `[N]` bool."""
    inside = torch.isin(facts, selected) & gallery[images]  # [R]
    column = gallery.cumsum(0) - 1  # [N] the column of each image of the gallery
    part = rows[selected][:, gallery]  # [S, images of the gallery]
    ranked = None if known is None else known[selected][:, gallery].sum(dim=1)
    return average_precision_of_rows(part, torch.searchsorted(selected, facts[inside]), column[images[inside]], ranked)


class _Ranks:
    """Counts, for each true pair, the other queries that score at least as high in its image.

    Attributes:
        ranks: `[R]`, those of `PassResult` once all blocks are added.
    """

    def __init__(self, scorer: Scorer, pairs: TruePairs) -> None:
        self.images, order = pairs.images.sort(stable=True)  # ascending columns are quicker to gather
        self.scores, self.units = scorer.mean_scores(pairs)[order], scorer.units
        self.ranks = torch.ones_like(self.images)

    def add(self, rows: Tensor, block: slice, facts: Tensor, images: Tensor) -> None:
        """Count the queries of a block with these rows, which are overwritten; true pairs are no errors."""
        means = rows.div_(self.units[block, None])
        means[facts, images] = torch.nan
        self.ranks += (means[:, self.images] >= self.scores).sum(dim=0)  # [F, R] to [R]


def recall_of_ranks(ranks: Tensor) -> tuple[dict[str, float | None], float | None]:
    """Compute recall@k, the share of the ranks <= k, for k = 1, 5, 10, and mrr, the mean of 1 / rank.

    Returns:
        Recall with keys "1", "5" and "10", and the mean reciprocal rank; None without a rank.
    """
    if not len(ranks):
        return dict.fromkeys(map(str, CUTOFFS)), None
    recall: dict[str, float | None] = {str(k): (ranks <= k).double().mean().item() for k in CUTOFFS}
    return recall, (1 / ranks.double()).mean().item()
