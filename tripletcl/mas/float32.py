"""Importance is measured in float32, whatever precision the process uses elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact_float32() -> Iterator[None]:
    """Multiply float32 numbers without rounding them first; torch's settings are as before afterwards.

    By default cuDNN rounds the factors of a convolution to TF32, and `torch.set_float32_matmul_precision` allows it for
    products, too.
    """
    operations = _operations()
    before = [operation.fp32_precision for operation in operations]
    older = _older_settings()
    try:
        # The older settings first, as they change the newer ones: code that reads either finds what holds.
        _set_older("highest", False)
        for operation in operations:
            operation.fp32_precision = "ieee"
        yield
    finally:
        if older:
            _set_older(*older)
        for operation, value in zip(operations, before, strict=True):
            operation.fp32_precision = "none"
            if operation.fp32_precision != value:  # the operation's own value, not that of its backend
                operation.fp32_precision = value


def _operations() -> list[Any]:
    """The settings of single operations; torch has had them since 2.9, and the older ones still."""
    cuda, cudnn, cpu = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    places = ((cuda, "matmul"), (cudnn, "conv"), (cudnn, "rnn"), (cpu, "matmul"), (cpu, "conv"))
    operations = [getattr(backend, name, None) for backend, name in places]
    return [operation for operation in operations if hasattr(operation, "fp32_precision")]


def _older_settings() -> tuple[str, bool] | None:
    """The older settings of products and convolutions; None if the newer ones hold what these cannot express."""
    try:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:
        return None


def _set_older(products: str, convolutions: bool) -> None:
    torch.set_float32_matmul_precision(products)
    torch.backends.cudnn.allow_tf32 = convolutions


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The type in which gradients of a type are computed and summed."""
    return torch.promote_types(dtype, torch.float32)
