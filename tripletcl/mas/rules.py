"""One rule a layer type: what a batch adds to sum_n f(d s_n / d theta) for the layer's weight and bias.

A rule is a plain function `rule(layer, input, grad_output, f) -> {"weight": ..., "bias": ...}`. `input` and
`grad_output` have the batch on axis 0, row n of `grad_output` is the gradient of sample n's own scalar, and `f` is the
absolute value or the square, applied to every sample's gradient BEFORE the sum over samples.
`rules_of_types` holds them by exact type, because a subclass may compute something else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

Statistic = Callable[[Tensor], Tensor]
Rule = Callable[[Any, Tensor, Tensor, Statistic], dict[str, Tensor]]

# What is worked on at a time, so that per-sample gradients are summed while they are still in the cache. One sample is
# the least, so the bound is the larger of this and one layer's ordinary gradient.
CHUNK_BYTES = 4 * 2**20


def linear(layer: nn.Linear, input: Tensor, grad_output: Tensor, f: Statistic) -> dict[str, Tensor]:
    """y = W x + b on [B, in] or [B, ..., in]: dW_n = sum_l g_nl x_nl^T, db_n = sum_l g_nl."""
    x = input.reshape(len(input), -1, layer.in_features).transpose(1, 2)  # [B, I, L]
    g = grad_output.reshape(len(input), -1, layer.out_features).transpose(1, 2)  # [B, O, L]
    return {"weight": _outer_products(x, g, f), "bias": f(g.sum(2)).sum(0)}


def convolution(layer: Any, input: Tensor, grad_output: Tensor, f: Statistic) -> dict[str, Tensor]:
    """Conv1d, Conv2d and Conv3d with any stride, padding, dilation and groups."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        pads = layer._reversed_padding_repeated_twice  # what the layer's own forward passes to F.pad
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        weight = _convolution_weight(layer, input, grad_output, f, pad=lambda x: F.pad(x, pads, mode=mode))
    elif layer.groups == 1 and {*layer.kernel_size, *layer.stride} == {1} and set(layer.padding) == {0}:
        weight = _outer_products(_flat_space(input), _flat_space(grad_output), f).reshape(layer.weight.shape)
    else:
        weight = _convolution_weight(layer, input, grad_output, f, padding=layer.padding)
    return {"weight": weight, "bias": f(_flat_space(grad_output).sum(2)).sum(0)}


def convolution_same(layer: Any, input: Tensor, grad_output: Tensor, f: Statistic) -> dict[str, Tensor]:
    """timm's Conv2dSame, which pads by the size of its input."""
    from timm.layers import pad_same

    def pad(x: Tensor) -> Tensor:
        return pad_same(x, layer.kernel_size, layer.stride, layer.dilation)

    weight = _convolution_weight(layer, input, grad_output, f, pad=pad)
    return {"weight": weight, "bias": f(_flat_space(grad_output).sum(2)).sum(0)}


def batch_norm(layer: Any, input: Tensor, grad_output: Tensor, f: Statistic) -> dict[str, Tensor]:
    """Batch normalisation in eval mode, where the running statistics are constants."""
    mean = layer.running_mean.to(input.dtype)[:, None]
    scale = torch.rsqrt(layer.running_var.to(input.dtype) + layer.eps)
    x, g = _flat_space(input), _flat_space(grad_output)  # [B, C, L]

    def weight_gradient(x: Tensor, g: Tensor) -> Tensor:
        return ((x - mean) * g).sum(2) * scale

    return {"weight": _in_chunks(weight_gradient, x, g, f, _fitting(x[0])), "bias": f(g.sum(2)).sum(0)}


def group_norm(layer: nn.GroupNorm, input: Tensor, grad_output: Tensor, f: Statistic) -> dict[str, Tensor]:
    """Group normalisation on [B, C, ...]."""
    x, g = _flat_space(input), _flat_space(grad_output)  # [B, C, L]

    def weight_gradient(x: Tensor, g: Tensor) -> Tensor:
        return (F.group_norm(x, layer.num_groups, eps=layer.eps) * g).sum(2)

    return {"weight": _in_chunks(weight_gradient, x, g, f, _fitting(x[0])), "bias": f(g.sum(2)).sum(0)}


def layer_norm(layer: nn.LayerNorm, input: Tensor, grad_output: Tensor, f: Statistic) -> dict[str, Tensor]:
    """Layer normalisation over the last axes of [B, ..., *normalized_shape]."""
    shape = layer.normalized_shape
    x = input.reshape(len(input), -1, *shape)  # [B, L, *shape]
    g = grad_output.reshape(len(input), -1, *shape)

    def weight_gradient(x: Tensor, g: Tensor) -> Tensor:
        return (F.layer_norm(x, shape, eps=layer.eps) * g).sum(1)

    return {"weight": _in_chunks(weight_gradient, x, g, f, _fitting(x[0])), "bias": f(g.sum(1)).sum(0)}


