"""Images as a network takes them: decoded by threads while it works."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.images import ImageLike, decode_image, in_threads


def decode(image: ImageLike, size: int) -> np.ndarray:
    """An image as a network sees it, uint8 `[3, S, S]`; what this returned before is passed on as it is.

    Raises:
        UserError: the image cannot be decoded.
    """
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == (3, size, size):
        return image
    return decode_image(image, size)


def pixel_batches(
    images: Sequence[ImageLike], size: int, batch_size: int, device: torch.device | str
) -> Iterator[Tensor]:
    """Batches `[B, 3, S, S]` in [0, 1]; threads decode the next one meanwhile.

    Raises:
        UserError: an image cannot be decoded.
    """
    decoded = in_threads(lambda image: decode(image, size), images)
    while batch := list(islice(decoded, batch_size)):
        yield torch.from_numpy(np.stack(batch)).to(device).float().div_(255)


def usual_batch(device: torch.device) -> int:
    """Images of one pass: 128, but 16 on the CPU, which is several times slower where a layer's output outgrows what
    the allocator keeps."""
    return 16 if device.type == "cpu" else 128
