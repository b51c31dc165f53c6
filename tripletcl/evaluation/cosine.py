"""Cosine scores of images against facts; the same number in whichever block it is computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def unit_blocks(vectors: Tensor) -> Tensor:
    """Concatenate the L2-normalised units of each vector; a zero unit (one a fact lacks) stays zero.

    Args:
        vectors: `[M, U, D]`.

    Returns:
        `[M, U * D]` float64.
    """
    return functional.normalize(vectors.double(), dim=-1).flatten(1)


def cosine_rows(image_blocks: Tensor, fact_blocks: Tensor) -> Tensor:
    """Compute the sums of `cosine_sums` without rounding, one row per fact: the faster layout on a CPU.

    Args:
        image_blocks: `[N, U * D]` from `unit_blocks`.
        fact_blocks: `[F, U * D]` from `unit_blocks`.

    Returns:
        `[F, N]` float64.
    """
    return fact_blocks @ image_blocks.T


def cosine_sums(image_blocks: Tensor, fact_blocks: Tensor) -> Tensor:
    """Compute score(image, fact) = sum over the units the fact has of cos(image_u, fact_u).

    The product is taken in float64 and rounded to float32. A float32 product of equal vectors may differ in its last
    bit with the row's place in the block, and a tie broken by rounding no longer counts against the query.

    Args:
        image_blocks: `[N, U * D]` from `unit_blocks`.
        fact_blocks: `[F, U * D]` from `unit_blocks`.

    Returns:
        `[N, F]` float32.
    """
    return (image_blocks @ fact_blocks.T).float()


def mean_cosines(image_blocks: Tensor, fact_blocks: Tensor, present: Tensor) -> Tensor:
    """Compute the mean of the cosines over the units the fact has, which compares facts of different order.

    A sum grows with the number of units: three middling cosines of .4 would beat one excellent cosine of .9. Within
    one fact the mean orders the images as the sum does.

    Args:
        image_blocks: `[N, U * D]` from `unit_blocks`.
        fact_blocks: `[F, U * D]` from `unit_blocks`.
        present: `[F, U]` bool, the units each fact has.

    Returns:
        `[N, F]` float32.
    """
    return cosine_sums(image_blocks, fact_blocks) / present.sum(dim=1).to(torch.float32)
