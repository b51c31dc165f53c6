"""Images as a config asks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tripletcl.config import parse_config
from tripletcl.embedding import ImageBranch, build_backbone
from tripletcl.experiments.inputs import Opener, cache_folder


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("flip", [True, False])
def test_cached_features_are_mirrored_only_where_images_would_be(tmp_path: Path, flip: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    data = {"cache_features": True, "augmentation": {"flip": flip}}
    config = parse_config({"data": data, "model": {"freeze_until": "head", "image_size": 48}}, "test")
    branch = ImageBranch(build_backbone("timm/test_efficientnet", "none"), 4, freeze_until="head").eval()
    source = Opener(config, branch, torch.device("cpu")).open([tmp_path / "a.png"], cache_folder())
    ids = np.zeros(32, np.int64)
    features = source.batch(ids, torch.Generator().manual_seed(0))
    assert len(torch.unique(features, dim=0)) == 1 + flip
