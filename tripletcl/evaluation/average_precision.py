"""Average precision with ties counted against the query."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import cosine_rows, unit_blocks

CELLS_PER_BLOCK, FACTS_PER_BLOCK = 12_800_000, 128
"""The most scores and the most facts of a block: 128 x 100,000 images take some 250 MB in addition to the vectors."""


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
        `[F]` float64, NaN for a fact without a relevant image.

    Raises:
        UserError: a score is NaN.
    """
    _check_shapes(scores.shape, relevant)
    exact = scores.dtype in (torch.float16, torch.bfloat16, torch.float32)  # others would be rounded by float32
    scores, block = scores.detach(), block or facts_per_block(len(scores))
    blocks = zip(scores.split(block, dim=1), relevant.split(block, dim=1), strict=True)
    return torch.cat(
        [average_precision_of_rows(s.T.to(torch.float32 if exact else torch.float64), *_pairs(r)) for s, r in blocks]
    )


def average_precision_of(
    image_vectors: Tensor, fact_vectors: Tensor, relevant: Tensor, block: int | None = None
) -> Tensor:
    """Compute `average_precision` from cosine scores, block by block, so that they are never all in memory.

    Args:
        image_vectors: `[N, U, D]` of any length.
        fact_vectors: `[F, U, D]` of any length, zero in the units a fact lacks.
        relevant: `[N, F]` bool.
        block: Facts per block; bounds the memory and does not change the result.

    Returns:
        `[F]` float64, NaN for a fact without a relevant image.

    Raises:
        UserError: a vector has NaN.
    """
    _check_shapes((len(image_vectors), len(fact_vectors)), relevant)
    images, facts = unit_blocks(image_vectors.detach()), unit_blocks(fact_vectors.detach())
    block = block or facts_per_block(len(images))
    blocks = zip(facts.split(block), relevant.split(block, dim=1), strict=True)
    return torch.cat([average_precision_of_rows(cosine_rows(images, f).float(), *_pairs(r)) for f, r in blocks])


def average_precision_of_rows(rows: Tensor, facts: Tensor, images: Tensor) -> Tensor:
    """Compute `average_precision` from one row of scores per fact and the relevant pairs.

    It is computed on the CPU, by NumPy, whose sort is over ten times faster than torch's.

    Args:
        rows: `[F, N]` float32 or float64.
        facts: `[R]` the rows of the relevant (fact, image) pairs, in any order.
        images: `[R]` their columns.

    Returns:
        `[F]` float64 on the device of the rows, NaN for a fact without a pair.

    Raises:
        UserError: a score is NaN.
    """
    scores, fact_ids, image_ids = (tensor.cpu().numpy() for tensor in (rows, facts, images))
    if scores.size and np.isnan(scores.max()):  # the maximum is NaN if any score is
        raise UserError("a score is NaN: the model's outputs are not finite, so they cannot be ranked")
    ends = np.bincount(fact_ids, minlength=len(scores)).cumsum()  # [F] where each fact ends among the sorted pairs
    relevant = np.split(image_ids[np.argsort(fact_ids, kind="stable")], ends[:-1])  # F arrays [P_f]
    ap = [_of_fact(row, positives) for row, positives in zip(scores, relevant, strict=True)]
    return torch.tensor(ap, dtype=torch.float64, device=rows.device)


def _of_fact(row: np.ndarray, relevant: np.ndarray) -> float:
    """The average precision of one fact from the scores `[N]` of all images and its relevant images `[P]`."""
    if not len(relevant):
        return math.nan
    positives = np.sort(row[relevant])  # [P] ascending
    above = len(row) - np.sort(row).searchsorted(positives)  # [P] images with at least this score
    hits = len(positives) - positives.searchsorted(positives)  # [P] relevant ones among them
    return float((hits / above).mean())


def mean_average_precision(ap: Tensor) -> float:
    """Compute MAP: the plain mean of the average precisions.

    Args:
        ap: `[F]` from `average_precision`; NaN entries (facts without a relevant image) are left out.

    Raises:
        UserError: no fact has a relevant image.
    """
    answerable = ap[~ap.isnan()]
    if not len(answerable):
        raise UserError(f"none of the {len(ap)} facts has a relevant image in this gallery, so it has no MAP")
    return math.fsum(answerable.tolist()) / len(answerable)


def facts_per_block(images: int) -> int:
    """Number of facts to score at a time over a gallery of this many images."""
    return min(FACTS_PER_BLOCK, max(1, CELLS_PER_BLOCK // max(1, images)))


def _pairs(relevant: Tensor) -> tuple[Tensor, Tensor]:
    """Facts `[R]` and images `[R]` of the True entries of `[N, F]`."""
    facts, images = relevant.T.nonzero(as_tuple=True)
    return facts, images


def _check_shapes(scores: tuple[int, ...], relevant: Tensor) -> None:
    if len(scores) != 2 or tuple(scores) != tuple(relevant.shape) or relevant.dtype != torch.bool:
        raise ValueError(
            f"scores and relevant must both be [images, facts] and relevant bool; "
            f"got scores {list(scores)} and relevant {list(relevant.shape)} {relevant.dtype}"
        )
