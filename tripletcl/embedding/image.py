"""The image branch: one network that ends in three vectors, one for each unit of a fact."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tripletcl.data.facts import UNITS
from tripletcl.embedding.backbones import Backbone
from tripletcl.errors import UserError


class ImageBranch(nn.Module):
    """A convolutional network whose end forks into the vectors of subject, predicate and object.

    Model 1 (fork_at None) is one trunk and three heads; Model 2 forks after a stage into a subject branch and a
    predicate/object branch, each with its own copy of the remaining stages (Elhoseiny et al., AAAI 2017).
    The paper's setting is VGG-16 with freeze_until="conv2", fork_at="conv3", width 300 and head_std 0.005.

    Batch normalisation stays in eval mode even while training: running statistics are no parameters, so a penalty
    on moving parameters would not hold them.

    Args:
        backbone: The network; it is copied, so that one backbone may serve several branches.
        width: D, the width of each unit's vector.
        freeze_until: The last stage that is never trained; None trains all.
        fork_at: The last stage that both branches of Model 2 share; None builds Model 1.
        hidden: Width of a hidden layer with ReLU in each head; 0 for none.
        head_std: Last layers start at N(0, head_std) with zero bias; None keeps torch's start.

    Attributes:
        frozen: The stages up to and including freeze_until.
        shared: The stages behind them up to and including fork_at, or all of them.
        branches: One or two copies of the remaining stages.
        heads: Model 1: three maps to D; Model 2: a map to D and one to 2D.

    Raises:
        UserError: freeze_until or fork_at is no stage, is the last where something must follow, or fork_at comes
            before freeze_until.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        width: int,
        *,
        freeze_until: str | None = None,
        fork_at: str | None = None,
        hidden: int = 0,
        head_std: float | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        frozen_end, shared_end = _bounds(backbone, freeze_until, fork_at)
        stages = copy.deepcopy(backbone.stages)
        self.frozen = stages[:frozen_end].requires_grad_(False)
        self.shared = stages[frozen_end:shared_end]
        # A deep copy: were the two branches' weights tied in storage, training one would move the other.
        own = stages[shared_end:]
        self.branches = nn.ModuleList([own] if fork_at is None else [own, copy.deepcopy(own)])
        units_of_head = (1, 1, 1) if fork_at is None else (1, 2)
        self.heads = nn.ModuleList(_head(backbone.width, hidden, n * width, head_std) for n in units_of_head)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1))
        self.train()

    def forward(self, images: Tensor) -> Tensor:
        """Images `[B, 3, H, W]` in [0, 1] to the un-normalised outputs `[B, 3, D]`."""
        return self.from_features(self.features(images))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What the frozen stages make of images `[B, 3, H, W]` in [0, 1]; the same at every time of training."""
        return self.frozen((_fast_layout(images) - self.mean) / self.std)

    def from_features(self, features: Tensor) -> Tensor:
        """The un-normalised outputs `[B, 3, D]` of what `features` returned."""
        return self.readout(self.represent(features))

    def represent(self, features: Tensor) -> Tensor:
        """What `features` returned to what the heads read: pooled `[B, C]`, with a fork `[B, 2C]`."""
        shared = self.shared(_fast_layout(features))
        return torch.cat([branch(shared) for branch in self.branches], dim=1)

    def readout(self, representation: Tensor) -> Tensor:
        """The un-normalised outputs `[B, 3, D]` of what `represent` returned."""
        pooled = representation.chunk(len(self.branches), dim=1)  # one or two [B, C]
        if len(pooled) == 1:
            pooled *= len(self.heads)
        outputs = [head(x) for head, x in zip(self.heads, pooled, strict=True)]
        return torch.cat(outputs, dim=1).unflatten(1, (len(UNITS), self.width))  # [B, U, D]

    def train(self, mode: bool = True) -> ImageBranch:
        """Set the mode of dropout; the frozen stages and every batch normalisation stay in eval mode."""
        super().train(mode)
        self.frozen.eval()
        for module in self.modules():
            if isinstance(module, _NormBase):
                module.eval()
        return self


def _fast_layout(x: Tensor) -> Tensor:
    """Channels last for images and feature maps on the CPU, where convolutions then take two thirds of the time."""
    if x.ndim == 4 and x.device.type == "cpu":
        return x.contiguous(memory_format=torch.channels_last)
    return x


def _bounds(backbone: Backbone, freeze_until: str | None, fork_at: str | None) -> tuple[int, int]:
    """How many stages are frozen, and where the branches begin."""
    names = backbone.stage_names
    frozen_end = 0 if freeze_until is None else 1 + _position("freeze_until", freeze_until, names, backbone)
    if fork_at is None:
        return frozen_end, len(names)
    shared_end = 1 + _position("fork_at", fork_at, names[:-1], backbone)
    if shared_end < frozen_end:
        raise UserError(
            f"fork_at {fork_at!r} comes before freeze_until {freeze_until!r}: a frozen stage cannot be forked"
        )
    return frozen_end, shared_end


def _position(setting: str, stage: str, allowed: tuple[str, ...], backbone: Backbone) -> int:
    if stage not in allowed:
        choice = f"one of {', '.join(allowed)}, or None" if allowed else "only None, as it is one stage"
        raise UserError(f"{setting} {stage!r} is not possible for {backbone.name}: allowed is {choice}")
    return allowed.index(stage)


def _head(features: int, hidden: int, outputs: int, std: float | None) -> nn.Module:
    last = nn.Linear(hidden or features, outputs)
    if std is not None:
        nn.init.normal_(last.weight, std=std)
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), last) if hidden else last
