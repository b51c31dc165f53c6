"""Maps from the vectors of an old model to those of a newer one, learned from photos that both have embedded.

A photo is three unit vectors `[3, D]`; a map sees them side by side, so that what one unit saw can inform another, and
gives three units of length 1 again. Photos that a map was not learned from may look like none of those it was: every
map but `linear` leaves a vector where it is as far as the photos say nothing about it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tripletcl.errors import UserError

VectorMap = Callable[[Tensor], Tensor]
"""Rows `[B, 3 * D]` of the old model to rows of the new one, not normalised."""

STRENGTHS = (1e-8, 1e-2, 3e-2, 0.1, 0.3, 1.0)
"""Ridge strengths tried, as multiples of the kernel's mean diagonal: of a photo's similarity to itself."""

WIDTHS = (1.0, 1.5)
"""Widths of the Gaussian tried by `kernel`; two photos whose units are all orthogonal are sqrt(6) = 2.4 apart."""

SDC_WIDTHS = (0.1, 0.2, 0.3, 0.5, 0.8)
"""Widths of the Gaussian tried by `sdc`; its paper has 0.2 and 0.3 for one unit vector."""

STAY = 1e-7
"""Weight of the identity in `orthogonal`, against the photos': it decides where they say nothing."""

FEWEST_PHOTOS = 20
"""Of fewer photos a map of some thousand numbers and its error are chance."""

HELD_OUT = 0.2
"""Part of the photos that no map sees before the choice."""

ROUNDING = 1e-5
"""Errors that are closer than this are equal, and the simpler map is taken."""

ROWS_AT_A_TIME = 4096
"""Rows mapped at a time: `kernel` and `sdc` compare each with every photo they were learned from."""


@dataclass(frozen=True)
class LearnedMap:
    """The map that was chosen, and how all of them did.

    Attributes:
        name: A key of MAPS.
        rows: The map, learned from all photos.
        held_out_error: Of each map, learned from the others alone, the mean of 1 - cosine over the units of the
            photos held out; lower is better.
        photos: How many photos there were.
        held_out: How many of them were held out.
    """

    name: str
    rows: VectorMap
    held_out_error: dict[str, float]
    photos: int
    held_out: int

    def __call__(self, vectors: Tensor) -> Tensor:
        """Vectors `[B, 3, D]` of the old model to what the new model would give, each unit of length 1."""
        parts = [apply_map(self.rows, part) for part in vectors.split(ROWS_AT_A_TIME)]
        return torch.cat(parts) if parts else vectors


def learn_map(old: Tensor, new: Tensor, seed: int = 0, maps: Mapping[str, Callable] | None = None) -> LearnedMap:
    """Learn every map, and choose the one that errs least on photos that none of them saw.

    Args:
        old: `[N, 3, D]` the photos' vectors by the old model.
        new: `[N, 3, D']` the same photos' by the new one.
        seed: Of the choice of the photos held out.
        maps: Name to `fit(old rows, new rows) -> VectorMap`, the simplest first; by default MAPS.

    Raises:
        UserError: there are too few photos to learn from, or the models' widths differ.
    """
    if len(old) < FEWEST_PHOTOS:
        raise UserError(f"{len(old)} photos are too few to learn a map of vectors from; it takes {FEWEST_PHOTOS}")
    if old.shape != new.shape:
        raise UserError(f"the old model gives vectors {list(old.shape[1:])} and the new one {list(new.shape[1:])}")
    maps = MAPS if maps is None else maps
    order = torch.randperm(len(old), generator=torch.Generator().manual_seed(seed))
    held_out, seen = order.tensor_split([max(1, round(HELD_OUT * len(old)))])
    before, after = _rows(old), _rows(new)
    fitted = {name: fit(before[seen], after[seen]) for name, fit in maps.items()}
    errors = {name: map_error(rows, old[held_out], new[held_out]) for name, rows in fitted.items()}
    least = min(errors.values())
    chosen = next(name for name, error in errors.items() if error <= least + ROUNDING)
    return LearnedMap(chosen, maps[chosen](before, after), errors, len(old), len(held_out))


def apply_map(rows: VectorMap, vectors: Tensor) -> Tensor:
    """`[B, 3, D]` through a map of rows, each unit of length 1 again."""
    mapped = rows(_rows(vectors)).unflatten(1, vectors.shape[1:])
    return functional.normalize(mapped, dim=-1).to(vectors.dtype)


def map_error(rows: VectorMap, old: Tensor, new: Tensor) -> float:
    """The mean over photos and units of 1 - cos(mapped, new), in [0, 2]."""
    cosines = functional.cosine_similarity(apply_map(rows, old.double()), new.double(), dim=-1)
    return float((1 - cosines).mean())


# --- the maps, the simplest first ------------------------------------------------------------------------------------


def identity(old: Tensor, new: Tensor) -> VectorMap:
    """Nothing has moved: the control."""
    return lambda rows: rows


