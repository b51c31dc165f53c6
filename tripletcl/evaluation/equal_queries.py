"""Facts whose vectors are equal are one query."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tripletcl.errors import UserError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

TOLERANCE = 1e-5
"""Tolerance of the cosine of two equal texts, which should be 1: a text encoded in two batches differs by rounding,
some 1e-6 on hardware that multiplies in reduced precision; two texts differ by 1e-3 and more."""


def equal_queries(fact_vectors: Tensor, present: Tensor, block: int = 1024) -> Tensor:
    """Find for each fact the first fact with the same vectors: itself, unless an earlier one is the same query.

    "Dog" and "dog" may be two facts of a table and one vector of the text encoder. No model can distinguish them, so
    each one's images would be unavoidable errors of the other.

    The vectors must come from a frozen or untrained text branch: otherwise a model that mapped all facts to one vector
    would be rewarded for it.

    Args:
        fact_vectors: `[F, U, D]`, zero in the units a fact lacks.
        present: `[F, U]` bool; facts that have different units are never equal.
        block: Texts compared at a time.

    Returns:
        `[F]` int64 ids.

    Raises:
        UserError: there are several facts, and all are equal.
    """
    texts = torch.full(present.shape, -1, device=present.device)  # [F, U] the first fact with the same text
    for unit, has in enumerate(present.T):
        ids = has.nonzero()[:, 0]
        texts[ids, unit] = ids[_first_equal(fact_vectors[ids, unit], block)]
    distinct, place = texts.unique(dim=0, return_inverse=True)
    groups = _first_of(place, len(distinct))[place]
    if len(groups) > 1 and not groups.any():
        raise UserError(f"the text encoder gives all {len(groups)} facts the same vectors, so no query can be answered")
    return groups


def _first_equal(vectors: Tensor, block: int) -> Tensor:
    """`[N]` the first of N vectors `[N, D]` with the same direction.

    Equal bytes are found by hashing. Vectors that differ by rounding are near each other along any line, so that each
    block is compared with its neighbours there only.
    """
    if not len(vectors):
        return vectors.new_zeros(0, dtype=torch.int64)
    place_of: dict[bytes, int] = {}
    place = [place_of.setdefault(row.tobytes(), len(place_of)) for row in vectors.cpu().numpy()]
    places = torch.tensor(place, dtype=torch.int64, device=vectors.device)  # [N] among the V distinct ones
    first = _first_of(places, len(place_of))  # [V]
    distinct = F.normalize(vectors[first].double(), dim=1)  # [V, D]
    line = F.normalize(torch.randn(vectors.shape[1], generator=torch.Generator().manual_seed(0)).to(distinct), dim=0)
    along, order = (distinct @ line).sort()
    distinct, equal, reach = distinct[order], first.clone(), (2 * TOLERANCE) ** 0.5  # the distance of such vectors
    for rows in torch.arange(len(order), device=order.device).split(block):
        low = int(torch.searchsorted(along, along[rows[0]] - reach))
        high = int(torch.searchsorted(along, along[rows[-1]] + reach, right=True))
        same = distinct[rows] @ distinct[low:high].T >= 1 - TOLERANCE  # [rows, neighbours]
        row, other = same.nonzero(as_tuple=True)
        equal.scatter_reduce_(0, order[rows[row]], first[order[low + other]], "amin")
    return equal[places]


def _first_of(groups: Tensor, count: int) -> Tensor:
    """The position of the first element of each of `count` groups, by the group of each element."""
    positions = torch.arange(len(groups), device=groups.device)
    return positions.new_full((count,), len(groups)).scatter_reduce_(0, groups, positions, "amin")


def merge_relevance(relevant: Tensor | csr_array, groups: Tensor) -> tuple[Tensor, csr_array]:
    """Make an image that is relevant to a fact relevant to the query that the fact is merged into.

    Args:
        relevant: `[N, F]` bool.
        groups: `[F]` from `equal_queries`.

    Returns:
        The ids `[Q]` of the facts that represent the queries, ascending, and relevant `[N, Q]` bool, sparse.
    """
    from scipy.sparse import coo_array, csr_array  # a query needs none of it

    queries, column = np.unique(groups.cpu().numpy(), return_inverse=True)
    pairs = coo_array(relevant.cpu().numpy()) if isinstance(relevant, Tensor) else relevant.tocoo()
    shape = relevant.shape[0], len(queries)
    merged = csr_array((pairs.data, (pairs.row, column[pairs.col])), shape)  # True + True is True
    return torch.from_numpy(queries), merged
