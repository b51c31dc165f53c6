"""Mixed precision by autocast; on the CPU without those convolutions that bfloat16 makes slower."""

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
    """Run forward passes in the precision of `compute`."""
    if compute.precision == "float32":
        yield
        return
    kind = compute.device.type
    with torch.autocast(kind, DTYPES[compute.precision]), DepthwiseInFloat32() if kind == "cpu" else nullcontext():
        yield


def full_precision(values: torch.Tensor) -> torch.Tensor:
    """Return values of half precision in float32, all others as they are."""
    return values.float() if values.dtype in DTYPES.values() else values


class DepthwiseInFloat32(TorchFunctionMode):
    """Keeps depthwise convolutions in float32 under the CPU's autocast; their inputs and outputs are still rounded.

    For the backward pass in bfloat16 oneDNN has fast code for kernels of 3 x 3 without a stride only, which stay in
    bfloat16. With a stride the input's gradient takes 4 to 90 times as long as in float32, with larger kernels the
    weight's 1.6 to 5 times: the step of an EfficientNet would double.
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
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    rounded = weight.dtype == torch.float32  # autocast leaves float64 alone
    return depthwise and rounded and not (tuple(weight.shape[2:]) == (3, 3) and strides == (1, 1))
