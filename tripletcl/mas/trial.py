"""Kernels for graphics processors, where they can be had and prove themselves."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from types import ModuleType

import torch

log = logging.getLogger("tripletcl")


@cache
def proven(name: str, device: torch.device) -> ModuleType | None:
    """The module of `tripletcl.mas` of that name, if its `try_out` raises nothing on the device; it is asked once."""
    try:
        kernels = import_module(f"tripletcl.mas.{name}")
        kernels.try_out(device)
    except Exception as error:  # Triton, its compiler or its driver: whatever it lacks, there is another way
        log.info("%s: without kernels of its own on %s: %s", name, device, error)
        return None
    return kernels
