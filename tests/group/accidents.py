"""Methods that have an accident in the second task, in the last of several processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from torch import Tensor

from tripletcl import group
from tripletcl.mas.method import MAS

STEP = 9
"""The first task has six."""


class Killed(MAS):
    """Is killed, once: a file says that it has been; without its name in the environment never."""

    name = "killed"
    steps = 0

    def before_forward(self) -> None:
        self.steps += 1
        mark = os.environ.get("KILLED_MARK")
        if mark and self.steps == STEP and group.rank() == group.size() - 1 and not Path(mark).exists():
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)


class NotFinite(MAS):
    """Has a loss of NaN."""

    name = "not_finite"
    loss_in_parts = True
    steps = 0

    def extra_loss(self, batch: Any, representation: Tensor, out: Tensor) -> Tensor | float:
        self.steps += 1
        return out.sum() * float("nan") if self.steps == STEP and group.rank() == group.size() - 1 else 0.0
