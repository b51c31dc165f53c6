"""Average precision with ties counted against the query."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.labels import PairLabels
from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import cosine_rows, unit_blocks

if TYPE_CHECKING:
    from scipy.sparse import csr_array

CELLS_PER_BLOCK, FACTS_PER_BLOCK = 12_800_000, 128
"""The most scores and the most facts of a block: 128 x 100,000 images take some 250 MB in addition to the vectors."""

TILE = 256
"""Images to transpose at a time."""

SORT, CALL = 32, 15_000
"""On a CPU, sorting a row costs as much as 32 comparisons of it, and a call as much as comparing 15,000 scores."""


def average_precision(scores: Tensor, relevant: Tensor, block: int | None = None) -> Tensor:
    """Compute the average precision of each fact over a gallery of images.

    AP_f = mean over the images p relevant to f of
    (relevant images with score >= s_p) / (all images with score >= s_p).

    An image tied with p ranks before it, so a collapsed embedding (all scores equal) gets chance, P / N. This is
    scikit-learn's `average_precision_score`. There is no cut-off; the normaliser is the number P of relevant images.

    Args:
        scores: `[N, F]`, higher is better.
        relevant: `[N, F]` bool.
        block: Facts per block; bounds the memory and does not change the result.

    Returns:
        `[F]` float64, NaN for a fact without a relevant image or without any other image.

    Raises:
        UserError: a score is NaN.
    """
    _check_shapes(scores.shape, relevant)
    exact = scores.dtype in (torch.float16, torch.bfloat16, torch.float32)  # float32 would round others
    dtype, block = torch.float32 if exact else torch.float64, block or facts_per_block(len(scores))
    blocks = zip(scores.detach().cpu().split(block, dim=1), relevant.split(block, dim=1), strict=True)
    ap = [average_precision_of_rows(_transpose(s.to(dtype)), *_pairs(r)) for s, r in blocks]
    return torch.cat(ap).to(scores.device)


def average_precision_of(
    image_vectors: Tensor,
    fact_vectors: Tensor,
    relevant: Tensor | csr_array,
    block: int | None = None,
    labels: PairLabels | None = None,
) -> Tensor:
    """Compute `average_precision` from cosine scores, block by block, so that they are never all in memory.

    Args:
        image_vectors: `[N, U, D]` of any length.
        fact_vectors: `[F, U, D]` of any length, zero in the units a fact lacks.
        relevant: `[N, F]` bool, sparse where that would be large.
        block: Facts per block; bounds the memory and does not change the result.
        labels: Of the N images and F facts: a pair that is not known is left out of the ranking of its fact. None if
            every pair that is not relevant is a negative.

    Returns:
        `[F]` float64, NaN for a fact without a relevant image or without any other image.

    Raises:
        UserError: a vector has NaN.
    """
    _check_shapes((len(image_vectors), len(fact_vectors)), relevant)
    images, facts = unit_blocks(image_vectors.detach()), fact_vectors.detach()
    size, ap = block or facts_per_block(len(images)), []
    columns = relevant if isinstance(relevant, Tensor) else relevant.tocsc()
    for start in range(0, len(facts), size):
        part = slice(start, start + size)
        rows, ranked = cosine_rows(images, unit_blocks(facts[part])).float(), None
        if labels is not None:
            known = torch.from_numpy(~labels.unknown(slice(None), part)).T.to(rows.device)  # [F, N]
            rows, ranked = rows.masked_fill(~known, -torch.inf), known.sum(dim=1)
        ap.append(average_precision_of_rows(rows, *_pairs(columns[:, part]), ranked))
    return torch.cat(ap) if ap else torch.zeros(0, dtype=torch.float64)


def average_precision_of_rows(rows: Tensor, facts: Tensor, images: Tensor, ranked: Tensor | None = None) -> Tensor:
    """Compute `average_precision` from one row of scores per fact and the relevant pairs.

    It is computed on the CPU, by NumPy, whose sort is over ten times faster than torch's.

    Args:
        rows: `[F, N]` float32 or float64.
        facts: `[R]` the rows of the relevant (fact, image) pairs, in any order.
        images: `[R]` their columns.
        ranked: `[F]` the number of images that are ranked for each fact, where a score of -inf leaves some out; None if
            all are.

    Returns:
        `[F]` float64 on the device of the rows, NaN for a fact without a pair or with a pair for every ranked image.

    Raises:
        UserError: a score is NaN.
    """
    if not rows.numel():
        return torch.full((len(rows),), torch.nan, dtype=torch.float64, device=rows.device)
    scores, fact_ids, image_ids = (tensor.cpu().numpy() for tensor in (rows, facts, images))
    if np.isnan(scores.max()):  # the maximum is NaN if any score is
        raise UserError("a score is NaN: the model's outputs are not finite, so they cannot be ranked")
    most = scores.shape[1] if ranked is None else ranked.cpu().numpy()
    return torch.from_numpy(_of_pairs(scores, fact_ids, image_ids, most)).to(rows.device)


def _of_pairs(scores: np.ndarray, facts: np.ndarray, images: np.ndarray, most: int | np.ndarray) -> np.ndarray:
    """`average_precision_of_rows` of scores `[F, N]` with at least one image."""
    positives = scores[facts, images]  # [R]
    order = np.lexsort((positives, facts))  # by fact, then by score ascending
    facts, positives = facts[order], positives[order]
    count = np.bincount(facts, minlength=len(scores))  # [F] relevant images of each fact
    ends = count.cumsum()  # [F] where each fact ends among the pairs
    bounds = zip(scores, (ends - count).tolist(), ends.tolist(), strict=True)
    above = np.concatenate([_count_at_least(row, positives[start:end]) for row, start, end in bounds])  # [R]
    tied = np.zeros(len(facts), dtype=bool)  # [R] True if the pair before has the same fact and score
    tied[1:] = (facts[1:] == facts[:-1]) & (positives[1:] == positives[:-1])
    first = np.maximum.accumulate(np.where(tied, 0, np.arange(len(facts))))  # [R] the first pair of each tie
    hits = ends[facts] - first  # [R] relevant images with at least this score
    count[count == most] = 0  # where every image is relevant, no order is wrong and nothing is measured
    with np.errstate(divide="ignore", invalid="ignore"):
        ap = np.bincount(facts, hits / above, minlength=len(scores)) / count
    return np.where(count > 0, ap, np.nan)


def _count_at_least(row: np.ndarray, thresholds: np.ndarray) -> np.ndarray | list[int]:
    """The number of scores in a row `[N]` that are at least as high as each threshold `[P]`."""
    if len(thresholds) * (len(row) + CALL) <= SORT * len(row):
        return [int(np.count_nonzero(row >= threshold)) for threshold in thresholds]
    return len(row) - np.sort(row).searchsorted(thresholds)


def mean_average_precision(ap: Tensor) -> float:
    """Compute MAP: the plain mean of the average precisions.

    Args:
        ap: `[F]` from `average_precision`; NaN entries (facts that are not measured) are left out.

    Raises:
        UserError: no fact has both a relevant image and another one.
    """
    answerable = ap[~ap.isnan()]
    if not len(answerable):
        raise UserError(
            f"none of the {len(ap)} facts has both a relevant image and another one in this gallery, so it has no MAP"
        )
    return math.fsum(answerable.tolist()) / len(answerable)


def facts_per_block(images: int) -> int:
    """Number of facts to score at a time over a gallery of this many images."""
    return min(FACTS_PER_BLOCK, max(1, CELLS_PER_BLOCK // max(1, images)))


def _transpose(scores: Tensor) -> Tensor:
    """Rows `[F, N]` of scores `[N, F]`, contiguous; copied in tiles, which stay in the processor's cache."""
    if scores.T.is_contiguous():
        return scores.T
    columns = scores.numpy()
    rows = np.empty(columns.shape[::-1], columns.dtype)
    for start in range(0, len(columns), TILE):
        rows[:, start : start + TILE] = columns[start : start + TILE].T
    return torch.from_numpy(rows)


def _pairs(relevant: Tensor | csr_array) -> tuple[Tensor, Tensor]:
    """Facts `[R]` and images `[R]` of the True entries of `[N, F]`."""
    if not isinstance(relevant, Tensor):
        pairs = relevant.tocoo()
        return torch.from_numpy(pairs.col.astype(np.int64)), torch.from_numpy(pairs.row.astype(np.int64))
    by_fact = np.ascontiguousarray(relevant.cpu().numpy().T)  # [F, N]
    facts, images = np.divmod(
        np.flatnonzero(by_fact), max(1, by_fact.shape[1])
    )  # faster than nonzero in two dimensions
    return torch.from_numpy(facts), torch.from_numpy(images)


def _check_shapes(scores: tuple[int, ...], relevant: Tensor | csr_array) -> None:
    if len(scores) != 2 or tuple(scores) != tuple(relevant.shape) or relevant.dtype not in (torch.bool, np.bool_):
        raise ValueError(
            f"scores and relevant must both be [images, facts] and relevant bool; "
            f"got scores {list(scores)} and relevant {list(relevant.shape)} {relevant.dtype}"
        )
