"""Facts whose vectors are equal are one query."""

from __future__ import annotations

import torch
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import unit_blocks

TOLERANCE = 1e-5
"""Tolerance of the sum of the cosines of two equal facts, which should be their order: a text encoded in two batches
differs by rounding, some 1e-6 on hardware that multiplies in reduced precision; two texts differ by 1e-3 and more."""


def equal_queries(fact_vectors: Tensor, present: Tensor, block: int = 1024) -> Tensor:
    """Find for each fact the first fact with the same vectors: itself, unless an earlier one is the same query.

    "Dog" and "dog" may be two facts of a table and one vector of the text encoder. No model can distinguish them, so
    each one's images would be unavoidable errors of the other.

    The vectors must come from a frozen or untrained text branch: otherwise a model that mapped all facts to one vector
    would be rewarded for it.

    Args:
        fact_vectors: `[F, U, D]`, zero in the units a fact lacks.
        present: `[F, U]` bool; facts that have different units are never equal.
        block: Facts compared with all others at a time.

    Returns:
        `[F]` int64 ids.

    Raises:
        UserError: there are several facts, and all are equal.
    """
    blocks = unit_blocks(fact_vectors)  # [F, U * D]
    order = present.sum(dim=1)  # [F]
    units = (present * 2 ** torch.arange(present.shape[1], device=present.device)).sum(dim=1)  # [F] one bit per unit
    first = []
    for rows in torch.arange(len(blocks), device=blocks.device).split(block):
        earlier = slice(int(rows[-1]) + 1)
        equal = blocks[rows] @ blocks[earlier].T >= order[rows, None] - TOLERANCE  # [rows, earlier]
        equal &= units[rows, None] == units[earlier]
        fact, same = equal.nonzero(as_tuple=True)
        first.append(rows.scatter_reduce(0, fact, same, "amin"))
    groups = torch.cat(first) if first else torch.zeros(0, dtype=torch.int64)
    groups = groups[groups]
    if len(groups) > 1 and not groups.any():
        raise UserError(f"the text encoder gives all {len(groups)} facts the same vectors, so no query can be answered")
    return groups


def merge_relevance(relevant: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Make an image that is relevant to a fact relevant to the query that the fact is merged into.

    Args:
        relevant: `[N, F]` bool.
        groups: `[F]` from `equal_queries`.

    Returns:
        The ids `[Q]` of the facts that represent the queries, ascending, and relevant `[N, Q]` bool.
    """
    queries, column = groups.unique(return_inverse=True)
    if len(queries) == len(groups):
        return queries, relevant
    merged = torch.zeros(len(relevant), len(queries), dtype=torch.bool, device=relevant.device)
    images, facts = relevant.nonzero(as_tuple=True)
    merged[images, column[facts]] = True
    return queries, merged
