"""CPU tuning: matrix products by oneDNN, and memory that stays with the process.

This is the one module that uses private names of torch; each is tested before its first use.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable

import torch
from torch import Tensor

MIN_MULTIPLICATIONS = 2**21
"""Size of a matrix product from which oneDNN is worth its overhead."""

MALLOC_OPTIONS = {
    "MALLOC_MMAP_THRESHOLD_": (-3, 2**30),
    "MALLOC_TRIM_THRESHOLD_": (-1, 2**31 - 1),
    "MALLOC_TOP_PAD_": (-2, 2**26),
}
"""glibc's options, by the environment variable that sets the same: the number in malloc.h, and the value in bytes."""


def onednn_pays(x: Tensor, multiplications: int) -> bool:
    """Tell whether `product` uses oneDNN for x, and is faster for it in a product of this many multiplications."""
    return AVAILABLE and x.is_cpu and x.dtype == torch.float32 and multiplications >= MIN_MULTIPLICATIONS


def product(g: Tensor, x: Tensor) -> Tensor:
    """Multiply g `[O, L]` by the transpose of x `[J, L]`.

    oneDNN computes float32 products on the CPU, which on some processors is twice as fast as torch's BLAS; `@` computes
    all others. The two agree up to rounding. There is no gradient.

    Returns:
        g x^T, `[O, J]`.
    """
    return _by_onednn(g, x) if AVAILABLE and g.is_cpu and g.dtype == torch.float32 else g @ x.T


def keep_freed_memory() -> None:
    """Let the process keep the memory that it frees, from now on.

    A training step on the CPU allocates and frees the same activations again and again. By default glibc returns large
    blocks to the system each time, which then has to find and clear their pages once more: 10 to 20 % of a step.
    The commands that train call this when they start; a script may do so, too. An option that a user has set in the
    environment (`MALLOC_OPTIONS`) is left alone. Without glibc nothing happens.
    """
    mallopt = _glibc_function("mallopt")
    if mallopt is None:
        return
    for variable, (option, value) in MALLOC_OPTIONS.items():
        if variable not in os.environ:
            mallopt(option, value)


def _glibc_function(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def _by_onednn(x: Tensor, weight: Tensor) -> Tensor:
    """Compute x weight^T."""
    # oneDNN refuses a weight with overlapping rows
    weight = weight if weight.is_contiguous() or weight.t().is_contiguous() else weight.contiguous()
    result: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, None, "none", [], "")
    return result


def _onednn_works() -> bool:
    x, weight = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(4, 3)
    try:
        return torch.equal(_by_onednn(x, weight), x @ weight.T)
    except (AttributeError, RuntimeError, TypeError):
        return False


AVAILABLE = _onednn_works()
"""True if this torch has oneDNN's product."""
