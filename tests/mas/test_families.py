"""Importance of small models of many families, with random weights, against autograd on one sample at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

from tripletcl.mas import importance
from tripletcl.mas.samples import Samples

SMALL = {"depth": 2, "embed_dim": 48, "num_heads": 4}
STAGES: dict[str, Any] = {"depths": (2, 1), "embed_dim": 24, "num_heads": (2, 4)}
TIMM: dict[str, tuple[int, dict[str, Any]]] = {
    "beit_base_patch16_224": (64, {"img_size": 64, **SMALL}),
    "cait_xxs24_224": (64, {"img_size": 64, **SMALL}),
    "convit_tiny": (64, {"img_size": 64, "depth": 2}),
    "cs3darknet_focus_s": (64, {}),
    "deit3_small_patch16_224": (64, {"img_size": 64, **SMALL}),
    "efficientvit_b0": (64, {}),
    "eva02_tiny_patch14_224": (56, {"img_size": 56, "depth": 2}),
    "fasternet_t0": (64, {}),
    "ghostnet_050": (64, {}),
    "mobilenetv3_small_050": (64, {}),
    "mobilevit_xxs": (64, {}),
    "naflexvit_base_patch16_gap": (64, SMALL),
    "regnetx_002": (64, {}),
    "repghostnet_050": (64, {}),
    "resnetv2_18": (64, {}),
    "samvit_base_patch16": (64, {"img_size": 64, **SMALL}),
    "swin_tiny_patch4_window7_224": (56, {"img_size": 56, **STAGES}),
    "swinv2_tiny_window8_256": (64, {"img_size": 64, **STAGES}),
    "test_byobnet": (64, {}),
    "test_convnext": (64, {}),
    "test_efficientnet_evos": (64, {}),
    "test_mambaout": (64, {}),
    "test_maxvit": (160, {}),
    "test_nfnet": (64, {}),
    "test_resnet": (64, {}),
    "test_vit3": (160, {}),
    "test_vit_relpos": (160, {}),
}
TORCHVISION: dict[str, tuple[int, Callable[[], nn.Module]]] = {
    "alexnet": (64, lambda: nn.Sequential(torchvision.models.alexnet().features, nn.Flatten())),
    "mobilenet_v2": (32, lambda: torchvision.models.mobilenet_v2(num_classes=3, width_mult=0.25)),
    "shufflenet_v2": (32, lambda: torchvision.models.shufflenet_v2_x0_5(num_classes=3)),
    "squeezenet": (64, lambda: torchvision.models.squeezenet1_1(num_classes=3)),
    "vision_transformer": (
        16,
        lambda: torchvision.models.VisionTransformer(
            image_size=16, patch_size=8, num_layers=2, num_heads=2, hidden_dim=12, mlp_dim=16, num_classes=3
        ),
    ),
}
HIDDEN: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
IMAGES = {**HIDDEN, "image_size": 16, "patch_size": 8}
SWIN = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [1, 2], "window_size": 4}
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "Bert": {**HIDDEN, "vocab_size": 50},
    "CLIPText": {**HIDDEN, "vocab_size": 50, "eos_token_id": 49, "bos_token_id": 48, "pad_token_id": 0},
    "CLIPVision": IMAGES,
    "ConvNext": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]},
    "Dinov2": IMAGES,
    "DistilBert": {"vocab_size": 50, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32},
    "GPT2": {"vocab_size": 50, "n_embd": 16, "n_layer": 2, "n_head": 2, "bos_token_id": 0, "eos_token_id": 1},
    "Llama": {**HIDDEN, "vocab_size": 50, "num_key_value_heads": 2},
    "SiglipVision": IMAGES,
    "Swin": SWIN,
    "ViT": IMAGES,
}


def randomise(model: nn.Module) -> nn.Module:
    """Move the parameters away from their initial values, which are often zero."""
    for p in model.parameters():
        p.data += 0.02 * torch.randn_like(p)
    return model.double().eval()


def check(model: nn.Module, inputs: Samples, forward: Callable[[Any], Tensor] | None = None) -> None:
    """Compare with one sample at a time; other batches give the same, and the model is as it was."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = importance(model, [inputs], forward=forward, engine="loop")
    largest = max(float(value.max()) for value in expected.values())
    split = [inputs[:2], inputs[2:]] if isinstance(inputs, Tensor) else [inputs]
    for batches in ([inputs], split):
        ours = importance(model, batches, forward=forward)
        assert ours.keys() == expected.keys()
        for name, value in expected.items():
            room = 1e-5 * float(value.max()) + 1e-12 * largest
            assert float((ours[name] - value).abs().max()) <= room, name
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMM)
def test_a_model_of_timm(name: str) -> None:
    torch.manual_seed(0)
    size, options = TIMM[name]
    check(randomise(timm.create_model(name, num_classes=3, **options)), torch.randn(3, 3, size, size).double())


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_model_of_torchvision(name: str) -> None:
    torch.manual_seed(0)
    size, build = TORCHVISION[name]
    check(randomise(build()), torch.randn(3, 3, size, size).double())


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_model_of_transformers(name: str) -> None:
    torch.manual_seed(0)
    model = randomise(
        getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**TRANSFORMERS[name]))
    )
    if "vocab_size" in TRANSFORMERS[name]:
        mask = torch.tensor([[1] * 5, [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]])
        inputs: dict[str, Tensor] = {"input_ids": torch.randint(2, 48, (3, 5)), "attention_mask": mask}
    else:
        size = 32 if name == "ConvNext" else 16
        inputs = {"pixel_values": torch.randn(3, 3, size, size).double()}
    check(model, inputs, lambda batch: model(**batch).last_hidden_state)
