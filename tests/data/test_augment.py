"""Augmentation of a batch is that of each image by itself, and depends only on the generator."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from tripletcl.data.augment import DRAWS, Augment
from tripletcl.errors import UserError

SETTINGS = [
    Augment(),
    Augment(flip=True, crop=None, jitter=0),
    Augment(flip=False, crop=(0.1, 0.6), jitter=0),
    Augment(flip=False, crop=None, jitter=0.9),
    Augment(flip=True, crop=(0.3, 1.0), jitter=1.0),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=generator(99))


def sample(image: Tensor, x: float, y: float) -> list[float]:
    """The colour at a place in pixels, (0, 0) the middle of the first pixel, between the four pixels around it."""
    _, height, width = image.shape
    x, y = min(max(x, 0), width - 1), min(max(y, 0), height - 1)
    left, top = math.floor(x), math.floor(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    across, down = x - left, y - top
    return [
        (1 - down) * ((1 - across) * float(channel[top, left]) + across * float(channel[top, right]))
        + down * ((1 - across) * float(channel[bottom, left]) + across * float(channel[bottom, right]))
        for channel in image
    ]


def slow_crop(image: Tensor, numbers: list[float], scale: tuple[float, float]) -> Tensor:
    _, height, width = image.shape
    area = scale[0] + (scale[1] - scale[0]) * numbers[0]
    aspect = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * numbers[1])
    wide, high = min(1, math.sqrt(area * aspect)), min(1, math.sqrt(area / aspect))
    left, top = numbers[2] * (1 - wide), numbers[3] * (1 - high)
    result = torch.empty_like(image)
    for row in range(height):
        for column in range(width):
            x = (left + wide * (column + 0.5) / width) * width - 0.5
            y = (top + high * (row + 0.5) / height) * height - 0.5
            result[:, row, column] = torch.tensor(sample(image, x, y))
    return result


def slow_augment(augment: Augment, image: Tensor, numbers: list[float]) -> Tensor:
    """One image, pixel by pixel, its colours by torchvision's own functions."""
    if augment.crop is not None:
        image = slow_crop(image, numbers, augment.crop)
    if augment.flip and numbers[4] < 0.5:
        image = vision.horizontal_flip(image)
    factors = [1 + augment.jitter * (2 * number - 1) for number in numbers[5:]]
    image = vision.adjust_brightness(image, factors[0])
    image = vision.adjust_contrast(image, factors[1])
    return vision.adjust_saturation(image, factors[2])


@pytest.mark.parametrize("augment", SETTINGS)
def test_batch_is_each_image_by_itself(augment: Augment) -> None:
    images = pictures(6, 3, 9, 12)
    numbers = torch.rand(6, DRAWS, generator=generator(3))
    expected = torch.stack([slow_augment(augment, *pair) for pair in zip(images, numbers.tolist(), strict=True)])
    torch.testing.assert_close(augment.apply(images, numbers), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("augment", SETTINGS)
def test_only_the_generator_decides(augment: Augment) -> None:
    images = pictures(8, 3, 16, 16)
    before = torch.get_rng_state()
    first = augment(images, generator(1))
    torch.manual_seed(5)
    assert torch.equal(augment(images, generator(1)), first)
    assert not torch.equal(augment(images, generator(2)), first)
    torch.set_rng_state(before)
    augment(images, generator(1))
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is not touched


def test_every_setting_draws_the_same_amount() -> None:
    """Later random numbers of a run do not depend on the augmentation's settings."""
    states = []
    for augment in SETTINGS:
        source = generator()
        augment(pictures(4, 3, 8, 8), source)
        states.append(source.get_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_images_differ_from_each_other_and_stay_images() -> None:
    images = pictures(1, 3, 16, 16).expand(32, -1, -1, -1)
    augmented = Augment(jitter=1.0)(images, generator())
    assert len({tuple(image.flatten().tolist()) for image in augmented}) == 32
    assert augmented.shape == images.shape
    assert augmented.dtype == torch.float32
    assert augmented.min() >= 0
    assert augmented.max() <= 1


def test_the_input_is_unchanged() -> None:
    images = pictures(4, 3, 8, 8)
    was = images.clone()
    Augment()(images, generator())
    assert torch.equal(images, was)


def test_half_are_flipped() -> None:
    images = torch.zeros(1000, 3, 2, 2)
    images[..., 0] = 1
    flipped = Augment(flip=True, crop=None, jitter=0)(images, generator())[:, 0, 0, 0] == 0
    assert 430 < int(flipped.sum()) < 570


def test_crops_cover_the_wanted_share() -> None:
    """On an image whose colour is its place, a crop's range of colours is its size: mean area 0.55 of 0.3 to 0.8."""
    place = torch.arange(64) / 64
    image = torch.stack([place.expand(64, 64), place[:, None].expand(64, 64), torch.zeros(64, 64)])
    crops = Augment(flip=False, crop=(0.3, 0.8), jitter=0)(image.expand(400, -1, -1, -1), generator())
    wide = (crops[:, 0, 0, -1] - crops[:, 0, 0, 0]) * 64 / 63
    high = (crops[:, 1, -1, 0] - crops[:, 1, 0, 0]) * 64 / 63
    assert float((wide * high).mean()) == pytest.approx(0.55, abs=0.03)
    assert float((wide * high).min()) > 0.27
    assert float((wide / high).log().mean()) == pytest.approx(0, abs=0.03)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_gives_the_same() -> None:
    images = pictures(8, 3, 16, 16)
    expected = Augment()(images, generator())
    torch.testing.assert_close(Augment()(images.cuda(), generator()).cpu(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("settings", "culprit"),
    [
        ({"crop": (0.0, 1.0)}, "crop"),
        ({"crop": (0.9, 0.5)}, "crop"),
        ({"crop": (0.5, 1.5)}, "crop"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": 2}, "jitter"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, culprit: str) -> None:
    with pytest.raises(UserError, match=rf"augment\.{culprit} must be"):
        Augment(**settings)
