"""Networks by name, split into stages that together are the network."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NoReturn

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save, save_file
from torch import Tensor, nn

from tripletcl.embedding import build_backbone
from tripletcl.embedding.backbones import check_torch_pair, resolve_name
from tripletcl.embedding.cuts import CUTS
from tripletcl.embedding.trunk import Trunk
from tripletcl.embedding.weights import efficientnet_lite_weights
from tripletcl.errors import UserError

CONVS = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
RESNET = ["stem", "layer1", "layer2", "layer3", "layer4"]
EFFICIENTNET = ["stem", *(f"blocks{i}" for i in range(7)), "head"]
STAGED = ["stem", "stage1", "stage2", "stage3", "stage4"]
STAGES = {
    "torchvision/alexnet": CONVS,
    "torchvision/resnet18": RESNET,
    "timm/resnet18": RESNET,
    "timm/tf_efficientnet_lite0": EFFICIENTNET,
    "torchvision/squeezenet1_1": ["backbone"],
    "torchvision/shufflenet_v2_x0_5": ["backbone"],
    "timm/mobilenetv3_small_050": ["backbone"],
}


def original(name: str) -> nn.Module:
    library, _, model = name.partition("/")
    return torchvision.models.get_model(model, weights=None) if library == "torchvision" else timm.create_model(model)


@torch.no_grad()
def classifier_input(network: nn.Module, images: Tensor) -> Tensor:
    """The input of the network's last linear layer."""
    seen: list[Tensor] = []
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    handle = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(images)
    handle.remove()
    return seen[0]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", STAGES)
def test_stages_compose_to_the_networks_own_features(name: str, images: Tensor, tmp_path: Path) -> None:
    network = original(name).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    backbone = build_backbone(name, str(tmp_path / "weights.safetensors"))
    assert list(backbone.stage_names) == STAGES[name]
    with torch.no_grad():
        features = backbone.stages.eval()(images)
    assert features.shape == (2, backbone.width)
    squeezenet = "squeezenet" in name  # it has no linear layer
    expected = network.features(images).mean(dim=(2, 3)) if squeezenet else classifier_input(network, images)
    assert expected.std() > 0
    assert (features - expected).abs().max() < 1e-4 * expected.std()


BLOCKS = ["stem", *(f"block{number}" for number in range(1, 13)), "head"]
TIMM_CUTS = {
    "vit_tiny_patch16_224": ({"embed_dim": 12, "num_heads": 2, "img_size": 32}, BLOCKS),
    "vit_base_patch16_siglip_224": ({"embed_dim": 12, "num_heads": 2, "img_size": 32}, BLOCKS),
    "vit_base_patch16_reg4_gap_256": ({"embed_dim": 12, "num_heads": 2, "img_size": 32}, BLOCKS),
    "convnext_atto": ({"dims": (8, 8, 8, 16), "depths": (1, 1, 2, 1)}, [*STAGED, "head"]),
    "swin_tiny_patch4_window7_224": (
        {"embed_dim": 8, "num_heads": (1, 1, 2, 2), "depths": (1, 1, 2, 1), "img_size": 64, "window_size": 2},
        [*STAGED, "head"],
    ),
}


@pytest.mark.parametrize("name", TIMM_CUTS)
def test_transformers_and_convnext_of_timm_compose_too(name: str) -> None:
    settings, names = TIMM_CUTS[name]
    network = timm.create_model(name, num_classes=0, **settings).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    images = torch.rand(2, 3, 64, 64)[..., : settings.get("img_size", 64), : settings.get("img_size", 64)]
    with torch.no_grad():
        expected = network(images)
        stages, width = CUTS[f"{type(network).__module__}.{type(network).__qualname__}"](network)
        features = nn.Sequential(*stages.values())(images)
    assert list(stages) == names
    assert features.shape == (2, width)
    assert (features - expected).abs().max() < 1e-5 * expected.std()


def test_a_network_that_was_saved_as_one_stage_is_loaded(tmp_path: Path) -> None:
    network = timm.create_model("test_vit", num_classes=0)
    (tmp_path / "weights.safetensors").write_bytes(save(network.state_dict()))
    backbone = build_backbone("timm/test_vit", str(tmp_path / "weights.safetensors"))
    former = {f"backbone.{name}": tensor for name, tensor in network.state_dict().items()}
    for freeze_until, part in ((None, "shared"), ("all", "frozen"), ("backbone", "frozen")):
        trunk = Trunk(build_backbone("timm/test_vit", "none"), freeze_until=freeze_until)
        saved = {"mean": trunk.mean, "std": trunk.std} | {f"{part}.{name}": x for name, x in former.items()}
        trunk.load_state_dict(saved)
        expected = Trunk(backbone, freeze_until=freeze_until).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in trunk.state_dict().items())


