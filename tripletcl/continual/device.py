"""Device and precision; and how the processor is used while a run lasts."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch.amp import GradScaler

from tripletcl.cpu import linear_by_onednn
from tripletcl.errors import UserError

Precision = Literal["no", "bf16", "fp16"]


@dataclass(frozen=True)
class Compute:
    """Where a network is computed, and how exactly; made by `compute_on`.

    Attributes:
        precision: "no" (float32), or what forward passes are rounded to by autocast.
        scaler: Keeps small gradients of fp16 from vanishing; None with every other precision.
    """

    device: torch.device
    precision: Precision = "no"
    scaler: GradScaler | None = None


def compute_on(device: str = "auto", precision: Precision = "no") -> Compute:
    """A device and its precision: "auto" takes the GPU where there is one.

    Raises:
        UserError: the device is not there, or cannot do the precision.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is {device!r}; allowed are auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch sees no GPU here; use device=cpu or device=auto")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if kind == "cpu" and precision == "fp16":
        raise UserError("precision fp16 needs a GPU; the CPU knows no and bf16")
    return Compute(torch.device(kind), precision, GradScaler(kind) if precision == "fp16" else None)


M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""As malloc.h of glibc has them."""

KEPT = {M_MMAP_THRESHOLD: 2**30, M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26}
USUAL = {M_MMAP_THRESHOLD: 2**25, M_TRIM_THRESHOLD: 2**26, M_TOP_PAD: 2**17}
"""What glibc arrives at by itself in a process that works with large arrays."""


@contextmanager
def tuned_processor() -> Iterator[None]:
    """Inside, the CPU does what trains or measures a network as fast as it can; results differ by rounding only."""
    with freed_memory_kept(), linear_by_onednn():
        yield


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside, memory that is freed stays with the process; afterwards it goes back to the system.

    A step on the CPU makes and frees the same activations again and again. glibc gives large ones back to the system
    each time, which then has to find and clear their pages anew: a tenth to a fifth of a step. The same could be had by
    MALLOC_MMAP_THRESHOLD_ and its like, set before the process starts. Where there is no glibc nothing happens.
    """
    mallopt, malloc_trim = _glibc("mallopt"), _glibc("malloc_trim")
    if mallopt is None or malloc_trim is None:
        yield
        return
    try:
        for setting, value in KEPT.items():
            mallopt(setting, value)
        yield
    finally:
        for setting, value in USUAL.items():
            mallopt(setting, value)
        malloc_trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of the C library that this process runs on, or None where it has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
