"""One rule per layer type: what a batch adds to sum_n f(d s_n / d theta) for the layer's weight and bias.

A rule is a plain function `rule(layer, input, grad_output, f, total)`. `input` and `grad_output` have the batch on
axis 0 and the type of the sums; row n of `grad_output` is the gradient of sample n's own scalar, and `f` is the
absolute value or the square, applied to every sample's gradient BEFORE the sum over samples. The rule adds, in place,
to `total["weight"]` and `total["bias"]`, as far as they exist.
`RULES` holds them by exact type, because a subclass may compute something else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tripletcl.mas.convolutions import Pad, add_convolution
from tripletcl.mas.products import Statistic, add_in_chunks, add_products, in_chunks, samples_at_once

Total = dict[str, Tensor]
Rule = Callable[[Any, Tensor, Tensor, Statistic, Total], None]


def linear(layer: nn.Linear, input: Tensor, grad_output: Tensor, f: Statistic, total: Total) -> None:
    """y = W x + b on [B, in] or [B, ..., in]: dW_n = sum_l g_nl x_nl^T, db_n = sum_l g_nl."""
    x = input.reshape(len(input), -1, layer.in_features).transpose(1, 2)  # [B, I, L]
    g = grad_output.reshape(len(input), -1, layer.out_features).transpose(1, 2)  # [B, O, L]
    if "weight" in total:
        add_products(total["weight"], g, x, f)
    _add_bias(total, g, f)


def convolution(layer: Any, input: Tensor, grad_output: Tensor, f: Statistic, total: Total) -> None:
    """Conv1d, Conv2d and Conv3d with any stride, padding, dilation and groups."""
    pads = _pads(layer)
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    pad = partial(F.pad, pad=pads, mode=mode) if any(pads) else _no_pad
    _convolution(layer, input, grad_output, f, total, pad)


def convolution_same(layer: Any, input: Tensor, grad_output: Tensor, f: Statistic, total: Total) -> None:
    """timm's Conv2dSame, whose padding depends on the size of its input."""
    from timm.layers import pad_same

    pad = partial(pad_same, kernel_size=layer.kernel_size, stride=layer.stride, dilation=layer.dilation)
    _convolution(layer, input, grad_output, f, total, pad)


def batch_norm(layer: Any, input: Tensor, grad_output: Tensor, f: Statistic, total: Total) -> None:
    """Batch normalisation in eval mode, where the running statistics are constants."""
    mean, variance = (t.to(input.dtype) for t in (layer.running_mean, layer.running_var))  # [C]

    def add(chunk: slice) -> None:
        x, g = input[chunk], grad_output[chunk]
        _add_scale_and_shift(total, x, g, mean.expand(len(x), -1), variance.expand(len(x), -1), layer.eps, f)

    in_chunks(add, len(input), _samples_at_once(input))


def group_norm(layer: nn.GroupNorm, input: Tensor, grad_output: Tensor, f: Statistic, total: Total) -> None:
    """Group normalisation on [B, C, ...]: the statistics of a channel are those of its group in the same sample."""
    channels = layer.num_channels // layer.num_groups

    def add(chunk: slice) -> None:
        x, g = input[chunk], grad_output[chunk]
        variance, mean = torch.var_mean(x.reshape(len(x), layer.num_groups, -1), 2, correction=0)  # [n, groups]
        mean, variance = (t.repeat_interleave(channels, 1) for t in (mean, variance))  # [n, C]
        _add_scale_and_shift(total, x, g, mean, variance, layer.eps, f)

    in_chunks(add, len(input), _samples_at_once(input))


def layer_norm(layer: nn.LayerNorm, input: Tensor, grad_output: Tensor, f: Statistic, total: Total) -> None:
    """Layer normalisation over the last axes of [B, ..., *normalized_shape]."""
    shape = layer.normalized_shape
    x = input.reshape(len(input), -1, *shape)  # [B, L, *shape]
    g = grad_output.reshape(len(input), -1, *shape)

    def weight_gradient(x: Tensor, g: Tensor) -> Tensor:
        return F.layer_norm(x, shape, eps=layer.eps).mul_(g).sum(1)  # [n, *shape]

    if "weight" in total:
        add_in_chunks(total["weight"], x, g, f, weight_gradient, _samples_at_once(x))
    if "bias" in total:
        total["bias"].add_(f(g.sum(1)).sum(0))


def layer_norm_2d(layer: nn.LayerNorm, input: Tensor, grad_output: Tensor, f: Statistic, total: Total) -> None:
    """timm's LayerNorm2d: layer normalisation over the channels of [B, C, H, W]."""
    layer_norm(layer, input.permute(0, 2, 3, 1), grad_output.permute(0, 2, 3, 1), f, total)