def test_vgg_stages_compose_too(images: Tensor) -> None:
    """Split directly, since half a gigabyte of VGG weights takes longer to write and read than all other tests."""
    network = torchvision.models.vgg11_bn(init_weights=False).eval()
    expected = classifier_input(network, images)
    stages, width = CUTS["torchvision.models.vgg.VGG"](network)
    assert list(stages) == CONVS
    with torch.no_grad():
        features = nn.Sequential(*stages.values())(images)
    assert features.shape == (2, width) == (2, 4096)
    assert (features - expected).abs().max() < 1e-4 * expected.std()


def test_vgg_stages_end_in_their_poolings() -> None:
    """The paper freezes conv1 and conv2 of this network and forks it after pool3."""
    with torch.device("meta"):
        backbone = build_backbone("vgg16", "none")
        shapes = []
        x = torch.empty(1, 3, 224, 224)
        for stage in backbone.stages:
            x = stage(x)
            shapes.append(tuple(x.shape[1:]))
    assert backbone.name == "torchvision/vgg16"
    assert list(backbone.stage_names) == CONVS
    assert shapes == [(64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7), (4096,), (4096,)]
    assert [isinstance(stage[-1], nn.MaxPool2d) for stage in list(backbone.stages)[:5]] == [True] * 5


def test_bundled_weights_are_loaded() -> None:
    backbone = build_backbone("tf_efficientnet_lite0")
    state = efficientnet_lite_weights(0)
    assert torch.equal(backbone.stages.stem.conv_stem.weight, state["conv_stem.weight"])
    assert torch.equal(backbone.stages.blocks5[3].bn3.running_var, state["blocks.5.3.bn3.running_var"])
    assert torch.equal(backbone.stages.head.conv_head.weight, state["conv_head.weight"])
    assert (backbone.mean, backbone.std, backbone.width) == ((0.5,) * 3, (0.5,) * 3, 1280)


def test_activations_are_out_of_place() -> None:
    backbone = build_backbone("timm/resnet18", "none")
    assert not any(getattr(module, "inplace", False) for module in backbone.stages.modules())


def test_a_file_trained_for_other_classes_fits(tmp_path: Path) -> None:
    state = timm.create_model("resnet18", num_classes=7).state_dict()
    torch.save(state, tmp_path / "seven.pth")
    backbone = build_backbone("timm/resnet18", str(tmp_path / "seven.pth"))
    assert torch.equal(backbone.stages.layer3[0].conv1.weight, state["layer3.0.conv1.weight"])


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    state = timm.create_model("resnet18").state_dict()
    wrong = {
        "conv1.weight": {**state, "conv1.weight": torch.zeros(1)},
        "layer1.0.conv1.weight": {name: t for name, t in state.items() if name != "layer1.0.conv1.weight"},
        "layer9.weight": {**state, "layer9.weight": torch.zeros(1)},
    }
    for culprit, tensors in wrong.items():
        save_file(tensors, tmp_path / "wrong.safetensors")
        with pytest.raises(UserError, match=rf"wrong\.safetensors do not fit.*{culprit}"):
            build_backbone("timm/resnet18", str(tmp_path / "wrong.safetensors"))


def test_bare_names_prefer_what_is_bundled_then_torchvision() -> None:
    assert resolve_name("tf_efficientnet_lite0") == ("timm", "tf_efficientnet_lite0")
    assert resolve_name("resnet18") == ("torchvision", "resnet18")
    assert resolve_name("timm/resnet18") == ("timm", "resnet18")
    assert resolve_name("resnet18d") == ("timm", "resnet18d")
    assert resolve_name("resnet50.a1_in1k") == ("timm", "resnet50.a1_in1k")


@pytest.mark.parametrize("name", ["resnt18", "keras/resnet18", "timm/resnt18"])
def test_unknown_names_get_close_matches(name: str) -> None:
    with pytest.raises(UserError, match=rf"{name}.*did you mean.*resnet18"):
        resolve_name(name)


def test_missing_weights_are_named() -> None:
    with pytest.raises(
        UserError, match=r"timm/resnet18 are installed with tripletcl, only those of timm/tf_efficientnet_lite0"
    ):
        build_backbone("timm/resnet18", "bundled")
    with pytest.raises(UserError, match="no weights file downlaod"):
        build_backbone("timm/resnet18", "downlaod")


def test_the_installed_torch_and_torchvision_work_together() -> None:
    check_torch_pair()


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), ImportError("libc10.so")])
def test_mismatched_builds_are_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> NoReturn:
        assert name == "torchvision"
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(UserError) as caught:
        check_torch_pair()
    message = str(caught.value)
    assert str(error) in message
    assert f"torch {torch.__version__.partition('+')[0]}" in message
    assert "pip install" in message
    assert "\n" not in message
    with pytest.raises(UserError, match="do not work together"):
        build_backbone("timm/resnet18", "none")
