"""The other way round: which facts does this photo show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tripletcl.data.facts import Fact
from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import mean_cosines, unit_blocks


@dataclass(frozen=True, slots=True)
class ShownFact:
    """A fact that a photo may show, and the mean cosine over the fact's units."""

    fact: Fact
    score: float


@torch.no_grad()
def describe(
    image_vectors: Tensor, facts: Sequence[Fact], fact_vectors: Tensor, present: Tensor, k: int = 5
) -> list[list[ShownFact]]:
    """The k facts each photo shows best, ranked by the mean cosine over the units a fact has.

    The mean and not the sum, which would put every fact of three units before the shorter ones. Ties stay in the
    order of the facts.

    Args:
        image_vectors: `[N, 3, D]`.
        facts: The F facts to choose from.
        fact_vectors: `[F, 3, D]`, zero in the units a fact lacks.
        present: `[F, 3]` bool.
        k: More than F gives all F.

    Returns:
        For each photo its facts, best first.

    Raises:
        UserError: k is not positive.
    """
    if k < 1:
        raise UserError(f"k must be at least 1, not {k}")
    device = image_vectors.device
    scores = mean_cosines(unit_blocks(image_vectors), unit_blocks(fact_vectors.to(device)), present.to(device))
    best = scores.sort(dim=1, descending=True, stable=True)  # [N, F]
    return [
        [ShownFact(facts[fact], score) for score, fact in zip(photo_scores, photo_facts, strict=True)]
        for photo_scores, photo_facts in zip(best.values[:, :k].tolist(), best.indices[:, :k].tolist(), strict=True)
    ]
