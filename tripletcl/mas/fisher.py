"""Fisher information of outputs: noise that makes one backward pass an estimate of that of all of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.mas.statistics import Scalar

PASSED_OVER = 1024
"""Samples whose noise is passed over at a time."""


def gaussian_projections(generator: np.random.Generator, draws: int, earlier: int = 0) -> Scalar:
    """The scalars eps_k . F(x) / sqrt(draws): the sum of their squared gradients estimates sum_d (d F_d / d theta)^2.

    The noise is sampled for one sample after the other, so it does not depend on how they are split into batches.

    Args:
        generator: Of the noise.
        draws: K.
        earlier: The number of samples before the first, which other processes measure: their noise is passed over.
    """

    def scalar(outputs: Tensor) -> Tensor:
        nonlocal earlier
        flat = outputs.reshape(len(outputs), -1)  # [B, D]
        while earlier:
            passed = min(earlier, PASSED_OVER)
            generator.standard_normal((passed, draws, flat.shape[1]))
            earlier -= passed
        noise = generator.standard_normal((len(flat), draws, flat.shape[1])) / math.sqrt(draws)  # [B, K, D]
        return torch.einsum("bd,bkd->bk", flat, torch.from_numpy(noise).to(flat))

    return scalar


def checked_draws(draws: int) -> int:
    """Return the number of noise vectors a sample.

    Raises:
        UserError: There are none.
    """
    if draws < 1:
        raise UserError(f"draws is {draws}, but the estimate needs at least one noise vector a sample")
    return draws


def checked_gamma(gamma: float) -> float:
    """Return the factor of the earlier importance.

    Raises:
        UserError: It is no share.
    """
    if not 0 <= gamma <= 1:
        raise UserError(f"gamma is {gamma}, but the online form keeps a share between 0 and 1 of the past")
    return gamma
