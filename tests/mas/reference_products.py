"""The slow twin of summed weight gradients: autograd through one layer, one sample after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def summed_products(layer: nn.Module, x: Tensor, g: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
    """sum_n f(d <g_n, layer(x_n)> / d weight)."""
    total = torch.zeros_like(layer.weight.detach())
    for one, one_g in zip(x, g, strict=True):
        (gradient,) = torch.autograd.grad(layer(one[None]), layer.weight, one_g[None])
        total += f(gradient.clone())
    return total
