"""Batches of images on the device: from the cache, or from pixels that lie there."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tripletcl.data.augment import Augment
from tripletcl.data.cache import ImageCache
from tripletcl.errors import UserError


class Source(Protocol):
    """What gives batches of N images."""

    device: torch.device

    @property
    def fingerprint(self) -> str:
        """Depends on what `batch` gives without augmentation, and on nothing else."""

    def __len__(self) -> int: ...

    def batch(self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The images of these ids, float32 in [0, 1] on the device, augmented where a generator is given."""


class ImageSource:
    """Gives batches of a cache's images, augmented or plain, as float tensors on a device.

    Args:
        cache: The decoded images.
        augment: What is done to training batches; None: nothing.
        device: Where the batches are wanted.
    """

    def __init__(self, cache: ImageCache, augment: Augment | None, device: torch.device | str) -> None:
        self.cache = cache
        self.augment = augment
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.cache)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(3, H, W) of one image."""
        return 3, self.cache.size, self.cache.size

    @property
    def fingerprint(self) -> str:
        """The cache's: of the images' content, their order and size."""
        return self.cache.fingerprint

    def batch(self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The images of these ids, `[B, 3, H, W]` float32 in [0, 1] on the device.

        Args:
            ids: `[B]` image ids.
            generator: Draws the augmentation; None: plain images, as evaluation wants them.
        """
        images = to_device(torch.from_numpy(self.cache[ids]), self.device).float().div_(255)  # bytes travel, not floats
        if self.augment is None or generator is None:
            return images
        return self.augment(images, generator)


class ArraySource:
    """Gives batches of pixels that lie on the device as bytes: no file, no copy from elsewhere.

    Args:
        pixels: uint8 `[N, C, H, W]`, grey (C = 1) or RGB (C = 3). They are not changed; on the CPU they are not copied.
        size: The side of the square images wanted; other images are scaled, antialiased.
        channels: 1 or 3: grey images are repeated as colours, colours become grey as `rgb_to_grayscale` of torchvision.
        augment: What is done to training batches; None: nothing.
        device: Where the pixels are kept and the batches wanted.

    Raises:
        UserError: The pixels are not uint8 `[N, 1 or 3, H, W]`, or channels is neither 1 nor 3.
    """

    def __init__(
        self, pixels: np.ndarray, size: int, channels: int, augment: Augment | None, device: torch.device | str
    ) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
            raise UserError(f"pixels are {pixels.dtype} {list(pixels.shape)}, allowed is uint8 [N, 1 or 3, H, W]")
        if channels not in (1, 3):
            raise UserError(f"images have 1 or 3 channels, not {channels}")
        self.device = torch.device(device)
        self.pixels = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(self.device)
        self.size, self.channels, self.augment = size, channels, augment

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        return self.channels, self.size, self.size

    @cached_property
    def fingerprint(self) -> str:
        """Of the pixels, their order and shape, and the size and channels wanted."""
        digest = hashlib.blake2b(f"{list(self.pixels.shape)} {self.shape} ".encode(), digest_size=16)
        digest.update(self.pixels.cpu().numpy().data)
        return digest.hexdigest()

    def batch(self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The images of these ids, `[B, channels, size, size]` float32 in [0, 1] on the device.

        Args:
            ids: `[B]` image ids.
            generator: Draws the augmentation; None: plain images, as evaluation wants them.
        """
        chosen = to_device(torch.from_numpy(np.asarray(ids, dtype=np.int64)), self.device)
        images = self.pixels.index_select(0, chosen).div(255)  # division makes floats of bytes in one go
        if images.shape[2:] != (self.size, self.size):
            images = functional.interpolate(
                images, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        images = _with_channels(images, self.channels)
        if self.augment is None or generator is None:
            return images
        return self.augment(images, generator)


class PermutedSource:
    """Gives the images of another source with their pixels in another fixed order, the same for every image.

    The order is a function of the seed (and the number of pixels) alone; the channels of a pixel move together. With
    the seed None or 0 the images are as they were.
    """

    def __init__(self, source: Source, seed: int | None) -> None:
        self.source, self.seed, self.device = source, seed, source.device
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.source)

    @property
    def fingerprint(self) -> str:
        """The source's, and the order's."""
        if not self.seed:
            return self.source.fingerprint
        return hashlib.blake2b(f"{self.source.fingerprint} in order {self.seed}".encode(), digest_size=16).hexdigest()

    def batch(self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The source's batch `[B, C, H, W]`, after its augmentation, each image's pixels in the new order."""
        images = self.source.batch(ids, generator)
        if not self.seed:
            return images
        pixels = images.flatten(2)  # [B, C, H * W]
        order = self._order(pixels.shape[2])
        return pixels.gather(2, order.expand(pixels.shape)).view(images.shape)  # many times quicker than index_select

    def _order(self, pixels: int) -> Tensor:
        """`[H * W]`, which pixel of the image each pixel is taken from."""
        if pixels not in self._orders:
            order = np.random.default_rng(self.seed).permutation(pixels)
            self._orders[pixels] = torch.from_numpy(order).to(self.device)
        return self._orders[pixels]


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The values on a device: to a GPU from pinned memory, without waiting for them to arrive."""
    return (values.pin_memory() if device.type == "cuda" else values).to(device, non_blocking=True)


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.repeat(1, 3, 1, 1)
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    return rgb_to_grayscale(images)
