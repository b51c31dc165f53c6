"""Batches of images on the device, from the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.augment import Augment
from tripletcl.data.cache import ImageCache


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

    def batch(self, ids: np.ndarray | Sequence[int], generator: torch.Generator | None = None) -> Tensor:
        """The images of these ids, `[B, 3, H, W]` float32 in [0, 1] on the device.

        Args:
            ids: `[B]` image ids.
            generator: Draws the augmentation; None: plain images, as evaluation wants them.
        """
        pixels = torch.from_numpy(self.cache[ids])
        if self.device.type == "cuda":
            pixels = pixels.pin_memory()
        images = pixels.to(self.device, non_blocking=True).float().div_(255)  # bytes travel, a quarter of the floats
        if self.augment is None or generator is None:
            return images
        return self.augment(images, generator)
