"""The slow twin of per-sample gradient statistics: autograd, one sample after the other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def summed_statistic(
    model: nn.Module, inputs: Tensor, f: Callable[[Tensor], Tensor], scalar: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Tensor]:
    """sum_n f(d s(F(x_n)) / d theta), with F the model in eval mode and s its squared norm by default."""
    modes = [module.training for module in model.modules()]
    model.eval()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters() if p.requires_grad}
    for x in inputs:
        model.zero_grad()
        output = model(x[None])
        value = scalar(output) if scalar else (output**2).sum()
        value.sum().backward()
        for name, p in model.named_parameters():
            if p.grad is not None:
                total[name] += f(p.grad)
    model.zero_grad()
    for module, training in zip(model.modules(), modes, strict=True):
        module.training = training
    return total
