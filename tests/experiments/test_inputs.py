"""Images as a config asks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tripletcl.config import parse_config
from tripletcl.embedding import ImageBranch, build_backbone
from tripletcl.errors import UserError
from tripletcl.experiments.facts import build_facts
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


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("learns", ["facts", "objects"])
@pytest.mark.parametrize("kept", ["always", "never"])
def test_pixels_are_cached_as_the_setting_says(tmp_path: Path, kept: str, learns: str) -> None:
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    config = parse_config({"learns": learns, "data": {"pixel_cache": kept}, "model": {"image_size": 48}}, "test")
    branch = ImageBranch(build_backbone("timm/test_efficientnet", "none"), 4).eval()
    source = Opener(config, branch, torch.device("cpu")).open([tmp_path / "a.png"], cache_folder())
    assert source.batch(np.zeros(1, int), None).shape == (1, 3, 48, 48)
    assert bool(list(cache_folder().glob("images-*"))) == (kept == "always")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"backbone": "timm/resnt18"}, "there is no image network 'timm/resnt18'"),
        ({"backbone": "hf/nobody/nothing"}, "there is no checkpoint 'nobody/nothing'"),
        ({"text": "nobody/nothing"}, "there is no text encoder 'nobody/nothing'"),
        ({"pair": "nobody/nothing"}, "there is no checkpoint 'nobody/nothing'"),
    ],
)
def test_encoders_that_do_not_exist_are_refused_before_the_table_is_read(setting: dict, message: str) -> None:
    config = parse_config({"data": {"table": "missing.csv"}, "model": setting}, "test")
    with pytest.raises(UserError, match=message):
        build_facts(config)
