"""Device and precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch.amp import GradScaler

from tripletcl import group
from tripletcl.errors import UserError

Precision = Literal["float32", "bf16", "fp16"]


@dataclass(frozen=True)
class Compute:
    """The device that computes a network, and its precision; made by `compute_on`.

    Attributes:
        precision: "float32", or the type to which autocast rounds in forward passes.
        scaler: Prevents small gradients of fp16 from vanishing; None for every other precision.
    """

    device: torch.device
    precision: Precision = "float32"
    scaler: GradScaler | None = None


def compute_on(device: str = "auto", precision: Precision = "float32") -> Compute:
    """Choose a device and a precision; "auto" is the GPU if there is one.

    Raises:
        UserError: The device is missing, cannot compute in the precision, or is that of another process, too.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"device is {device!r}; allowed are auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device is cuda, but torch sees no GPU here; use device=cpu or device=auto")
    kind = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if kind == "cpu" and precision == "fp16":
        raise UserError("precision fp16 needs a GPU; on a CPU it can be float32 or bf16")
    if kind == "cuda":
        group.check_gpus()
    return Compute(torch.device(kind), precision, GradScaler(kind) if precision == "fp16" else None)
