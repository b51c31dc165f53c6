"""Device and precision, by accelerate."""

from __future__ import annotations

import torch
from accelerate import Accelerator

from tripletcl.errors import UserError


def make_accelerator(device: str = "auto", precision: str = "no") -> Accelerator:
    """The device to train on: "auto" takes the GPU where there is one.

    Args:
        precision: "no" (float32), "bf16" or "fp16".

    Raises:
        UserError: the device is not there, or cannot do the precision.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is {device!r}; allowed are auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch sees no GPU here; use device=cpu or device=auto")
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    if on_cpu and precision == "fp16":
        raise UserError("precision fp16 needs a GPU; the CPU knows no and bf16")
    return Accelerator(cpu=on_cpu, mixed_precision=precision)
