"""Per-sample weight gradients of convolutions of any stride, dilation, groups and padding, put through f and added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from tripletcl.mas.products import Statistic, add_in_chunks, add_products, samples_at_once

Pad = Callable[[Tensor], Tensor]


def add_convolution(total: Tensor, layer: Any, x: Tensor, g: Tensor, f: Statistic, pad: Pad) -> None:
    """total += sum_n f(d s_n / d weight) for a convolution of `pad(x)` without further padding, in place.

    Args:
        total: Shaped as the layer's weight, [O, C / groups, *kernel].
        layer: Gives kernel size, stride, dilation and groups.
        x: Inputs [B, C, *size].
        g: Gradients of the outputs [B, O, *space].
        pad: The layer's padding.
    """
    if layer.groups == 1:
        add_products(total.flatten(1), g, x, f, lambda x: _columns(pad(x.contiguous()), layer))
    else:
        size = samples_at_once(x.device, *(t[0].numel() * t.element_size() for t in (x, g)))
        add_in_chunks(total, x, g, f, lambda x, g: _per_sample_gradients(pad(x), g, layer), size)


def _columns(x: Tensor, layer: Any) -> Tensor:
    """A view [n, C, *kernel, *space] of padded inputs [n, C, *size]."""
    for axis, (kernel, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), 2
    ):
        x = x.unfold(axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]  # finally [n, C, *space, *kernel]
    space = len(layer.kernel_size)
    return x.movedim(tuple(range(2, 2 + space)), tuple(range(-space, 0)))


def _per_sample_gradients(x: Tensor, g: Tensor, layer: Any) -> Tensor:
    """Every sample's own weight gradient [n, O, C / groups, *kernel]."""
    if x.device.type == "cpu" and _needs_windows(layer):
        return _in_windows(x, g, layer)
    return _weight_gradients(x, g, layer, tuple(layer.weight.shape))


def _weight_gradients(x: Tensor, g: Tensor, layer: Any, shape: tuple[int, ...]) -> Tensor:
    """[n, *shape] by one grouped convolution in which every sample is a group, so that it sees itself only."""
    weight_gradient = {3: conv1d_weight, 4: conv2d_weight, 5: conv3d_weight}[len(shape)]
    n = len(x)
    x, g = x.reshape(1, -1, *x.shape[2:]), g.reshape(1, -1, *g.shape[2:])  # [1, n C, *size], [1, n O, *space]
    grouped = weight_gradient(x, (n * shape[0], *shape[1:]), g, layer.stride, 0, layer.dilation, n * layer.groups)
    return grouped.reshape(n, *shape)


def _needs_windows(layer: Any) -> bool:
    """True for a depthwise kernel larger than 3 x 3: oneDNN has a fast weight gradient for 3 x 3 only."""
    depthwise = layer.weight.shape[1] == 1 and layer.weight.ndim == 4
    return depthwise and set(layer.dilation) == {1} and min(layer.kernel_size) >= 3 and max(layer.kernel_size) > 3


def _in_windows(x: Tensor, g: Tensor, layer: Any) -> Tensor:
    """The weight gradients, computed for windows of 3 x 3 that together cover the kernel."""
    gradients = g.new_empty(len(x), *layer.weight.shape)  # [n, O, 1, *kernel]
    rows, columns = (sorted({min(at, kernel - 3) for at in range(0, kernel, 3)}) for kernel in layer.kernel_size)
    height, width = ((size - 1) * stride + 3 for size, stride in zip(g.shape[2:], layer.stride, strict=True))
    for i in rows:
        for j in columns:
            window = x[:, :, i : i + height, j : j + width]
            gradients[..., i : i + 3, j : j + 3] = _weight_gradients(window, g, layer, (*layer.weight.shape[:2], 3, 3))
    return gradients
