"""Frozen after the first task: nothing is forgotten; a control for every table.

The part that the tasks share (`Learner.protected`) is frozen. If there is nothing else, nothing more is learned; if
each task has a head of its own, the later ones learn theirs from the features of the first task.
"""

from __future__ import annotations

from typing import Any, ClassVar

from tripletcl.continual import Method, Properties, Task


class Frozen(Method):
    """Learns the first task, then freezes the part that the tasks share."""

    name: ClassVar[str] = "frozen"
    freezes_protected: ClassVar[bool] = True
    properties: ClassVar[Properties] = Properties()

    def __init__(self) -> None:
        self.has_learned = False

    def before_task(self, task: Task) -> None:
        self._freeze()

    def after_task(self, task: Task) -> None:
        self.has_learned = True

    def state_dict(self) -> dict[str, Any]:
        return {"learned": self.has_learned}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.has_learned = state["learned"]
        self._freeze()  # a run resumed within a task loads this after `before_task`

    def _freeze(self) -> None:
        if self.has_learned:
            self.learner.protected.requires_grad_(False)
