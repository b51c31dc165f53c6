"""Slow and obviously right twins of the embedding package."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

LITE_HALVING = {0: (1, 3, 5, 11), 1: (1, 4, 7, 15), 2: (1, 4, 7, 15)}
"""The blocks with stride 2 of EfficientNet-Lite0, Lite1 and Lite2; all else is read off the weights' shapes."""


def efficientnet_lite_logits(number: int, state: dict[str, Tensor], images: Tensor) -> Tensor:
    """EfficientNet-Lite straight from the flat names of its weights file; images in [-1, 1]."""

    def convolve(x: Tensor, name: str, stride: int = 1, depthwise: bool = False) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel, size = weight.shape[-1], x.shape[-1]
        padding = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)  # TensorFlow's "same"
        before, after = padding // 2, padding - padding // 2
        return F.conv2d(
            F.pad(x, (before, after, before, after)), weight, stride=stride, groups=x.shape[1] if depthwise else 1
        )

    def norm(x: Tensor, name: str) -> Tensor:
        mean, var, weight, bias = (
            state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-3) * weight + bias

    def relu6(x: Tensor) -> Tensor:
        return x.clamp(0, 6)

    x = relu6(norm(convolve(images, "_conv_stem", 2), "_bn0"))
    for i in range(1 + max(int(name.split(".")[1]) for name in state if name.startswith("_blocks."))):
        block, entry, stride = f"_blocks.{i}", x, 2 if i in LITE_HALVING[number] else 1
        if f"{block}._expand_conv.weight" in state:
            x = relu6(norm(convolve(x, f"{block}._expand_conv"), f"{block}._bn0"))
        x = relu6(norm(convolve(x, f"{block}._depthwise_conv", stride, depthwise=True), f"{block}._bn1"))
        x = norm(convolve(x, f"{block}._project_conv"), f"{block}._bn2")
        if x.shape == entry.shape:
            x = x + entry
    x = relu6(norm(convolve(x, "_conv_head"), "_bn1"))
    return x.mean(dim=(2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]


def squared_distance(x: list[float], y: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=True))


def distance(x: list[float], y: list[float]) -> float:
    return math.sqrt(squared_distance(x, y))


def cosine_distance(x: list[float], y: list[float]) -> float:
    inner = sum(a * b for a, b in zip(x, y, strict=True))
    return 1 - inner / math.hypot(*x) / math.hypot(*y)


def wildcard(
    outputs: Tensor, targets: Tensor, present: Tensor, between: Callable[[list[float], list[float]], float]
) -> float:
    """One distance at a time."""
    total = 0.0
    for b in range(outputs.shape[0]):
        for u in range(outputs.shape[1]):
            if present[b, u]:
                total += between(outputs[b, u].tolist(), targets[b, u].tolist())
    return total / outputs.shape[0]


def contrastive(
    outputs: Tensor,
    target_ids: Tensor,
    vectors: Sequence[Tensor],
    temperature: float,
    exclude: Sequence[Tensor] | None = None,
) -> float:
    """One softmax at a time, over a list of the candidates that count."""
    outputs = outputs.detach()
    total = 0.0
    for b in range(outputs.shape[0]):
        for u in range(outputs.shape[1]):
            target = int(target_ids[b, u])
            if target < 0:
                continue
            terms = {}
            for v in range(len(vectors[u])):
                if v == target or exclude is None or not exclude[u][b, v]:
                    x, y = outputs[b, u].double(), vectors[u][v].double()
                    terms[v] = float(x @ y / (x.norm() * y.norm())) / temperature
            total += math.log(sum(math.exp(term) for term in terms.values())) - terms[target]
    return total / outputs.shape[0]
