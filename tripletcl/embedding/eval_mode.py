"""Eval mode for a while, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from torch import nn


class HasModules(Protocol):
    """A network, as far as its mode is concerned."""

    def modules(self) -> Iterator[nn.Module]: ...
    def eval(self) -> object: ...


@contextmanager
def eval_mode(model: HasModules) -> Iterator[None]:
    """Put a model in eval mode inside the block, and every module back in its own mode after it."""
    modes = {module: module.training for module in model.modules()}
    if any(modes.values()):
        model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            if module.training != training:
                module.training = training
