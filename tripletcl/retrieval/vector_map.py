"""A map from an old model's vectors to those of a newer one, learned from photos that both have embedded.

A photo is three unit vectors `[3, D]`. The map reads them side by side, so that the drift of one unit may depend on the
others, and returns three vectors of length 1. It moves a vector only as far as the photos it was learned from say: one
that resembles none of them stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tripletcl.errors import UserError

RowMap = Callable[[Tensor], Tensor]
"""Rows `[B, 3 * D]` of the old model to rows of the new one, not normalised."""

IDENTITY, KERNEL = "identity", "kernel"

STRENGTHS = (1e-8, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Ridge strengths to choose from."""

WIDTHS = (1.0, 1.5)
"""Widths of the Gaussian to choose from; two photos whose units are all orthogonal are sqrt(6) = 2.4 apart."""

FEWEST_PHOTOS = 20
"""Below this number a map of some thousand numbers, and its error, are chance."""

HELD_OUT = 0.2
"""Share of the photos that the error is measured on."""

BATCH_ROWS = 4096
"""Rows mapped at a time: each is compared with every photo that the map was learned from."""


@dataclass(frozen=True)
class LearnedMap:
    """A learned map and its error.

    Attributes:
        rows: The map, learned from all photos.
        held_out_error: The mean of 1 - cosine over the units of the held-out photos: "kernel" for a map learned
            without them, "identity" for vectors that stay as they are. Lower is better.
        photos: Number of photos, `held_out` of them held out.
    """

    rows: RowMap
    held_out_error: dict[str, float]
    photos: int
    held_out: int

    def __call__(self, vectors: Tensor) -> Tensor:
        """Map vectors `[B, 3, D]` of the old model to those expected of the new one, each unit of length 1."""
        return torch.cat([apply_map(self.rows, batch) for batch in vectors.split(BATCH_ROWS)])


def learn_map(old: Tensor, new: Tensor, seed: int = 0) -> LearnedMap:
    """Learn a map by kernel ridge regression, and measure its error on photos held out of it.

    Args:
        old: `[N, 3, D]` the photos' vectors by the old model.
        new: `[N, 3, D]` the same photos' by the new one.
        seed: Selects the photos held out.

    Raises:
        UserError: there are too few photos to learn from, or the models' widths differ.
    """
    if len(old) < FEWEST_PHOTOS:
        raise UserError(f"{len(old)} photos are too few to learn a map of vectors from; it takes {FEWEST_PHOTOS}")
    if old.shape != new.shape:
        raise UserError(f"the old model gives vectors {list(old.shape[1:])} and the new one {list(new.shape[1:])}")
    order = torch.randperm(len(old), generator=torch.Generator().manual_seed(seed))
    held_out, rest = order.tensor_split([max(1, round(HELD_OUT * len(old)))])
    before, after = _rows(old), _rows(new)
    maps: dict[str, RowMap] = {IDENTITY: lambda rows: rows, KERNEL: fit_kernel(before[rest], after[rest])}
    errors = {name: map_error(rows, old[held_out], new[held_out]) for name, rows in maps.items()}
    return LearnedMap(fit_kernel(before, after), errors, len(old), len(held_out))


def apply_map(rows: RowMap, vectors: Tensor) -> Tensor:
    """Pass vectors `[B, 3, D]` through a map of rows, and give each unit length 1 again."""
    mapped = rows(_rows(vectors)).unflatten(1, vectors.shape[1:])  # [B, 3 * D] -> [B, 3, D]
    return functional.normalize(mapped, dim=-1).to(vectors.dtype)


def map_error(rows: RowMap, old: Tensor, new: Tensor) -> float:
    """The mean over photos and units of 1 - cos(mapped, new), in [0, 2]."""
    cosines = functional.cosine_similarity(apply_map(rows, old.double()), new.double(), dim=-1)
    return float((1 - cosines).mean())


def fit_kernel(old: Tensor, new: Tensor) -> RowMap:
    """Kernel ridge regression of the drift new - old on the old rows `[N, 3 * D]`, with a Gaussian kernel.

    x + k(x, old) (K + strength I)^-1 (new - old),  k(x, y) = exp(-||x - y||^2 / (2 width^2)). It is the mean of a
    Gaussian process whose prior is that nothing moves. Width and strength have the least leave-one-out error.
    """
    distances, drift = _squared_distances(old, old), new - old
    fits = [(*_fit_ridge(torch.exp(-distances / (2 * width**2)), drift), width) for width in WIDTHS]
    coefficients, _, width = min(fits, key=lambda fit: fit[1])
    return lambda rows: rows + torch.exp(-_squared_distances(rows, old) / (2 * width**2)) @ coefficients


def _fit_ridge(kernel: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    """Coefficients c = (K + strength I)^-1 targets, and their mean squared leave-one-out error, the least of STRENGTHS.

    The error of a photo by the others is c_i / ((K + strength I)^-1)_ii, so one eigendecomposition answers for all
    strengths (Rifkin and Lippert, "Notes on regularized least squares", 2007).
    """
    values, vectors = torch.linalg.eigh(kernel)  # [N], [N, N]
    projected = vectors.T @ targets  # [N, 3 * D]
    best, least = targets, torch.inf
    for strength in STRENGTHS:
        inverse = 1 / (values.clamp(min=0) + strength)
        coefficients = vectors @ (inverse[:, None] * projected)
        errors = coefficients / (vectors.square() @ inverse)[:, None]
        if (error := float(errors.square().mean())) < least:
            best, least = coefficients, error
    return best, least


def _rows(vectors: Tensor) -> Tensor:
    return vectors.double().flatten(1)


def _squared_distances(left: Tensor, right: Tensor) -> Tensor:
    squares = left.square().sum(1)[:, None] + right.square().sum(1) - 2 * left @ right.T
    return squares.clamp(min=0)
