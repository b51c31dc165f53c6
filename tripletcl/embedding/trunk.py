"""The trunk of an image network: everything below its heads, in part frozen, in part trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.data.images import ImageLike, decode_image, map_in_threads
from tripletcl.embedding.backbones import Backbone
from tripletcl.errors import UserError, check_count

ALL = "all"
"""The value of freeze_until for the whole network, whatever its stages are called."""


class Trunk(nn.Module):
    """A backbone in three parts: frozen stages, shared stages, and one or two branches of the rest.

    Batch normalisation stays in eval mode during training: running statistics are not parameters, so a penalty on
    moving parameters would not protect them.

    Args:
        backbone: The network; it is copied, so that one backbone may serve several trunks.
        freeze_until: The last stage that is never trained; None trains all, ALL none.
        fork_at: The last stage before the network forks into two branches; None does not fork.
        pooled: Stages whose spatial means follow the last stage's features in the representation: lower stages keep
            textures and parts that the last one drops. Heads do not read them; an analytic readout does.

    Attributes:
        frozen: The stages up to and including freeze_until.
        shared: The stages after them up to and including fork_at, or all of them.
        branches: One or two copies of the remaining stages.

    Raises:
        UserError: freeze_until, fork_at or pooled names no stage, or one that cannot be used so.
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
        self.name, self.size, self.crop = backbone.name, backbone.size, backbone.crop
        self.former_names = backbone.former_names
        self.feature_width, self.channels = backbone.width, len(backbone.mean)
        frozen_end, shared_end = _bounds(backbone, freeze_until, fork_at)
        self.pooled = _check_pooled(tuple(pooled), backbone, frozen_end, fork_at)
        stages = copy.deepcopy(backbone.stages)
        self.frozen = stages[:frozen_end].requires_grad_(False)
        self.shared = stages[frozen_end:shared_end]
        # A deep copy: with shared storage, training one branch would move the other.
        own = stages[shared_end:]
        self.branches = nn.ModuleList([own] if fork_at is None else [own, copy.deepcopy(own)])
        self.register_load_state_dict_pre_hook(_rename_former)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Map images `[B, C, H, W]` in [0, 1] to the representation `[B, C]`."""
        return self.represent(self.features(images))

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Pass images `[B, C, H, W]` in [0, 1] through the frozen stages; the result never changes during training."""
        pixels = (_channels_last(_scaled(images, self.size, self.crop)) - self.mean).div_(self.std)
        return self.frozen(pixels) if self.has_trainable_stages else self._with_pooled(self.frozen, pixels)

    @property
    def networks(self) -> list[Trunk]:
        """The trunks whose features, side by side, are the features of this one: itself, unless there are several."""
        first = next(self.frozen.children(), None)
        return [*first] if isinstance(first, SideBySide) else [self]

    @property
    def has_trainable_stages(self) -> bool:
        """True if a stage follows the frozen ones."""
        return bool(next(self.shared.children(), None) or next(self.branches[0].children(), None))

    def represent(self, features: Tensor) -> Tensor:
        """Map features to the representation that heads read: pooled `[B, C]`, with a fork `[B, 2C]`.

        The means of the `pooled` stages follow at its end.
        """
        if not self.has_trainable_stages:
            return features
        shared = self._with_pooled(self.shared, _channels_last(features))
        return torch.cat([branch(shared) for branch in self.branches], dim=1)

    def _with_pooled(self, stages: nn.Sequential, x: Tensor) -> Tensor:
        """Pass x through stages, and append the means of the `pooled` ones to the result."""
        means = []
        for name, stage in stages.named_children():
            x = stage(x)
            if name in self.pooled:
                means.append(x.mean(dim=1 if x.ndim == 3 else (2, 3)))  # [B, C_s], of tokens or of a map
        return torch.cat([x, *means], dim=1) if means else x

    def part_widths(self) -> list[int]:
        """Widths of the parts of a representation: the features of all branches, and the means of each pooled stage."""
        if self.networks != [self]:
            return [width for network in self.networks for width in network.part_widths()]
        return [len(self.branches) * self.feature_width, *self._pooled_widths()]

    @torch.no_grad()
    def _pooled_widths(self) -> list[int]:
        side, widths = self.crop or self.size or 64, []
        x = torch.zeros(1, self.channels, side, side, device=self.mean.device)
        for name, stage in [*self.frozen.named_children(), *self.shared.named_children()] if self.pooled else []:
            x = stage(x)
            if name in self.pooled:
                widths.append(x.shape[2] if x.ndim == 3 else x.shape[1])
        return widths

    def train(self, mode: bool = True) -> Trunk:
        """Set the mode of dropout; the frozen stages and every batch normalisation stay in eval mode."""
        super().train(mode)
        self.frozen.eval()
        for module in self.modules():
            if hasattr(module, "running_mean"):
                module.eval()
        return self


class SideBySide(nn.ModuleList):
    """Several frozen trunks as one stage: maps images `[B, C, H, W]` in [0, 1] to all their representations `[B, sum]`.

    Args:
        trunks: The trunks, without a stage that is trained.
    """

    def __init__(self, trunks: Sequence[Trunk]) -> None:
        super().__init__(trunks)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([trunk(images) for trunk in self], dim=1)


