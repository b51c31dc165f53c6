"""Matrix products of float32 on the CPU by oneDNN, which on some processors is twice as fast as torch's other BLAS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

FEW = 2**21
"""Multiplications of a linear layer below which what surrounds a product costs more than oneDNN saves."""

FEW_ROWS = 4
"""Rows below which a product is a matter of reading the weight, and oneDNN reads it no faster."""

PLAIN = (Tensor, nn.Parameter)


def pays(x: Tensor, multiplications: int) -> bool:
    """Does oneDNN make a product of x, with so many multiplications, and is it worth it?"""
    return AVAILABLE and x.is_cpu and x.dtype == torch.float32 and multiplications >= FEW


def product(g: Tensor, x: Tensor) -> Tensor:
    """g x^T [O, J] of g [O, L] and x [J, L]: by oneDNN where it can, by `@` elsewhere; they differ by rounding only."""
    if AVAILABLE and g.is_cpu and g.dtype == torch.float32:
        return _affine(g, x, None)
    return g @ x.T


@contextmanager
def linear_by_onednn() -> Iterator[None]:
    """Inside, and in this thread, `torch.nn.functional.linear` of float32 tensors on the CPU is made by oneDNN.

    Result and gradients differ from the ordinary ones by rounding only, whatever the shapes; there is no second
    derivative. Everything else is as ever: other types and devices, autocast, transforms of `torch.func`, compilation,
    small products.

    The function is replaced where its name is looked up. A `TorchFunctionMode` would do the same, but sees every other
    call of torch as well, 1 us each: a tenth of a small network's step.
    """
    if not (AVAILABLE and torch.backends.mkldnn.enabled):
        yield
        return
    _count_users(1)
    inside = _active.set(True)
    try:
        yield
    finally:
        _active.reset(inside)
        _count_users(-1)


def _affine(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias, without a gradient.

    The name is not public, so `_has_onednn` tries it out. It reads a bias as if its numbers lay side by side, and
    refuses a weight whose rows overlap.
    """
    weight = weight if weight.is_contiguous() or weight.t().is_contiguous() else weight.contiguous()
    bias = None if bias is None else bias.contiguous()
    found: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return found


def _has_onednn() -> bool:
    x, weight, bias = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3), torch.arange(4.0)
    try:
        torch._C._are_functorch_transforms_active()
        return torch.equal(_affine(x, weight, bias), x @ weight.T + bias)
    except (AttributeError, RuntimeError, TypeError):
        return False


class _Linear(torch.autograd.Function):
    """x W^T + b on [..., I], differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        of_x, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if of_weight else None, weight if of_x else None)
        return _affine(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        g = gradient.flatten(0, -2)
        return (
            _affine(gradient, weight.t(), None) if of_x else None,
            _affine(g.t(), x.flatten(0, -2).t(), None) if of_weight else None,
            g.sum(0) if of_bias else None,
        )


_ordinary: Callable[..., Tensor] = F.linear
"""What the stand-in stands in for."""
_active: ContextVar[bool] = ContextVar("linear_by_onednn", default=False)
_users, _lock = 0, Lock()


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """What stands in for `torch.nn.functional.linear` while anyone is inside."""
    if torch.compiler.is_compiling() or not (_active.get() and _suits(input, weight, bias)):
        return _ordinary(input, weight, bias)
    differentiated = input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    if differentiated and torch.is_grad_enabled():
        result: Tensor = _Linear.apply(input, weight, bias)
        return result
    return _affine(input, weight, bias)


def _suits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Are these plain tensors of float32 on the CPU, of shapes that go together, and worth it?"""
    return (
        _is_plain(x)
        and _is_plain(weight)
        and weight.ndim == 2
        and x.ndim > 1
        and x.shape[-1] == weight.shape[1]
        and x.numel() * len(weight) >= FEW
        and x.numel() >= FEW_ROWS * x.shape[-1]
        and (bias is None or (_is_plain(bias) and bias.shape == weight.shape[:1]))
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


def _is_plain(t: Tensor) -> bool:
    return type(t) in PLAIN and t.dtype == torch.float32 and t.is_cpu and t.layout == torch.strided


def _count_users(change: int) -> None:
    """One more or one less: the first puts the stand-in in the function's place, the last takes it away."""
    global _ordinary, _users
    with _lock:
        if not _users:
            _ordinary = F.linear
        _users += change
        F.linear = _linear if _users else _ordinary


AVAILABLE = _has_onednn()
