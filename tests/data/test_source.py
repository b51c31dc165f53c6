"""Batches from the cache."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tripletcl.data
from tripletcl.data import Augment, ImageCache, ImageSource, augment, source


@pytest.fixture
def cache(tmp_path: Path) -> ImageCache:
    paths = []
    for i in range(6):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(paths[-1])
    return ImageCache.open(paths, 8, tmp_path / "cache")


def test_plain_batches(cache: ImageCache) -> None:
    images_of = ImageSource(cache, Augment(), "cpu")
    assert len(images_of) == 6
    assert images_of.shape == (3, 8, 8)
    images = images_of.batch(np.array([4, 0, 4]), None)
    assert images.dtype == torch.float32
    assert np.array_equal(images.numpy(), cache[[4, 0, 4]].astype(np.float32) / 255)


def test_augmented_batches(cache: ImageCache) -> None:
    ids = np.arange(6)
    settings = Augment()
    plain = ImageSource(cache, None, "cpu").batch(ids, torch.Generator().manual_seed(0))
    assert torch.equal(plain, ImageSource(cache, settings, "cpu").batch(ids, None))
    augmented = ImageSource(cache, settings, "cpu").batch(ids, torch.Generator().manual_seed(0))
    assert torch.equal(augmented, settings(plain, torch.Generator().manual_seed(0)))
    assert not torch.equal(augmented, plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_on_the_device(cache: ImageCache) -> None:
    images = ImageSource(cache, None, "cuda").batch(np.arange(6), None)
    assert images.is_cuda
    assert torch.equal(images.cpu(), ImageSource(cache, None, "cpu").batch(np.arange(6), None))


def test_tables_and_scenes_do_without_torch() -> None:
    """Torch takes seconds to import; `tripletcl data check` needs none of it."""
    code = (
        "import sys; from tripletcl.data import ImageCache, check_table, read_table, split_facts; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_that_need_torch_are_imported_on_first_use() -> None:
    assert tripletcl.data.Augment is augment.Augment
    assert tripletcl.data.ImageSource is source.ImageSource
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = tripletcl.data.Nothing
