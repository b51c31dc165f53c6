"""Frozen after the first task: nothing is forgotten because nothing more is learned; the control below every table."""

from __future__ import annotations

from typing import Any, ClassVar

from tripletcl.continual import Method, Properties, Task


class Frozen(Method):
    """Learns the first task, then stands still."""

    name: ClassVar[str] = "frozen"
    stands_still: ClassVar[bool] = True
    properties: ClassVar[Properties] = Properties()

    def __init__(self) -> None:
        self.learned = False

    def before_task(self, task: Task) -> None:
        if self.learned:
            self.learner.requires_grad_(False)

    def after_task(self, task: Task) -> None:
        self.learned = True

    def state_dict(self) -> dict[str, Any]:
        return {"learned": self.learned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learned = state["learned"]
