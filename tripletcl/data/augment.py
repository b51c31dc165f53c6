"""Random flips, crops and colours for each image of a batch, in a few operations on the batch's device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tripletcl.errors import UserError

DRAWS = 8
"""Random numbers for each image: area, aspect, left, top, flip, brightness, contrast, saturation."""

ASPECTS = (3 / 4, 4 / 3)
"""The range of a crop's width over its height, as in torchvision's RandomResizedCrop."""


@dataclass(frozen=True)
class Augment:
    """Settings of the augmentation, and the augmentation itself: `augment(images, generator)`.

    Raises:
        UserError: A setting is out of its range.
    """

    flip: bool = True
    """Mirror each image, left to right, with probability 0.5."""
    crop: tuple[float, float] | None = (0.5, 1.0)
    """The smallest and largest share of the image's area that is cut out and scaled back up; None does not crop."""
    jitter: float = 0.2
    """Brightness, contrast and saturation are each scaled by a factor from 1 - jitter to 1 + jitter."""

    def __post_init__(self) -> None:
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise UserError(f"augment.crop must be (least, greatest) with 0 < least <= greatest <= 1, not {self.crop}")
        if not 0 <= self.jitter <= 1:
            raise UserError(f"augment.jitter must be from 0 to 1, not {self.jitter}")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch; the random numbers depend only on the generator's state, not on the images' device.

        Args:
            images: `[B, C, H, W]` float in [0, 1], C = 3, or C = 1 for grey (no saturation to change).
            generator: Gives `B * DRAWS` numbers on its own device, whatever the settings.

        Returns:
            `[B, C, H, W]` float in [0, 1].
        """
        return self.apply(images, self.draw(len(images), generator))

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the uniform numbers `[count, DRAWS]` of a batch, on the generator's device."""
        return torch.rand(count, DRAWS, generator=generator, device=generator.device)

    def apply(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Augment by given uniform numbers `[B, DRAWS]` in [0, 1)."""
        if not len(images):
            return images
        numbers = numbers.to(images.device, non_blocking=True)
        area, aspect, left, top, flip, *factors = numbers.to(images.dtype).unbind(1)  # each [B]
        if self.crop is not None:
            images = resized_crop(images, crop_boxes(area, aspect, left, top, self.crop))
        if self.flip:
            images = torch.where(_per_image(flip < 0.5), images.flip(3), images)
        if self.jitter:
            images = colour_jitter(images, *(1 + self.jitter * (2 * factor - 1) for factor in factors))
        return images


def crop_boxes(area: Tensor, aspect: Tensor, left: Tensor, top: Tensor, scale: tuple[float, float]) -> Tensor:
    """Compute boxes `[B, 4]` (left, top, width, height), as shares of the image's sides, from uniform numbers `[B]`.

    The area is uniform in `scale`, the aspect log-uniform in `ASPECTS`, the place uniform; sides are at most as long as
    the image's.
    """
    areas = scale[0] + (scale[1] - scale[0]) * area
    low, high = map(math.log, ASPECTS)
    aspects = torch.exp(low + (high - low) * aspect)
    width = (areas * aspects).sqrt().clamp(max=1)
    height = (areas / aspects).sqrt().clamp(max=1)
    return torch.stack([left * (1 - width), top * (1 - height), width, height], dim=1)


def resized_crop(images: Tensor, boxes: Tensor) -> Tensor:
    """Cut `boxes[i]` (`crop_boxes`) out of `images[i]`, and scale it bilinearly to the image's size: `[B, C, H, W]`."""
    left, top, width, height = boxes.unbind(1)
    zero = torch.zeros_like(left)
    across = torch.stack([width, zero, 2 * left + width - 1], dim=1)
    down = torch.stack([zero, height, 2 * top + height - 1], dim=1)
    theta = torch.stack([across, down], dim=1)  # [B, 2, 3], maps the crop's [-1, 1] to the image's
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)  # [B, H, W, 2]
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def colour_jitter(images: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, contrast about the image's mean grey, and saturation about each pixel's grey, by `[B]` each."""
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    images = (images * _per_image(brightness)).clamp(0, 1)
    grey = rgb_to_grayscale(images).mean(dim=(1, 2, 3))  # [B]
    images = _blend(images, _per_image(grey), contrast)
    return _blend(images, rgb_to_grayscale(images), saturation)


def _blend(images: Tensor, grey: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(grey.expand_as(images), images, _per_image(factor)).clamp(0, 1)


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)  # [B] -> [B, 1, 1, 1]
