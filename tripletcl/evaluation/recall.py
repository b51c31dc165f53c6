"""Image to fact: how high the facts an image shows stand among all facts."""

from __future__ import annotations

import torch
from torch import Tensor

from tripletcl.errors import UserError

CUTOFFS = (1, 5, 10)
ROWS_PER_BLOCK = 4096
"""True (image, fact) pairs ranked at a time, each against all F facts."""


def true_fact_ranks(scores: Tensor, relevant: Tensor, block: int = ROWS_PER_BLOCK) -> Tensor:
    """The filtered rank of each true (image, fact) pair among all facts.

    rank(i, f) = 1 + number of facts g that image i does not show with score(i, g) >= score(i, f).

    The image's other true facts are taken out, for a right answer above f is no error: the filtered setting of
    Bordes et al., "Translating embeddings for modeling multi-relational data", NeurIPS 2013. Ties count against the
    query.

    Args:
        scores: `[N, F]`. They must be comparable across facts: where facts have different orders, the mean of the
            unit cosines (`mean_cosines`) and not their sum, which would favour facts with more units.
        relevant: `[N, F]` bool.
        block: Pairs taken at a time; bounds the memory and does not change the result.

    Returns:
        `[R]` int64, one rank for each true entry of relevant, in row-major order.

    Raises:
        UserError: a score is NaN.
    """
    if scores.isnan().any():
        raise UserError("a score is NaN: the model's outputs are not finite, so they cannot be ranked")
    ranks = [
        1 + ((scores[images] >= scores[images, facts, None]) & ~relevant[images]).sum(dim=1)  # [rows, F] -> [rows]
        for images, facts in (pairs.unbind(dim=1) for pairs in relevant.nonzero().split(block))
    ]
    return torch.cat(ranks) if ranks else torch.zeros(0, dtype=torch.int64, device=scores.device)


def recall_of_ranks(ranks: Tensor) -> dict[str, float]:
    """recall@k = share of the ranks <= k, for k in 1, 5, 10, and mrr = mean of 1 / rank (mean reciprocal rank).

    Raises:
        UserError: there is no rank.
    """
    if not len(ranks):
        raise UserError("no image shows a fact, so recall is not defined")
    scores = {f"recall@{k}": (ranks <= k).double().mean().item() for k in CUTOFFS}
    return {**scores, "mrr": (1 / ranks.double()).mean().item()}


def image_to_fact(scores: Tensor, relevant: Tensor) -> dict[str, float]:
    """Recall and mean reciprocal rank over all true (image, fact) pairs, in the filtered setting.

    Args:
        scores: `[N, F]`, comparable across facts; see `true_fact_ranks`.
        relevant: `[N, F]` bool.

    Returns:
        `{"recall@1", "recall@5", "recall@10", "mrr"}`, fractions in [0, 1].

    Raises:
        UserError: a score is NaN, or no image shows a fact.
    """
    return recall_of_ranks(true_fact_ranks(scores, relevant))
