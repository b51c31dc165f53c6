"""Joint training: the images of all tasks at once, the upper bound in every table; no continual learner."""

from __future__ import annotations

from typing import ClassVar

from tripletcl.continual import Method


class Joint(Method):
    """Fine-tuning on the union of all tasks, with the same number of epochs."""

    name: ClassVar[str] = "joint"
    joint: ClassVar[bool] = True
