"""Several frozen networks side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tripletcl.config import FactConfig, dump_config, parse_config
from tripletcl.config.load import change_config
from tripletcl.data import ImageCache, ImageSource
from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, FactEmbedder, build_embedder
from tripletcl.embedding.features import FeatureSource
from tripletcl.embedding.networks import trunk_settings
from tripletcl.embedding.trunk import Trunk
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening

FIRST, SECOND = "timm/test_efficientnet", "timm/test_resnet"
SPEC = EmbedderSpec(
    backbone=(FIRST, SECOND),
    weights="none",
    freeze_until="all",
    pooled=("blocks2", "layer2"),
    image_size=48,
    network_sizes=(48, 64),
)


def trunk_of(spec: EmbedderSpec) -> Trunk:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Trunk(**trunk_settings(spec)).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(3, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def test_features_are_those_of_each_network_at_its_own_size(images: Tensor) -> None:
    trunk = trunk_of(SPEC)
    first, second = trunk.networks
    larger = torch.nn.functional.interpolate(images, (64, 64), mode="bicubic", antialias=True).clamp(0, 1)
    second.size = None
    expected = torch.cat([first.features(images), second.features(larger)], dim=1)
    second.size = 64
    assert torch.equal(trunk.represent(trunk.features(images)), expected)
    assert trunk.part_widths() == [*first.part_widths(), *second.part_widths()]
    assert len(trunk.part_widths()) == 4
    assert sum(trunk.part_widths()) == expected.shape[1] == trunk.feature_width
    assert not any(parameter.requires_grad for parameter in trunk.parameters())


def test_one_network_frozen_whole_needs_no_name_of_a_stage(images: Tensor) -> None:
    whole = replace(SPEC, backbone=SECOND, network_sizes=(), pooled=("layer2",))
    named = replace(whole, freeze_until="layer4")
    assert torch.equal(trunk_of(whole).features(images), trunk_of(named).features(images))


def test_features_are_cached_for_each_network(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 255, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    source = ImageSource(ImageCache.open(paths, 48, tmp_path / "images"), None, "cpu")
    trunk = trunk_of(SPEC)

    def computed(part: Trunk) -> int:
        heard: list[Progress] = []
        with listening(heard.append):
            FeatureSource.open(source, part, tmp_path / "features")
        return len(heard)

    assert FeatureSource.stored(source, trunk, tmp_path / "features") is None
    assert computed(trunk.networks[1]) == 1
    assert FeatureSource.stored(source, trunk, tmp_path / "features") is None
    assert computed(trunk) == 1  # only those of the first network
    assert computed(trunk) == computed(trunk.networks[0]) == 0
    trunk.networks[1].size = 56
    assert computed(trunk) == 1
    trunk.networks[1].size = 64
    cached = FeatureSource.open(source, trunk, tmp_path / "features")
    ids = np.array([2, 0])
    features = trunk.features(source.batch(ids, None))
    torch.testing.assert_close(cached.batch(ids, None), features, rtol=1e-3, atol=1e-2)
    mirrored = cached.batch(np.zeros(32, np.int64), torch.Generator().manual_seed(0))
    assert len(torch.unique(mirrored, dim=0)) == 2  # image or mirror image, the same one of both networks


def test_a_saved_embedder_reads_the_same(tmp_path: Path, images: Tensor) -> None:
    embedder = build_embedder(SPEC, seed=0).eval()
    embedder.install_analytic(16, 0, "both")
    facts = [Fact("dog", "running"), Fact("cat")]
    embedder.set_readout(torch.randn(16, 2, generator=torch.Generator().manual_seed(0)), facts)
    embedder.save_pretrained(tmp_path)
    loaded = FactEmbedder.from_pretrained(tmp_path)
    assert loaded.spec == embedder.spec
    assert torch.equal(loaded.image(images), embedder.image(images))
    assert loaded.trunk_fingerprint() == embedder.trunk_fingerprint()
    other = build_embedder(replace(SPEC, network_sizes=(48, 56)), seed=0)
    assert other.trunk_fingerprint() != embedder.trunk_fingerprint()


def test_a_config_names_several_networks() -> None:
    changes = ["model.backbone=[tf_efficientnet_lite0, tf_efficientnet_lite2]", "model.network_sizes=[224, 260]"]
    config = change_config(FactConfig(), changes)
    assert config.model.backbone == ("tf_efficientnet_lite0", "tf_efficientnet_lite2")
    import yaml

    assert parse_config(yaml.safe_load(dump_config(config)), "a run") == config
    with pytest.raises(UserError, match=r"model\.backbone"):
        change_config(FactConfig(), ["model.backbone=3"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"freeze_until": "head"}, r"names 2 networks in a list, .*set model\.freeze_until to all"),
        ({"backbone": ()}, "names 0 networks"),
        ({"network_sizes": (48,)}, r"network_sizes has 1 sizes for 2 networks"),
        ({"backbone": FIRST}, r"network_sizes is for a list of networks"),
        ({"pooled": ("layer7",)}, rf"pooled 'layer7' is a stage of none of {FIRST}, {SECOND}"),
        ({"fork_at": "layer2"}, r"fork_at 'layer2' is not possible for .* \+ .*only None"),
        ({"backbone": (FIRST, "timm/resnt18")}, r"no image network 'timm/resnt18'"),
    ],
)
def test_settings_that_do_not_meet_are_one_sentence(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_embedder(replace(SPEC, **changes), seed=0)
    assert "\n" not in str(caught.value)