def _scaled(images: Tensor, size: int | None, crop: int | None) -> Tensor:
    """Scale square images in [0, 1] to a side, bicubic and antialiased like decoding, and cut out their centre."""
    if size is not None and size != images.shape[-1]:
        images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp_(0, 1)
    if crop is None or size is None or crop == size:
        return images
    start = round((size - crop) / 2)
    return images[..., start : start + crop, start : start + crop]


def _rename_former(trunk: Trunk, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Give the tensors of a network that was saved as one stage the names that they have in its stages."""
    places = {name: "frozen" for name, _ in trunk.frozen.named_children()}
    for former, name in trunk.former_names.items():
        for whole in (f"{prefix}frozen.backbone.{former}", f"{prefix}shared.backbone.{former}"):
            if whole in state:
                state[f"{prefix}{places.get(name.partition('.')[0], 'shared')}.{name}"] = state.pop(whole)


def _channels_last(x: Tensor) -> Tensor:
    """Convert images and feature maps to the layout channels last.

    On a CPU convolutions then take two thirds of the time; on a GPU tensor cores (bfloat16, float16, TF32) need it, and
    otherwise every convolution would convert its input.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def _bounds(backbone: Backbone, freeze_until: str | None, fork_at: str | None) -> tuple[int, int]:
    """The number of frozen stages, and the position of the first stage of the branches."""
    names = backbone.stage_names
    whole = (ALL, "backbone") if backbone.former_names else (ALL,)
    frozen_end = len(names) if freeze_until in whole else 0
    if freeze_until not in (None, *whole):
        frozen_end = 1 + _position("freeze_until", freeze_until, names, backbone)
    if fork_at is None:
        return frozen_end, len(names)
    shared_end = 1 + _position("fork_at", fork_at, names[:-1], backbone)
    if shared_end < frozen_end:
        raise UserError(
            f"fork_at {fork_at!r} comes before freeze_until {freeze_until!r}: a frozen stage cannot be forked"
        )
    return frozen_end, shared_end


def _position(setting: str, stage: str | None, allowed: tuple[str, ...], backbone: Backbone) -> int:
    if stage not in allowed:
        choice = f"one of {', '.join(allowed)}, or None" if allowed else "only None, as it is one stage"
        raise UserError(f"{setting} {stage!r} is not possible for {backbone.name}: allowed is {choice}")
    return allowed.index(stage)


def _check_pooled(pooled: tuple[str, ...], backbone: Backbone, frozen_end: int, fork_at: str | None) -> tuple[str, ...]:
    names = backbone.stage_names
    for stage in pooled:
        position = _position("pooled", stage, names[:-1], backbone)
        if fork_at is not None:
            raise UserError(f"pooled {stage!r} needs a network that does not fork; set fork_at to null")
        if position < frozen_end < len(names):
            raise UserError(
                f"pooled {stage!r} is in the frozen part, of which only the last output is available: pool stages "
                f"after {names[frozen_end - 1]!r}, or freeze the whole network"
            )
    return pooled


def build_head(features: int, outputs: int, std: float | None, hidden: int = 0) -> nn.Module:
    """Build a linear head, with a hidden layer of this width if it is not 0, whose last weights start at N(0, std)."""
    last = nn.Linear(hidden or features, outputs)
    if std is not None:
        nn.init.normal_(last.weight, std=std)
        nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), last) if hidden else last


def decode(image: ImageLike | Tensor, size: int) -> np.ndarray:
    """Decode an image to the network's input, uint8 `[3, S, S]`; a decoded image is returned unchanged.

    Raises:
        UserError: the image cannot be decoded, or is of a type that is none.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    if not isinstance(image, ImageLike):
        raise UserError(
            "an image is a path, the bytes of a file, a Pillow image, or a uint8 array or tensor, not "
            f"{type(image).__name__}"
        )
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == (3, size, size):
        return image
    return decode_image(image, size)


def pixel_batches(
    images: Sequence[ImageLike | Tensor], size: int, batch_size: int, device: torch.device | str
) -> Iterator[Tensor]:
    """Yield batches `[B, 3, S, S]` in [0, 1]; threads decode the next one meanwhile.

    Raises:
        UserError: an image cannot be decoded, one image is given instead of several, or the batch size is none.
    """
    if isinstance(images, str | Path | bytes | Image.Image) or getattr(images, "ndim", 4) < 4:
        raise UserError(f"images are a list of images: give [image] instead of one {type(images).__name__}")
    if not hasattr(images, "__len__"):
        raise UserError(f"images are a list of images, not {type(images).__name__}")
    batch_size = check_count("batch_size", batch_size)
    decoded = map_in_threads(lambda image: decode(image, size), images)
    while batch := list(islice(decoded, batch_size)):
        yield torch.from_numpy(np.stack(batch)).to(device).float().div_(255)


def default_batch_size(device: torch.device) -> int:
    """Images per pass: 128, but 16 on a CPU, where large outputs of layers cost new memory and several times more."""
    return 16 if device.type == "cpu" else 128
