"""With bfloat16 on the CPU only those convolutions that it makes slower stay in float32."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.continual import Batch, Method, Task, Training
from tripletcl.continual.device import compute_on
from tripletcl.continual.loop import train_step
from tripletcl.continual.optimization import build_optimizer
from tripletcl.continual.precision import mixed
from tripletcl.embedding.classifier import build_classifier
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.embedding.spec import ClassifierSpec


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


CASES = {
    "strided": (nn.Conv2d(6, 6, 3, stride=2, groups=6), True),
    "strided, by tuple": (nn.Conv2d(6, 12, 3, stride=(1, 2), padding=1, groups=6), True),
    "large": (nn.Conv2d(6, 6, 5, padding=2, groups=6, bias=False), True),
    "3 x 3": (nn.Conv2d(6, 6, 3, groups=6), False),
    "groups": (nn.Conv2d(6, 6, 5, stride=2, groups=3), False),
    "dense": (nn.Conv2d(6, 8, 5, stride=2), False),
    "grey": (nn.Conv2d(1, 8, 5, stride=2), False),
}


@pytest.mark.parametrize("name", CASES)
def test_which_convolutions_stay_in_float32(name: str) -> None:
    """Result and gradients are those of float32 up to the rounding of inputs and outputs."""
    layer, in_float32 = CASES[name]
    inputs = [random(2, layer.in_channels, 9, 9).bfloat16() for _ in range(3)]
    passes = []
    for x, precision in zip(inputs, ("float32", "plain autocast", "ours"), strict=True):
        x.requires_grad_(True)
        if precision == "float32":
            out = layer(x.float()).bfloat16()
        elif precision == "ours":
            with mixed(compute_on("cpu", "bf16")):
                out = layer(x)
        else:
            with torch.autocast("cpu", torch.bfloat16):
                out = layer(x)
        assert out.dtype == torch.bfloat16
        passes.append([out, *torch.autograd.grad(out.square().sum(), [x, *layer.parameters()])])
    twin = passes[0] if in_float32 else passes[1]
    assert all(torch.equal(a, b) for a, b in zip(passes[2], twin, strict=True))
    assert in_float32 == any(not torch.equal(a, b) for a, b in zip(passes[2], passes[1], strict=True))


def test_float32_and_other_functions_are_unchanged() -> None:
    layer, _ = CASES["strided"]
    x = random(2, 6, 9, 9)
    with mixed(compute_on("cpu")):
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, 2, groups=6))
    with mixed(compute_on("cpu", "bf16")):
        assert F.conv2d(input=x, weight=layer.weight, groups=6).dtype == torch.bfloat16
        assert (x @ x.mT).dtype == torch.bfloat16
        assert (x + x).dtype == torch.float32
        with torch.autocast("cpu", enabled=False):
            assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, 2, groups=6))
    assert layer(x).dtype == torch.float32


def losses(precision: str, steps: int) -> list[float]:
    compute, task = compute_on("cpu", precision), Task("t", np.arange(8), np.arange(8) % 4, np.arange(4))
    spec = ClassifierSpec("timm/test_efficientnet", "none", image_size=32)
    learner = ObjectLearner(build_classifier(spec, {"one": list("abcd")}, seed=0))
    learner.begin_task(task)
    learner.train()
    training = Training(lr=0.02, batch_size=8)
    optimizer = build_optimizer(learner, training)
    batch = Batch(random(8, 3, 32, 32).sigmoid(), torch.from_numpy(task.targets), task.items)
    return [train_step(learner, batch, Method(), optimizer, compute, 0.02, training).item() for _ in range(steps)]


def test_a_network_learns_as_in_float32(tmp_path: Path) -> None:
    half, whole = losses("bf16", 12), losses("float32", 12)
    assert half != whole
    assert half == pytest.approx(whole, rel=0.05)
    assert all(later < earlier for earlier, later in pairwise(whole[::4]))
