"""The image branch: a network that ends in three vectors, one for each unit of a fact."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tripletcl.data.facts import UNITS
from tripletcl.embedding.backbones import Backbone
from tripletcl.embedding.base import ImageBase, Shape
from tripletcl.embedding.readout import AnalyticReadout
from tripletcl.embedding.trunk import Trunk, build_head


class ImageBranch(Trunk):
    """A convolutional network that ends in the vectors of subject, predicate and object.

    Model 1 (fork_at None) is one trunk and three heads; Model 2 forks after a stage into a subject branch and a
    predicate/object branch, each with its own copy of the remaining stages (Elhoseiny et al., AAAI 2017). The paper
    uses VGG-16 with freeze_until="conv2", fork_at="conv3", width 300 and head_std 0.005.

    Args:
        backbone: As in `Trunk`.
        freeze_until: As in `Trunk`.
        fork_at: As in `Trunk`.
        pooled: As in `Trunk`.
        width: D, the width of each unit's vector.
        hidden: Width of a hidden layer with ReLU in each head; 0 for none.
        head_std: Last layers start at N(0, head_std) with zero bias; None keeps torch's start.
        base: The sizes of a base, which comes before the outputs; None for none.

    Attributes:
        heads: Model 1: three maps to D; Model 2: a map to D and one to 2D.
        analytic: The closed-form readout that replaces the heads once it has classes; None without one.
        base: What the model knows before it is taught; the heads then answer nothing. None without one.

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
        base: Shape | None = None,
    ) -> None:
        super().__init__(backbone, freeze_until=freeze_until, fork_at=fork_at, pooled=pooled)
        self.width = width
        units_of_head = (1, 1, 1) if fork_at is None else (1, 2)
        self.heads = nn.ModuleList(build_head(backbone.width, n * width, head_std, hidden) for n in units_of_head)
        self.analytic: AnalyticReadout | None = None
        self.base = None if base is None else ImageBase(self.feature_width, base)
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Map images `[B, 3, H, W]` in [0, 1] to un-normalised outputs `[B, 3, D]`."""
        return self.readout(self.represent(self.features(images)))

    def readout(self, representation: Tensor) -> Tensor:
        """Map a representation `[B, C]` to un-normalised outputs `[B, 3, D]` by the heads or the analytic readout."""
        if self.analytic is not None and self.analytic.classes:
            return self.with_base(representation, self.analytic(representation))
        if self.base is not None:
            return self.with_base(representation, representation.new_zeros(len(representation), len(UNITS), self.width))
        representation = representation[:, : len(self.branches) * self.feature_width]
        pooled = representation.chunk(len(self.branches), dim=1)  # one or two [B, C]
        if len(pooled) == 1:
            pooled *= len(self.heads)
        outputs = [head(x) for head, x in zip(self.heads, pooled, strict=True)]
        return torch.cat(outputs, dim=1).unflatten(1, (len(UNITS), self.width))  # [B, U, D]

    def with_base(self, representation: Tensor, outputs: Tensor) -> Tensor:
        """Put the base of representations `[B, C]` before outputs `[B, 3, D]`; without a base they stay as they are."""
        return outputs if self.base is None else self.base.join(representation, outputs)

    def posteriors(self, representation: Tensor) -> Tensor:
        """Compute the probability of each class of a soft vocabulary, `[B, W]`, of representations `[B, C]`."""
        assert self.base is not None
        return self.base(representation).square()

    def install_analytic(self, width: int, seed: int) -> None:
        """Install an analytic readout of `width` random features; the heads answer until it has classes."""
        self.analytic = AnalyticReadout(self.part_widths(), width, seed, (len(UNITS), self.width)).to(self.mean.device)
