"""The image branch: one network that ends in three vectors, one for each unit of a fact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tripletcl.data.facts import UNITS
from tripletcl.embedding.backbones import Backbone
from tripletcl.embedding.readout import AnalyticReadout
from tripletcl.embedding.trunk import Trunk


class ImageBranch(Trunk):
    """A convolutional network whose end forks into the vectors of subject, predicate and object.

    Model 1 (fork_at None) is one trunk and three heads; Model 2 forks after a stage into a subject branch and a
    predicate/object branch, each with its own copy of the remaining stages (Elhoseiny et al., AAAI 2017).
    The paper's setting is VGG-16 with freeze_until="conv2", fork_at="conv3", width 300 and head_std 0.005.

    Args:
        backbone: As in `Trunk`.
        freeze_until: As in `Trunk`.
        fork_at: As in `Trunk`.
        pooled: As in `Trunk`.
        width: D, the width of each unit's vector.
        hidden: Width of a hidden layer with ReLU in each head; 0 for none.
        head_std: Last layers start at N(0, head_std) with zero bias; None keeps torch's start.

    Attributes:
        heads: Model 1: three maps to D; Model 2: a map to D and one to 2D.
        analytic: The closed-form read-out that stands in for the heads once it knows classes; None without one.

    Raises:
        UserError: As in `Trunk`.
    """

    def __init__(
        self,
        backbone: Backbone,
        width: int,
        *,
        freeze_until: str | None = None,
        fork_at: str | None = None,
        hidden: int = 0,
        head_std: float | None = None,
        pooled: Sequence[str] = (),
    ) -> None:
        super().__init__(backbone, freeze_until=freeze_until, fork_at=fork_at, pooled=pooled)
        self.width = width
        units_of_head = (1, 1, 1) if fork_at is None else (1, 2)
        self.heads = nn.ModuleList(_head(backbone.width, hidden, n * width, head_std) for n in units_of_head)
        self.analytic: AnalyticReadout | None = None
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Images `[B, 3, H, W]` in [0, 1] to the un-normalised outputs `[B, 3, D]`."""
        return self.from_features(self.features(images))

    def from_features(self, features: Tensor) -> Tensor:
        """The un-normalised outputs `[B, 3, D]` of what `features` returned."""
        return self.readout(self.represent(features))

    def readout(self, representation: Tensor) -> Tensor:
        """The un-normalised outputs `[B, 3, D]` of what `represent` returned.

        The analytic read-out answers in place of the heads once it knows classes.
        """
        if self.analytic is not None and self.analytic.classes:
            return self.analytic(representation)
        representation = representation[:, : len(self.branches) * self.feature_width]
        pooled = representation.chunk(len(self.branches), dim=1)  # one or two [B, C]
        if len(pooled) == 1:
            pooled *= len(self.heads)
        outputs = [head(x) for head, x in zip(self.heads, pooled, strict=True)]
        return torch.cat(outputs, dim=1).unflatten(1, (len(UNITS), self.width))  # [B, U, D]

    def install_analytic(self, width: int, seed: int) -> None:
        """Make room for an analytic read-out of `width` random features; the heads answer until it knows classes."""
        self.analytic = AnalyticReadout(self.parts(), width, seed, (len(UNITS), self.width)).to(self.mean.device)


def _head(features: int, hidden: int, outputs: int, std: float | None) -> nn.Module:
    last = nn.Linear(hidden or features, outputs)
    if std is not None:
        nn.init.normal_(last.weight, std=std)
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), last) if hidden else last