def layer_norm_2d(layer: nn.LayerNorm, input: Tensor, grad_output: Tensor, f: Statistic) -> dict[str, Tensor]:
    """timm's LayerNorm2d: layer normalisation over the channels of [B, C, H, W]."""
    return layer_norm(layer, input.permute(0, 2, 3, 1), grad_output.permute(0, 2, 3, 1), f)


def _convolution_weight(
    layer: Any,
    input: Tensor,
    grad_output: Tensor,
    f: Statistic,
    *,
    pad: Callable[[Tensor], Tensor] = lambda x: x,
    padding: tuple[int, ...] | int = 0,
) -> Tensor:
    """Of a convolution whose input is first given to `pad` and then padded by `padding` zeros."""
    weight = layer.weight
    weight_gradient = {3: conv1d_weight, 4: conv2d_weight, 5: conv3d_weight}[weight.ndim]

    def per_sample(x: Tensor, g: Tensor) -> Tensor:
        # Samples become groups of one convolution: group n sees sample n alone.
        n, x = len(x), pad(x)
        x, g = x.reshape(1, -1, *x.shape[2:]), g.reshape(1, -1, *g.shape[2:])  # [1, n * C, ...]
        shape = (n * weight.shape[0], *weight.shape[1:])
        folded = weight_gradient(x, shape, g, layer.stride, padding, layer.dilation, n * layer.groups)
        return folded.reshape(n, *weight.shape)

    # Folding pays where a group is small, as in a depthwise layer; a dense layer is fastest one sample a call.
    size = _fitting(input[0], weight) if layer.groups > 1 else 1
    return _in_chunks(per_sample, input, grad_output, f, size)


def _outer_products(x: Tensor, g: Tensor, f: Statistic) -> Tensor:
    """sum_n f(sum_l g_nl x_nl^T) [O, I] for x [B, I, L] and g [B, O, L]."""
    if x.shape[2] == 1:  # f is multiplicative: f(g x^T) = f(g) f(x)^T, and the sum over samples is one product
        return f(g[:, :, 0]).T @ f(x[:, :, 0])
    size = max(1, CHUNK_BYTES // (x.shape[1] * g.shape[1] * x.element_size()))
    return _in_chunks(lambda x, g: torch.bmm(g, x.transpose(1, 2)), x, g, f, size)


def _in_chunks(
    per_sample: Callable[[Tensor, Tensor], Tensor], input: Tensor, grad_output: Tensor, f: Statistic, size: int
) -> Tensor:
    """sum_n f(per_sample(input, grad_output)[n]), `size` samples at a time."""
    chunks = zip(input.split(size), grad_output.split(size), strict=True)
    x, g = next(chunks)
    total = f(per_sample(x, g)).sum(0)
    for x, g in chunks:
        total += f(per_sample(x, g)).sum(0)
    return total


def _fitting(*per_sample: Tensor) -> int:
    """How many samples to work on at a time, if each needs tensors of these sizes."""
    return max(1, CHUNK_BYTES // sum(t.numel() * t.element_size() for t in per_sample))


def _flat_space(x: Tensor) -> Tensor:
    """[B, C, ...] -> [B, C, L], also for [B, C]."""
    return x.reshape(*x.shape[:2], -1)


@cache
def rules_of_types() -> dict[type[nn.Module], Rule]:
    """The rules by layer type; timm takes two seconds to import, for which whoever measures nothing should not wait."""
    from timm import layers

    return {
        nn.Linear: linear,
        nn.Conv1d: convolution,
        nn.Conv2d: convolution,
        nn.Conv3d: convolution,
        layers.Conv2dSame: convolution_same,
        nn.BatchNorm1d: batch_norm,
        nn.BatchNorm2d: batch_norm,
        nn.BatchNorm3d: batch_norm,
        layers.BatchNormAct2d: batch_norm,
        nn.GroupNorm: group_norm,
        layers.GroupNorm: group_norm,
        layers.GroupNorm1: group_norm,
        layers.GroupNormAct: group_norm,
        nn.LayerNorm: layer_norm,
        layers.LayerNorm: layer_norm,
        layers.LayerNorm2d: layer_norm_2d,
    }


@cache
def output_enters() -> dict[type[nn.Module], str]:
    """These go on inside their forward after the affine map: the map's output is what enters the named submodule."""
    from timm import layers

    return {layers.BatchNormAct2d: "drop", layers.GroupNormAct: "drop"}
