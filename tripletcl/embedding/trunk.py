"""The trunk of an image network: all that lies below its heads, in part frozen, in part trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn

from tripletcl.data.images import ImageLike, decode_image, map_in_threads
from tripletcl.embedding.backbones import Backbone
from tripletcl.errors import UserError


class Trunk(nn.Module):
    """A backbone as images pass it: frozen stages, shared ones, and one or two branches of the rest.

    Batch normalisation stays in eval mode even while training: running statistics are no parameters, so a penalty
    on moving parameters would not hold them.

    Args:
        backbone: The network; it is copied, so that one backbone may serve several trunks.
        freeze_until: The last stage that is never trained; None trains all.
        fork_at: The last stage before the network forks into two branches; None does not fork.
        pooled: Stages whose spatial means stand in the representation behind the last stage's features: lower stages
            know textures and parts that the last has dropped. Heads do not read them, an analytic read-out does.

    Attributes:
        frozen: The stages up to and including freeze_until.
        shared: The stages behind them up to and including fork_at, or all of them.
        branches: One or two copies of the remaining stages.

    Raises:
        UserError: freeze_until or fork_at is no stage, is the last where something must follow, or fork_at comes
            before freeze_until.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        freeze_until: str | None = None,
        fork_at: str | None = None,
        pooled: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.feature_width, self.channels = backbone.width, len(backbone.mean)
        frozen_end, shared_end = _bounds(backbone, freeze_until, fork_at)
        self.pooled = _checked_pooled(tuple(pooled), backbone, frozen_end, fork_at)
        stages = copy.deepcopy(backbone.stages)
        self.frozen = stages[:frozen_end].requires_grad_(False)
        self.shared = stages[frozen_end:shared_end]
        # A deep copy: were the two branches' weights tied in storage, training one would move the other.
        own = stages[shared_end:]
        self.branches = nn.ModuleList([own] if fork_at is None else [own, copy.deepcopy(own)])
        self.register_buffer("mean", torch.tensor(backbone.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(-1, 1, 1))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """What the frozen stages make of images `[B, C, H, W]` in [0, 1]; the same at every time of training."""
        pixels = (_fast_layout(images) - self.mean).div_(self.std)
        return self.frozen(pixels) if self.trunk_is_open else self._with_pooled(self.frozen, pixels)

    @property
    def trunk_is_open(self) -> bool:
        """Is there a stage behind the frozen ones?"""
        return bool(next(self.shared.children(), None) or next(self.branches[0].children(), None))

    def represent(self, features: Tensor) -> Tensor:
        """What `features` returned to what heads read: pooled `[B, C]`, with a fork `[B, 2C]`.

        The means of the `pooled` stages stand behind it.
        """
        if not self.trunk_is_open:
            return features
        shared = self._with_pooled(self.shared, _fast_layout(features))
        return torch.cat([branch(shared) for branch in self.branches], dim=1)

    def _with_pooled(self, stages: nn.Sequential, x: Tensor) -> Tensor:
        """What the stages make of x; the means of the `pooled` ones behind it."""
        means = []
        for name, stage in stages.named_children():
            x = stage(x)
            if name in self.pooled:
                means.append(x.mean(dim=(2, 3)))
        return torch.cat([x, *means], dim=1) if means else x

    def parts(self) -> list[int]:
        """Widths of the parts of a representation: the features of all branches, and each `pooled` stage's means."""
        return [len(self.branches) * self.feature_width, *self._pooled_widths()]

    @torch.no_grad()
    def _pooled_widths(self) -> list[int]:
        x, widths = torch.zeros(1, self.channels, 64, 64, device=self.mean.device), []
        for name, stage in [*self.frozen.named_children(), *self.shared.named_children()] if self.pooled else []:
            x = stage(x)
            if name in self.pooled:
                widths.append(x.shape[1])
        return widths

    def train(self, mode: bool = True) -> Trunk:
        """Set the mode of dropout; the frozen stages and every batch normalisation stay in eval mode."""
        super().train(mode)
        self.frozen.eval()
        for module in self.modules():
            if hasattr(module, "running_mean"):
                module.eval()
        return self


def _fast_layout(x: Tensor) -> Tensor:
    """Channels last for images and feature maps, as convolutions want them.

    On the CPU they then take two thirds of the time; on a GPU tensor cores (bfloat16, float16, TF32) read no other
    layout, and from one to the other every convolution would turn its input around by itself.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


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


def _checked_pooled(
    pooled: tuple[str, ...], backbone: Backbone, frozen_end: int, fork_at: str | None
) -> tuple[str, ...]:
    names = backbone.stage_names
    for stage in pooled:
        position = _position("pooled", stage, names[:-1], backbone)
        if fork_at is not None:
            raise UserError(f"pooled {stage!r} needs a network that does not fork; set fork_at to null")
        if position < frozen_end < len(names):
            raise UserError(
                f"pooled {stage!r} lies in the frozen part, which hands on its last output alone: pool stages behind "
                f"{names[frozen_end - 1]!r}, or freeze the whole network"
            )
    return pooled


def decode(image: ImageLike, size: int) -> np.ndarray:
    """Decode an image to the network's input, uint8 `[3, S, S]`; a decoded image is returned unchanged.

    Raises:
        UserError: the image cannot be decoded.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == (3, size, size):
        return image
    return decode_image(image, size)


def pixel_batches(
    images: Sequence[ImageLike], size: int, batch_size: int, device: torch.device | str
) -> Iterator[Tensor]:
    """Yield batches `[B, 3, S, S]` in [0, 1]; threads decode the next one meanwhile.

    Raises:
        UserError: an image cannot be decoded.
    """
    decoded = map_in_threads(lambda image: decode(image, size), images)
    while batch := list(islice(decoded, batch_size)):
        yield torch.from_numpy(np.stack(batch)).to(device).float().div_(255)


def default_batch_size(device: torch.device) -> int:
    """Images per pass: 128, but 16 on a CPU, where large outputs of layers cost new memory and several times more."""
    return 16 if device.type == "cpu" else 128