def embedding(layer: nn.Embedding, input: Tensor, grad_output: Tensor, f: Statistic, total: Total) -> None:
    """y = the rows of W that [B, ...] ids name; a sample's gradient of a row is the sum over the row's uses in it."""
    ids = input.reshape(len(input), -1)  # [B, L]
    g = grad_output.reshape(*ids.shape, layer.embedding_dim)  # [B, L, D]
    if layer.padding_idx is not None:
        g = g.masked_fill((ids == layer.padding_idx).unsqueeze(2), 0)
    samples = torch.arange(len(ids), device=ids.device).unsqueeze(1)
    uses, place = (ids + layer.num_embeddings * samples).unique(return_inverse=True)  # [R], [B, L]
    rows = g.new_zeros(len(uses), layer.embedding_dim).index_add_(0, place.flatten(), g.flatten(0, 1))
    total["weight"].index_add_(0, uses % layer.num_embeddings, f(rows))


def _convolution(layer: Any, x: Tensor, g: Tensor, f: Statistic, total: Total, pad: Pad) -> None:
    if "weight" in total:
        add_convolution(total["weight"], layer, x, g, f, pad)
    _add_bias(total, g, f)


def _pads(layer: Any) -> list[int]:
    """A convolution's padding as `F.pad` takes it: before and after, the last axis first."""
    if layer.padding == "valid":
        return [0]
    if layer.padding != "same":
        return [size for size in reversed(layer.padding) for _ in range(2)]
    totals = [dilation * (kernel - 1) for dilation, kernel in zip(layer.dilation, layer.kernel_size, strict=True)]
    return [size for total in reversed(totals) for size in (total // 2, total - total // 2)]


def _no_pad(x: Tensor) -> Tensor:
    return x


def _add_bias(total: Total, g: Tensor, f: Statistic) -> None:
    """Add f of every sample's bias gradient, from g [B, O, ...]."""
    if "bias" in total:
        gradients = g.sum(tuple(range(2, g.ndim))) if g.ndim > 2 else g.clone()  # [B, O]
        total["bias"].add_(f(gradients).sum(0))


def _add_scale_and_shift(
    total: Total, x: Tensor, g: Tensor, mean: Tensor, variance: Tensor, eps: float, f: Statistic
) -> None:
    """The rule of y = weight (x - mean) / sqrt(variance + eps) + bias on [n, C, ...], for constant statistics [n, C].

    Each channel of each sample is one channel of a normalisation of a single sample, whose ordinary backward pass
    computes both gradients at once.
    """
    shape, mask = (1, mean.numel(), -1), [False, "weight" in total, "bias" in total]
    _, *gradients = torch.ops.aten.native_batch_norm_backward(  # each [n C]
        g.reshape(shape), x.reshape(shape), None, mean.reshape(-1), variance.reshape(-1), None, None, False, eps, mask
    )
    named = zip(("weight", "bias"), gradients, strict=True)
    sums = {name: f(gradient.reshape(mean.shape)).sum(0) for name, gradient in named if name in total}  # each [C]
    for name, value in sums.items():  # last, see `in_chunks`
        total[name].add_(value)


def _samples_at_once(x: Tensor) -> int:
    """The number of samples of x to work on at a time, where the work needs about x's own size in addition."""
    return samples_at_once(x.device, x[0].numel() * x.element_size()) if x.device.type == "cpu" else len(x)


RULES: dict[str, Rule] = {
    "torch.nn.modules.linear.Linear": linear,
    "torch.nn.modules.conv.Conv1d": convolution,
    "torch.nn.modules.conv.Conv2d": convolution,
    "torch.nn.modules.conv.Conv3d": convolution,
    "torch.nn.modules.batchnorm.BatchNorm1d": batch_norm,
    "torch.nn.modules.batchnorm.BatchNorm2d": batch_norm,
    "torch.nn.modules.batchnorm.BatchNorm3d": batch_norm,
    "torch.nn.modules.normalization.GroupNorm": group_norm,
    "torch.nn.modules.normalization.LayerNorm": layer_norm,
    "torch.nn.modules.sparse.Embedding": embedding,
    "timm.layers.conv2d_same.Conv2dSame": convolution_same,
    "timm.layers.norm_act.BatchNormAct2d": batch_norm,
    "timm.layers.norm.GroupNorm": group_norm,
    "timm.layers.norm.GroupNorm1": group_norm,
    "timm.layers.norm_act.GroupNormAct": group_norm,
    "timm.layers.norm.LayerNorm": layer_norm,
    "timm.layers.norm.LayerNorm2d": layer_norm_2d,
}
"""The rule of each layer type, by the type's full name, so that timm is imported only by models that use it."""

FOLDING = {"torch.nn.modules.linear.Linear", "torch.nn.modules.normalization.LayerNorm", "timm.layers.norm.LayerNorm"}
"""Layer types whose rule takes the rows of a sample as one more axis: `[B * k, ...]` as `[B, k, ...]`."""

DROPS = {"timm.layers.norm_act.BatchNormAct2d": "drop", "timm.layers.norm_act.GroupNormAct": "drop"}
"""Layer types whose forward continues after the affine map: the submodule that the map's output enters."""


def type_name(layer: nn.Module) -> str:
    """The full name of a layer's type, as in `RULES`."""
    return f"{type(layer).__module__}.{type(layer).__qualname__}"
