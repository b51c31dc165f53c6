"""Frozen after the first task: nothing is forgotten; the control below every table.

What the tasks share stands still (`Learner.protected`). Where that is all there is, nothing more is learned; where each
task has a head of its own, the later ones learn theirs from the features of the first task.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tripletcl.continual import Method, Properties, Task


class Frozen(Method):
    """Learns the first task; then what the tasks share stands still."""

    name: ClassVar[str] = "frozen"
    freezes_protected: ClassVar[bool] = True
    properties: ClassVar[Properties] = Properties()

    def __init__(self) -> None:
        self.learned = False

    def before_task(self, task: Task) -> None:
        self._hold()

    def after_task(self, task: Task) -> None:
        self.learned = True

    def state_dict(self) -> dict[str, Any]:
        return {"learned": self.learned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learned = state["learned"]
        self._hold()  # a run taken up in the middle of a task loads this after `before_task`

    def _hold(self) -> None:
        if self.learned:
            self.learner.protected.requires_grad_(False)
