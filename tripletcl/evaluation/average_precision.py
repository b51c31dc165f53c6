"""Average precision with ties counted against the query."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import cosine_sums, unit_blocks

FACTS_PER_BLOCK = 64
"""Facts scored at a time: 64 x 100,000 images peak at some 250 MB beside the vectors."""


def average_precision(scores: Tensor, relevant: Tensor, block: int = FACTS_PER_BLOCK) -> Tensor:
    """The average precision of each fact over a gallery of images.

    AP_f = mean over the images p relevant to f of
    (relevant images with score >= s_p) / (all images with score >= s_p).

    An image tied with p stands before it, so a collapsed embedding (all scores equal) gets chance, P / N. This is
    scikit-learn's `average_precision_score`. There is no cut-off; the normaliser is the number P of relevant images.

    Args:
        scores: `[N, F]`, higher is better.
        relevant: `[N, F]` bool.
        block: Facts taken at a time; bounds the memory and does not change the result.

    Returns:
        `[F]` float64, NaN for a fact that no image is relevant to.

    Raises:
        UserError: a score is NaN.
    """
    _check_shapes(scores.shape, relevant)
    blocks = zip(scores.split(block, dim=1), relevant.split(block, dim=1), strict=True)
    return torch.cat([_average_precision_of_rows(s.T, r.T) for s, r in blocks])


def average_precision_of(
    image_vectors: Tensor, fact_vectors: Tensor, relevant: Tensor, block: int = FACTS_PER_BLOCK
) -> Tensor:
    """`average_precision` of cosine scores that are computed block by block and never held all at once.

    Args:
        image_vectors: `[N, U, D]`, normalised here where they are not yet.
        fact_vectors: `[F, U, D]`, zero in the units a fact lacks.
        relevant: `[N, F]` bool.
        block: Facts taken at a time; bounds the memory and does not change the result.

    Returns:
        `[F]` float64, NaN for a fact that no image is relevant to.

    Raises:
        UserError: a vector holds NaN.
    """
    return average_precision_of_blocks(unit_blocks(image_vectors), unit_blocks(fact_vectors), relevant, block)


def average_precision_of_blocks(
    image_blocks: Tensor, fact_blocks: Tensor, relevant: Tensor, block: int = FACTS_PER_BLOCK
) -> Tensor:
    """`average_precision_of` from what `unit_blocks` made of the vectors; more may stand behind the units."""
    _check_shapes((len(image_blocks), len(fact_blocks)), relevant)
    blocks = zip(fact_blocks.split(block), relevant.split(block, dim=1), strict=True)
    return torch.cat([_average_precision_of_rows(cosine_sums(image_blocks, f).T, r.T) for f, r in blocks])


def mean_average_precision(ap: Tensor) -> float:
    """MAP: the plain mean of the average precisions, over the facts that have one.

    Args:
        ap: `[F]` from `average_precision`; NaN entries (facts without a relevant image) are left out of the mean.

    Raises:
        UserError: no fact has a relevant image, so there is nothing to average.
    """
    answerable = ap[~ap.isnan()]
    if not len(answerable):
        raise UserError(f"none of the {len(ap)} facts has a relevant image in this gallery, so it has no MAP")
    return math.fsum(answerable.tolist()) / len(answerable)


def _average_precision_of_rows(scores: Tensor, relevant: Tensor) -> Tensor:
    """AP of each row of scores `[F, N]`.

    Only the relevant images need a rank, and sorting values is far cheaper than sorting them with their places.
    """
    scores = _comparable(scores)
    count = relevant.sum(dim=1)  # [F]
    positives = _padded(scores, relevant, count)  # [F, P], -inf where a fact has fewer than P relevant images
    above = scores.shape[1] - torch.searchsorted(_sorted(scores), positives)
    padding = (positives.shape[1] - count)[:, None]
    # The padding sorts first; without the clamp a true score of -inf would count the padding as hits.
    hits = positives.shape[1] - torch.searchsorted(_sorted(positives), positives).clamp(min=padding)
    real = torch.arange(positives.shape[1], device=scores.device) < count[:, None]
    return torch.where(real, hits.double() / above, 0.0).sum(dim=1) / count  # 0 / 0: NaN


def _padded(scores: Tensor, relevant: Tensor, count: Tensor) -> Tensor:
    """The scores of the relevant images of each row, `[F, P]`, with -inf after them."""
    rows, columns = relevant.nonzero(as_tuple=True)
    first = count.cumsum(0) - count  # where each row starts in the flat list
    places = torch.arange(len(rows), device=scores.device) - first[rows]
    longest = int(count.max()) if len(count) else 0
    positives = scores.new_full((len(scores), longest), -torch.inf)
    positives[rows, places] = scores[rows, columns]
    return positives


def _comparable(scores: Tensor) -> Tensor:
    """Scores as contiguous float32 or float64 without NaN."""
    if scores.dtype not in (torch.float32, torch.float64):
        scores = scores.double()
    if scores.isnan().any():
        raise UserError("a score is NaN: the model's outputs are not finite, so they cannot be ranked")
    return scores.detach().contiguous()


def _sorted(values: Tensor) -> Tensor:
    """Each row ascending. NumPy's sort of values alone is over ten times faster than torch.sort on the CPU."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.sort(values.numpy(), axis=1))
    return values.sort(dim=1).values


def _check_shapes(scores: tuple[int, ...], relevant: Tensor) -> None:
    if len(scores) != 2 or tuple(scores) != tuple(relevant.shape) or relevant.dtype != torch.bool:
        raise ValueError(
            f"scores and relevant must both be [images, facts] and relevant bool; "
            f"got scores {list(scores)} and relevant {list(relevant.shape)} {relevant.dtype}"
        )
