"""The analytic readout: linear scores of classes from random ReLU features, solved in closed form, never trained.

A random layer R that never changes expands a representation,

    phi(x) = sqrt(2 / M) relu(sum_s z_s R_s),    z_s = the s-th part of x, centred and scaled to length 1,

(RanPAC, McDonnell et al., NeurIPS 2023), and `scores = phi(x) W` reads it; W is found by ridge regression
(`tripletcl.methods.analytic`). An output is the sum of the classes' targets, each weighted by its score. The
normalisation has no parameters and uses no statistics of the data, so the result does not depend on the order of the
data; the expected squared length of phi is 1 for any M.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.errors import UserError

PAIRS = 1024
"""Pairs of a class and an input to score at a time."""

RANDN_0 = (-1.12584, -1.15236, -0.25058, -0.43388)
"""The first numbers of `torch.randn` for seed 0 with which models of tripletcl 0.1 were made."""


class AnalyticReadout(nn.Module):
    """Random features of a representation, and linear scores of the classes known so far; no gradient reaches it.

    The random layer is sampled when it is first used, rounded to float16, and stored in the state as float16: torch
    does not promise that a seed gives the same numbers in every release. The rounded values are used from the start,
    so a loaded readout equals the saved one bit for bit.

    Args:
        parts: Widths of the parts of a representation; each is normalised by itself.
        width: M, the number of random features.
        seed: Seed of the random layer.
        target_shape: Shape of the target of a class, such as (3, D).

    Attributes:
        projection: The random layer `[C, M]`, float32; None until it is first used.
        weight: `[M, K]`; K is 0 until `solve` is called.
        targets: `[K, *target_shape]`.
    """

    projection: Tensor | None
    weight: Tensor
    targets: Tensor

    def __init__(self, parts: Sequence[int], width: int, seed: int, target_shape: Sequence[int]) -> None:
        super().__init__()
        self.parts, self.width, self.seed = list(parts), width, seed
        self.stored_in_half = True  # only the layers of tripletcl 0.1 were not rounded
        self.register_buffer("projection", None)
        self.register_buffer("weight", torch.zeros(width, 0))
        self.register_buffer("targets", torch.zeros(0, *target_shape))
        self.register_state_dict_post_hook(_store_in_half)
        self.register_load_state_dict_pre_hook(_prepare_load)

    @property
    def classes(self) -> int:
        """K, the number of classes that it scores."""
        return self.weight.shape[1]

    def layer(self) -> Tensor:
        """Return the random layer `[C, M]`; sample it if this is its first use."""
        if self.projection is None:
            self.projection = self.sample_layer().half().float().to(self.weight.device)
        return self.projection

    def expand(self, representation: Tensor) -> Tensor:
        """Compute phi: `[B, C]` to `[B, M]`."""
        parts = [F.normalize(part - part.mean(1, keepdim=True)) for part in representation.split(self.parts, dim=1)]
        return torch.relu(torch.cat(parts, dim=1) @ self.layer()) * (2 / self.width) ** 0.5

    def scores(self, representation: Tensor) -> Tensor:
        """Score each class: `[B, C]` to `[B, K]`; near 1 for a class that an input shows, else near 0."""
        return self.expand(representation) @ self.weight

    def forward(self, representation: Tensor) -> Tensor:
        """Compute the outputs `[B, *target_shape]`."""
        return torch.tensordot(self.scores(representation), self.targets, dims=1)

    def solve(self, weight: Tensor, targets: Tensor) -> None:
        """Set the weights `[M, K]` and the targets of the K classes."""
        self.layer()  # a state with weights always holds the layer that they belong to
        self.weight, self.targets = weight.to(self.weight), targets.to(self.targets)

    def sample_layer(self) -> Tensor:
        """Sample the random layer `[C, M]` from its seed, in float32."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(sum(self.parts), self.width, generator=generator) / len(self.parts) ** 0.5


@dataclass(frozen=True)
class ClosedScores:
    """Scores of Q classes in N inputs, as a matrix `[Q, N]` of which a part is computed when it is read.

    Attributes:
        phi: `[N, M]` the random features of the inputs.
        weight: `[M, K]` of the readout, in the scale of the scores.
        columns: `[Q]` the column of each class; -1 for one that the readout does not know, which scores 0.
    """

    phi: Tensor
    weight: Tensor
    columns: Tensor

    def of(self, classes: Tensor) -> ClosedScores:
        """The scores of some of the classes."""
        return replace(self, columns=self.columns[classes.to(self.columns.device)])

    def __getitem__(self, at: slice | tuple[Tensor, Tensor]) -> Tensor:
        """Compute the rows of a slice of classes, or the scores of pairs of a class and an input."""
        if isinstance(at, slice):
            columns = self.columns[at]
            return self._weights(columns).T @ self.phi.T
        blocks = zip(at[0].split(PAIRS), at[1].split(PAIRS), strict=True)
        return torch.cat([(self._weights(self.columns[c]).T * self.phi[i]).sum(dim=1) for c, i in blocks])

    def _weights(self, columns: Tensor) -> Tensor:
        return self.weight[:, columns.clamp(min=0)] * (columns >= 0)


def _store_in_half(readout: AnalyticReadout, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Put the random layer into a state in float16, which loses nothing."""
    if readout.projection is not None and readout.stored_in_half:
        state[prefix + "projection"] = readout.projection.half()


def _prepare_load(readout: AnalyticReadout, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Make room for the classes of a state, and sample the random layer of a state of tripletcl 0.1, which lacks it."""
    weight, layer = state.get(prefix + "weight"), state.get(prefix + "projection")
    if layer is None and weight is not None and weight.shape[1]:
        check_random_stream()
        layer = state[prefix + "projection"] = readout.sample_layer()
    readout.projection, readout.stored_in_half = None, layer is None or layer.dtype == torch.float16
    if layer is not None:
        readout.projection = readout.weight.new_zeros(sum(readout.parts), readout.width)
    for name in ("weight", "targets"):
        if (value := state.get(prefix + name)) is not None:
            setattr(readout, name, getattr(readout, name).new_zeros(value.shape))


def check_random_stream() -> None:
    """Refuse to sample a random layer of tripletcl 0.1 with a torch whose random numbers differ.

    Raises:
        UserError: this torch has other random numbers.
    """
    numbers = torch.randn(16, generator=torch.Generator().manual_seed(0))[: len(RANDN_0)]
    if not torch.allclose(numbers, torch.tensor(RANDN_0), atol=1e-4):
        raise UserError(
            "tripletcl 0.1 did not save the random layer of its analytic readout, and torch "
            f"{torch.__version__} gives other numbers for its seed: load it with an older torch and save it again"
        )
