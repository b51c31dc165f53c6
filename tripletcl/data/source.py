"""Batches of images on a device, from the image cache or from pixels in memory."""

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
from tripletcl.data.image_files import ImageFiles
from tripletcl.errors import UserError

ALL = slice(None)
"""Every row of a batch."""


class Source(Protocol):
    """N images, read in batches."""

    device: torch.device

    @property
    def fingerprint(self) -> str:
        """A hash of all that `batch` returns without augmentation."""

    def __len__(self) -> int: ...

    def batch(
        self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None, mine: slice = ALL
    ) -> Tensor:
        """The images of these ids, float32 in [0, 1] on the device.

        Args:
            ids: `[B]` image ids.
            generator: The source of randomness of the augmentation; None returns plain images, for evaluation.
            mine: The rows of the batch that are wanted; they are augmented as in the whole batch.
        """


class ImageSource:
    """Batches of a cache's images as float tensors on a device.

    Args:
        cache: The decoded images, or their files.
        augment: The augmentation of training batches; None for none.
        device: The device of the batches.
    """

    def __init__(self, cache: ImageCache | ImageFiles, augment: Augment | None, device: torch.device | str) -> None:
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
        """The cache's fingerprint: a hash of the images' content, their order and size."""
        return self.cache.fingerprint

    def batch(
        self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None, mine: slice = ALL
    ) -> Tensor:
        """The images of these ids, `[B, 3, H, W]` float32 in [0, 1] on the device."""
        # Bytes are transferred to the device, a quarter of the floats.
        images = to_device(torch.from_numpy(self.cache[ids[mine]]), self.device).float().div_(255)
        if self.augment is None or generator is None:
            return images
        return self.augment.apply(images, self.augment.draw(len(ids), generator)[mine])


class ArraySource:
    """Batches of pixels that are stored on the device as bytes.

    Args:
        pixels: uint8 `[N, C, H, W]`, grey (C = 1) or RGB (C = 3). They are not changed, and on the CPU not copied.
        size: The side of the square images; images of another size are scaled, antialiased.
        channels: 1 or 3: grey is repeated in all three, colours become grey as by torchvision's `rgb_to_grayscale`.
        augment: The augmentation of training batches; None for none.
        device: The device of the pixels and the batches.

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
        """A hash of the pixels, their order and shape, and of size and channels."""
        digest = hashlib.blake2b(f"{list(self.pixels.shape)} {self.shape} ".encode(), digest_size=16)
        digest.update(self.pixels.cpu().numpy().data)
        return digest.hexdigest()

    def batch(
        self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None, mine: slice = ALL
    ) -> Tensor:
        """The images of these ids, `[B, channels, size, size]` float32 in [0, 1] on the device."""
        rows = to_device(torch.from_numpy(np.asarray(ids[mine], dtype=np.int64)), self.device)
        images = self.pixels.index_select(0, rows).div(255)  # [B, C, H, W]; the division also converts to floats
        if images.shape[2:] != (self.size, self.size):
            images = functional.interpolate(
                images, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
            )
        images = _with_channels(images, self.channels)
        if self.augment is None or generator is None:
            return images
        return self.augment.apply(images, self.augment.draw(len(ids), generator)[mine])


class PermutedSource:
    """The images of another source with their pixels in a random order, the same for every image.

    The order depends only on the seed and the number of pixels; the channels of a pixel stay together. With the seed
    None or 0 the images are unchanged.
    """

    def __init__(self, source: Source, seed: int | None) -> None:
        self.source, self.seed, self.device = source, seed, source.device
        self._orders: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.source)

    @property
    def fingerprint(self) -> str:
        """A hash of the source's fingerprint and the seed."""
        if not self.seed:
            return self.source.fingerprint
        return hashlib.blake2b(f"{self.source.fingerprint} in order {self.seed}".encode(), digest_size=16).hexdigest()

    def batch(
        self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None, mine: slice = ALL
    ) -> Tensor:
        """The source's batch `[B, C, H, W]`, after its augmentation, each image's pixels in the new order."""
        images = self.source.batch(ids, generator, mine)
        if not self.seed:
            return images
        pixels = images.flatten(2)  # [B, C, H * W]
        order = self._order(pixels.shape[2])
        return pixels.gather(2, order.expand(pixels.shape)).view(images.shape)  # much faster than index_select

    def _order(self, pixels: int) -> Tensor:
        """`[H * W]`, the index of the source's pixel at each place."""
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
