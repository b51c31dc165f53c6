"""Several methods at once, each with its own weight: `method: [{name: mas, lam: 3}, {name: lwf, lam: 1}]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from tripletcl.continual import Batch, Inputs, Learner, Method, Properties, Task
from tripletcl.errors import UserError


class Combined(Method):
    """Calls each of its methods in the order given; their extra losses are added.

    It has a property if all of its methods have it; "adaptive" and "consistent" if one does.

    Raises:
        UserError: A method twice, joint training or a method that freezes the shared part among them, or more than one
            weight to be chosen automatically.
    """

    def __init__(self, methods: Sequence[Method]) -> None:
        self.methods = {method.name: method for method in methods}
        if len(self.methods) < len(methods):
            raise UserError(f"a combination holds each method once, not {', '.join(m.name for m in methods)}")
        if freezing := [method.name for method in methods if method.freezes_protected]:
            raise UserError(f"{freezing[0]} freezes what the tasks share, so another method has nothing to protect")
        if any(method.joint for method in methods):
            raise UserError("joint training sees all tasks at once, so there is nothing to combine it with")
        if sum(method.lam_is_auto for method in methods) > 1:
            raise UserError("only one weight of a combination can be auto; give the others a number")
        self.properties = _common([method.properties for method in methods])  # type: ignore[misc]

    @property
    def losses_in_parts(self) -> bool:
        return all(method.losses_in_parts for method in self.methods.values())

    @property
    def auto_method(self) -> Method | None:
        return next((method for method in self.methods.values() if method.lam_is_auto), None)

    def check(self, tasks: Sequence[Task]) -> None:
        for method in self.methods.values():
            method.check(tasks)

    def start(self, learner: Learner, inputs: Inputs) -> None:
        super().start(learner, inputs)
        for method in self.methods.values():
            method.start(learner, inputs)

    def before_task(self, task: Task) -> None:
        for method in self.methods.values():
            method.before_task(task)

    def before_forward(self) -> None:
        for method in self.methods.values():
            method.before_forward()

    def extra_loss(self, batch: Batch, representation: Tensor, out: Tensor) -> Tensor | float:
        return sum((method.extra_loss(batch, representation, out) for method in self.methods.values()), 0.0)

    def before_step(self) -> None:
        for method in self.methods.values():
            method.before_step()

    def after_step(self, lr: float) -> None:
        for method in self.methods.values():
            method.after_step(lr)

    def after_task(self, task: Task) -> None:
        for method in self.methods.values():
            method.after_task(task)

    def add_importance(self, task: Task, weight: float, recompute: bool = False) -> None:
        for method in self.methods.values():
            if method.properties.adaptive:
                method.add_importance(task, weight, recompute)

    def state_dict(self) -> dict[str, Any]:
        return {name: method.state_dict() for name, method in self.methods.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, method in self.methods.items():
            method.load_state_dict(state[name])


def _common(properties: Sequence[Properties]) -> Properties:
    """The properties of a combination of methods that have these."""
    by_name = {name: [asdict(each)[name] for each in properties] for name in asdict(properties[0])}
    any_suffices = ("adaptive", "consistent")
    return Properties(**{name: (any if name in any_suffices else all)(values) for name, values in by_name.items()})