def orthogonal(old: Tensor, new: Tensor) -> VectorMap:
    """The rotation R that brings the old rows nearest to the new ones: max tr(R' old' new), orthogonal Procrustes.

    Schoenemann, "A generalized solution of the orthogonal Procrustes problem", Psychometrika 1966. A little of the
    identity is added to old' new: where no photo says anything, any rotation would do, and none is the best.
    """
    agreement = old.T @ new  # [3 * D, 3 * D]
    left, _, right = torch.linalg.svd(agreement + STAY * len(old) * torch.eye(len(agreement), dtype=old.dtype))
    rotation = left @ right
    return lambda rows: rows @ rotation


def orthogonal_units(old: Tensor, new: Tensor) -> VectorMap:
    """`orthogonal` of each unit by itself."""
    units = list(zip(old.chunk(3, dim=1), new.chunk(3, dim=1), strict=True))
    rotations = [orthogonal(before, after) for before, after in units]
    return lambda rows: torch.cat([r(part) for r, part in zip(rotations, rows.chunk(3, dim=1), strict=True)], dim=1)


def linear(old: Tensor, new: Tensor) -> VectorMap:
    """Ridge regression: min over W of ||old W - new||^2 + strength ||W||^2, the strength by leave-one-out error."""
    coefficients, _ = _ridge(old @ old.T, new)
    weight = old.T @ coefficients  # [3 * D, 3 * D]
    return lambda rows: rows @ weight


def residual(old: Tensor, new: Tensor) -> VectorMap:
    """`linear`, shrunk towards the identity and not towards zero: min ||old W - new||^2 + strength ||W - I||^2."""
    drift = linear(old, new - old)
    return lambda rows: rows + drift(rows)


def sdc(old: Tensor, new: Tensor) -> VectorMap:
    """Semantic drift compensation: a vector moves by the Gaussian-weighted mean drift of its neighbours.

    x + sum_i w_i (new_i - old_i) / sum_i w_i,  w_i = exp(-||x - old_i||^2 / (2 width^2)); Yu et al., "Semantic drift
    compensation for class-incremental learning", CVPR 2020. The width is the one by which the photos foretell each
    other best, each left out of its own mean.
    """
    drift, distances = new - old, _squared_distances(old, old)
    distances.fill_diagonal_(torch.inf)
    errors = {w: (torch.softmax(-distances / (2 * w**2), dim=1) @ drift - drift).square().mean() for w in SDC_WIDTHS}
    width = min(errors, key=errors.__getitem__)
    return lambda rows: rows + torch.softmax(-_squared_distances(rows, old) / (2 * width**2), dim=1) @ drift


def kernel(old: Tensor, new: Tensor) -> VectorMap:
    """The drift as a smooth function of the place: kernel ridge regression of new - old with a Gaussian kernel.

    x + k(x, old) (K + strength I)^-1 (new - old),  k(x, y) = exp(-||x - y||^2 / (2 width^2)). It is the mean of a
    Gaussian process whose prior is that nothing moves: as local as `sdc`, and as able to extrapolate as `linear`.
    Width and strength are those of the least leave-one-out error.
    """
    distances, drift = _squared_distances(old, old), new - old
    found = {width: _ridge(torch.exp(-distances / (2 * width**2)), drift) for width in WIDTHS}
    width = min(found, key=lambda w: found[w][1])
    coefficients = found[width][0]
    return lambda rows: rows + torch.exp(-_squared_distances(rows, old) / (2 * width**2)) @ coefficients


MAPS: dict[str, Callable[[Tensor, Tensor], VectorMap]] = {
    "identity": identity,
    "orthogonal": orthogonal,
    "orthogonal units": orthogonal_units,
    "linear": linear,
    "residual": residual,
    "sdc": sdc,
    "kernel": kernel,
}


def _rows(vectors: Tensor) -> Tensor:
    return vectors.double().flatten(1)


def _squared_distances(left: Tensor, right: Tensor) -> Tensor:
    squares = left.square().sum(1)[:, None] + right.square().sum(1) - 2 * left @ right.T
    return squares.clamp(min=0)


def _ridge(kernel_matrix: Tensor, targets: Tensor) -> tuple[Tensor, float]:
    """Coefficients c = (K + strength I)^-1 targets of the strength whose mean squared leave-one-out error is least.

    The error of a photo by the others is c_i / ((K + strength I)^-1)_ii, so one eigendecomposition answers for all
    strengths (Rifkin and Lippert, "Notes on regularized least squares", 2007).
    """
    values, vectors = torch.linalg.eigh(kernel_matrix)
    projected, scale = vectors.T @ targets, kernel_matrix.diagonal().mean()
    best, least = targets, torch.inf
    for strength in STRENGTHS:
        inverse = 1 / (values.clamp(min=0) + strength * scale)
        coefficients = vectors @ (inverse[:, None] * projected)
        errors = coefficients / (vectors.square() @ inverse)[:, None]
        if (error := float(errors.square().mean())) < least:
            best, least = coefficients, error
    return best, least
