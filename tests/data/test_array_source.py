"""Batches of pixels that are stored on the device, and pixels in another order."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as vision

from tripletcl.data import ArraySource, Augment, ImageCache, ImageSource, PermutedSource
from tripletcl.embedding.backbones import build_backbone
from tripletcl.embedding.features import FeatureSource
from tripletcl.embedding.image import ImageBranch
from tripletcl.errors import UserError

IDS = np.array([4, 0, 4, 2])


def pixels(channels: int = 1, side: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (5, channels, side, side), dtype=np.uint8)


def source(channels: int = 1, size: int = 6, wanted: int = 1, augment: Augment | None = None) -> ArraySource:
    return ArraySource(pixels(channels), size, wanted, augment, "cpu")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def slow_image(image: np.ndarray, size: int, channels: int) -> torch.Tensor:
    """One image by itself: floats, scaled by torchvision, its channels one by one."""
    floats = vision.resize(torch.tensor(image / 255, dtype=torch.float32), [size, size], antialias=True)
    if channels == 3 and len(image) == 1:
        return torch.stack([floats[0], floats[0], floats[0]])
    if channels == 1 and len(image) == 3:
        return (0.2989 * floats[0] + 0.587 * floats[1] + 0.114 * floats[2])[None]
    return floats


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("wanted", [1, 3])
@pytest.mark.parametrize("size", [6, 4, 11])
def test_batch_is_each_image_by_itself(channels: int, wanted: int, size: int) -> None:
    images_of = source(channels, size, wanted)
    batch = images_of.batch(IDS)
    expected = torch.stack([slow_image(pixels(channels)[i], size, wanted) for i in IDS])
    assert batch.dtype == torch.float32
    assert images_of.shape == batch.shape[1:] == (wanted, size, size)
    assert len(images_of) == 5
    torch.testing.assert_close(batch, expected, atol=1e-6, rtol=0)
    assert torch.equal(images_of.batch([4, 0, 4, 2]), batch)


def test_oblong_images_become_square() -> None:
    oblong = np.random.default_rng(0).integers(0, 256, (2, 3, 6, 9), dtype=np.uint8)
    batch = ArraySource(oblong, 6, 3, None, "cpu").batch([1])
    expected = vision.resize(torch.from_numpy(oblong[1:] / np.float32(255)), [6, 6], antialias=True)
    torch.testing.assert_close(batch, expected)


@pytest.mark.parametrize("wanted", [1, 3])
def test_augmented_where_a_generator_is_given(wanted: int) -> None:
    augment = Augment(jitter=0.8)
    images_of = source(1, 8, wanted, augment)
    plain = images_of.batch(IDS, None)
    assert torch.equal(plain, source(1, 8, wanted).batch(IDS, generator()))
    augmented = images_of.batch(IDS, generator())
    assert torch.equal(augmented, augment(plain, generator()))
    assert not torch.equal(augmented, plain)
    assert torch.equal(images_of.batch(IDS, None), plain)  # the pixels are as they were


def test_grey_images_are_augmented_as_their_colours_would_be() -> None:
    augment = Augment(jitter=0.8)
    grey, colours = (source(1, 8, wanted, augment).batch(IDS, generator()) for wanted in (1, 3))
    torch.testing.assert_close(grey.expand(-1, 3, -1, -1), colours, atol=1e-3, rtol=0)


def test_pixels_are_neither_copied_nor_changed() -> None:
    array = pixels()
    images_of = ArraySource(array, 6, 1, None, "cpu")
    assert images_of.pixels.data_ptr() == array.ctypes.data
    images_of.batch(IDS).zero_()
    assert np.array_equal(array, pixels())
    array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(ArraySource(array, 6, 1, None, "cpu").batch(IDS), images_of.batch(IDS))


@pytest.mark.parametrize("bad", [pixels()[:, 0], pixels().astype(np.float32), pixels(2)])
def test_other_pixels_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"pixels are \w+ \[.*\], allowed is uint8 \[N, 1 or 3, H, W\]"):
        ArraySource(bad, 6, 1, None, "cpu")


def test_other_channels_are_refused() -> None:
    with pytest.raises(UserError, match="images have 1 or 3 channels, not 4"):
        ArraySource(pixels(), 6, 4, None, "cpu")


@pytest.mark.parametrize("seed", [1, 7])
def test_every_pixel_moves_to_one_place(seed: int) -> None:
    """On images whose colour is its place, the new images say which pixel each was: each once, the same in all."""
    place = np.arange(36, dtype=np.uint8).reshape(1, 1, 6, 6)
    images = np.concatenate([np.concatenate([place, place + 100, place + 200], axis=1)] * 5)
    plain = ArraySource(images, 6, 3, None, "cpu")
    batch = (PermutedSource(plain, seed).batch(np.arange(5)) * 255).round().int()
    order = batch[0, 0].flatten()
    assert sorted(order.tolist()) == list(range(36))
    assert order.tolist() != list(range(36))
    for image in batch:
        for channel in range(3):
            assert torch.equal(image[channel].flatten(), order + 100 * channel)
    assert order.tolist() == np.random.default_rng(seed).permutation(36).tolist()


def test_permutations_differ_by_seed_and_by_nothing_else() -> None:
    other = ArraySource(pixels(seed=1), 6, 1, Augment(), "cpu")
    first, second = (PermutedSource(source(), seed).batch(IDS) for seed in (1, 2))
    assert not torch.equal(first, second)
    moved = PermutedSource(other, 1)
    order = np.random.default_rng(1).permutation(36)
    for make in (None, generator):  # plain as for testing, and augmented as for training: the same order
        expected = other.batch(IDS, make and make()).flatten(2)[:, :, order]
        assert torch.equal(moved.batch(IDS, make and make()).flatten(2), expected)
    assert (len(moved), moved.device) == (5, torch.device("cpu"))


@pytest.mark.parametrize("seed", [None, 0])
def test_no_seed_is_no_permutation(seed: int | None) -> None:
    plain = source()
    assert torch.equal(PermutedSource(plain, seed).batch(IDS), plain.batch(IDS))
    assert PermutedSource(plain, seed).fingerprint == plain.fingerprint


def test_fingerprints_change_with_what_is_given() -> None:
    changed = pixels()
    changed[2, 0, 3, 3] ^= 1
    sources = [
        source(),
        source(size=7),
        source(wanted=3),
        ArraySource(changed, 6, 1, None, "cpu"),
        ArraySource(pixels()[::-1], 6, 1, None, "cpu"),
        ArraySource(pixels().reshape(5, 1, 4, 9), 6, 1, None, "cpu"),
        PermutedSource(source(), 1),
        PermutedSource(source(), 2),
        PermutedSource(source(size=7), 1),
    ]
    assert len({each.fingerprint for each in sources}) == len(sources)
    assert source(augment=Augment()).fingerprint == source().fingerprint
    assert PermutedSource(source(), 2).fingerprint == PermutedSource(source(), 2).fingerprint


def test_fingerprint_of_files_is_the_caches(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, image in zip(paths, pixels(3), strict=False):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    cache = ImageCache.open(paths, 6, tmp_path / "cache")
    images_of = ImageSource(cache, Augment(), "cpu")
    assert images_of.fingerprint == cache.fingerprint
    assert np.array_equal((images_of.batch([0, 1]) * 255).round().numpy(), pixels(3)[:2])
    assert torch.equal(images_of.batch([0, 1]), ArraySource(pixels(3), 6, 3, None, "cpu").batch([0, 1]))


def test_features_are_kept_for_each_source(tmp_path: Path) -> None:
    torch.manual_seed(0)
    branch = ImageBranch(build_backbone("timm/resnet10t", "none"), 4, freeze_until="layer1").eval()
    plain = ArraySource(pixels(3), 32, 3, None, "cpu")
    moved = PermutedSource(plain, 1)
    kept = [FeatureSource.open(each, branch, tmp_path) for each in (plain, moved)]
    assert len(list(tmp_path.glob("features-*"))) == 2
    for each, features in zip((plain, moved), kept, strict=True):
        expected = branch.features(each.batch(IDS))
        torch.testing.assert_close(features.batch(IDS, None), expected, rtol=1e-2, atol=1e-2)
    assert FeatureSource.stored(plain, branch, tmp_path) is not None
    assert FeatureSource.stored(source(), branch, tmp_path) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_pixels_on_the_device() -> None:
    for size in (6, 9):
        on_device = PermutedSource(ArraySource(pixels(), size, 3, Augment(), "cuda"), 5)
        assert on_device.batch(IDS, generator()).is_cuda
        here = PermutedSource(ArraySource(pixels(), size, 3, Augment(), "cpu"), 5)
        torch.testing.assert_close(on_device.batch(IDS, generator()).cpu(), here.batch(IDS, generator()))
        assert on_device.fingerprint == here.fingerprint
