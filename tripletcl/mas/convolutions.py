"""Per-sample weight gradients of convolutions of any stride, dilation, groups and padding, put through f and added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.grad import conv1d_weight, conv2d_weight, conv3d_weight

from tripletcl.mas.products import Statistic, add_in_chunks, add_products, samples_at_once

Pad = Callable[[Tensor], Tensor]


def add_convolution(total: Tensor, layer: Any, x: Tensor, g: Tensor, f: Statistic, pad: Pad) -> None:
    """total += sum_n f(d s_n / d weight) of a convolution that takes `pad(x)`, in place.

    Args:
        total: as the layer's weight, [O, C / groups, *kernel].
        layer: its kernel size, stride, dilation and groups.
        x: inputs [B, C, *size]; g: gradients of the outputs [B, O, *space].
        pad: what the layer does to its input before it convolves without padding.
    """
    if layer.groups == 1:
        add_products(total.flatten(1), g, x, f, lambda x: _columns(pad(x.contiguous()), layer))
    else:
        # Samples become groups of one convolution: group n sees sample n alone.
        size = samples_at_once(x.device, *(t[0].numel() * t.element_size() for t in (x, g)))
        add_in_chunks(total, x, g, f, lambda x, g: _folded(pad(x), g, layer), size)


def _columns(x: Tensor, layer: Any) -> Tensor:
    """A view [n, C, *kernel, *space] of padded inputs [n, C, *size]."""
    for axis, (kernel, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), 2
    ):
        x = x.unfold(axis, dilation * (kernel - 1) + 1, stride)[..., ::dilation]  # [n, C, *space, *kernel] in the end
    space = len(layer.kernel_size)
    return x.movedim(tuple(range(2, 2 + space)), tuple(range(-space, 0)))


def _folded(x: Tensor, g: Tensor, layer: Any) -> Tensor:
    """Every sample's own weight gradient [n, *weight.shape]."""
    if x.device.type == "cpu" and _in_threes(layer):
        return _in_pieces(x, g, layer)
    return _weight_gradients(x, g, layer, tuple(layer.weight.shape))


def _weight_gradients(x: Tensor, g: Tensor, layer: Any, shape: tuple[int, ...]) -> Tensor:
    weight_gradient = {3: conv1d_weight, 4: conv2d_weight, 5: conv3d_weight}[len(shape)]
    n = len(x)
    x, g = x.reshape(1, -1, *x.shape[2:]), g.reshape(1, -1, *g.shape[2:])  # [1, n * C, ...]
    folded = weight_gradient(x, (n * shape[0], *shape[1:]), g, layer.stride, 0, layer.dilation, n * layer.groups)
    return folded.reshape(n, *shape)


def _in_threes(layer: Any) -> bool:
    """A depthwise kernel larger than 3 x 3, for which oneDNN has no fast weight gradient; it has one for 3 x 3."""
    depthwise = layer.weight.shape[1] == 1 and layer.weight.ndim == 4
    return depthwise and set(layer.dilation) == {1} and min(layer.kernel_size) >= 3 and max(layer.kernel_size) > 3


def _in_pieces(x: Tensor, g: Tensor, layer: Any) -> Tensor:
    """The weight gradients of windows of 3 x 3, which together cover the kernel."""
    found = g.new_empty(len(x), *layer.weight.shape)
    rows, columns = (sorted({min(at, kernel - 3) for at in range(0, kernel, 3)}) for kernel in layer.kernel_size)
    height, width = ((size - 1) * stride + 3 for size, stride in zip(g.shape[2:], layer.stride, strict=True))
    for i in rows:
        for j in columns:
            seen = x[:, :, i : i + height, j : j + width]
            found[..., i : i + 3, j : j + 3] = _weight_gradients(seen, g, layer, (*layer.weight.shape[:2], 3, 3))
    return found
