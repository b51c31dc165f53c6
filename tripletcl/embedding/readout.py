"""The analytic read-out: linear scores of classes from random ReLU features, solved in closed form, never trained.

A representation is expanded by a random layer that never changes,

    phi(x) = sqrt(2 / M) relu(sum_s z_s R_s),    z_s = the s-th part of x, centred and scaled to length 1,

(RanPAC, McDonnell et al., NeurIPS 2023) and read by `scores = phi(x) W`; W is found by ridge regression
(`tripletcl.methods.analytic`). An output is the sum of what the classes stand for, each weighed by its score. The
normalisation has no parameters and knows no data, so the order in which data came cannot matter; phi's expected squared
length is 1 for any M.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AnalyticReadout(nn.Module):
    """Random features of a representation, and linear scores of the classes known so far; no gradient reaches it.

    Args:
        parts: Widths of the parts that make up a representation; each is normalised by itself.
        width: M, the number of random features.
        seed: Of the random layer, which is drawn again and not saved.
        target_shape: Of what one class stands for, such as (3, D).

    Attributes:
        weight: `[M, K]`; K is 0 until it has been solved.
        targets: `[K, *target_shape]`.
    """

    projection: Tensor
    weight: Tensor
    targets: Tensor

    def __init__(self, parts: Sequence[int], width: int, seed: int, target_shape: Sequence[int]) -> None:
        super().__init__()
        self.parts, self.width = list(parts), width
        generator = torch.Generator().manual_seed(seed)
        projection = torch.randn(sum(parts), width, generator=generator) / len(parts) ** 0.5
        self.register_buffer("projection", projection, persistent=False)
        self.register_buffer("weight", torch.zeros(width, 0))
        self.register_buffer("targets", torch.zeros(0, *target_shape))

    @property
    def classes(self) -> int:
        """K, how many classes it scores."""
        return self.weight.shape[1]

    def expand(self, representation: Tensor) -> Tensor:
        """phi: `[B, C]` to `[B, M]`."""
        parts = [F.normalize(part - part.mean(1, keepdim=True)) for part in representation.split(self.parts, dim=1)]
        return torch.relu(torch.cat(parts, dim=1) @ self.projection) * (2 / self.width) ** 0.5

    def scores(self, representation: Tensor) -> Tensor:
        """How well each class fits: `[B, C]` to `[B, K]`; near 1 for a class that an input shows, else near 0."""
        return self.expand(representation) @ self.weight

    def forward(self, representation: Tensor) -> Tensor:
        """Outputs `[B, *target_shape]`."""
        return torch.tensordot(self.scores(representation), self.targets, dims=1)

    def solve(self, weight: Tensor, targets: Tensor) -> None:
        """Take up the weights `[M, K]` and what the K classes stand for."""
        self.weight, self.targets = weight.to(self.weight), targets.to(self.targets)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *arguments: Any) -> None:
        for name in ("weight", "targets"):  # the number of classes grows with the tasks: a load brings its own
            if (value := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_zeros(value.shape))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
