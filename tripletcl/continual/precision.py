"""Mixed precision, by autocast; on the CPU without the convolutions that bfloat16 makes slower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tripletcl.continual.device import Compute

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def mixed(compute: Compute) -> Iterator[None]:
    """Inside, forward passes run in the precision asked for."""
    if compute.precision == "float32":
        yield
        return
    kind = compute.device.type
    with torch.autocast(kind, DTYPES[compute.precision]), DepthwiseInFloat32() if kind == "cpu" else nullcontext():
        yield


class DepthwiseInFloat32(TorchFunctionMode):
    """Inside, the CPU's autocast leaves depthwise convolutions in float32, what enters and leaves them as it would be.

    Going backward in bfloat16, oneDNN has fast code for kernels of 3 x 3 without a stride alone, which are left to it.
    With a stride the input's gradient takes 4 to 90 times as long as in float32, larger kernels make the weight's 1.6
    to 5 times as slow: an EfficientNet's step would double.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.conv2d and len(args) > 1 and torch.is_autocast_enabled("cpu"):
            return _convolution(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _convolution(x: Any, weight: Any, bias: Any = None, stride: Any = 1, *others: Any, **named: Any) -> Any:
    if not _is_slow(x, weight, stride):
        return torch.conv2d(x, weight, bias, stride, *others, **named)
    with torch.autocast("cpu", enabled=False):
        result = torch.conv2d(x.float(), weight, bias, stride, *others, **named)
    return result.to(torch.get_autocast_dtype("cpu"))


def _is_slow(x: torch.Tensor, weight: torch.Tensor, stride: Any) -> bool:
    depthwise = weight.shape[1] == 1 and x.shape[1] > 1
    steps = (stride, stride) if isinstance(stride, int) else tuple(stride)
    whole = weight.dtype == torch.float32  # autocast leaves float64 alone
    return depthwise and whole and not (tuple(weight.shape[2:]) == (3, 3) and steps == (1, 1))
