"""Synaptic Intelligence (Zenke, Poole, Ganguli, ICML 2017).

While a task is learned, every parameter accumulates by how much its own change has lowered the loss,

    w <- w - g delta,

where g is the gradient of the loss without the penalty, and delta the parameter's change in the step, including that by
the penalty. After the task, with Delta its change over the task,

    omega <- omega + relu(w / (Delta^2 + xi)),

w is reset to zero and the anchor is the latest theta; the next task is learned under

    L(theta) = L_task(theta) + lam sum omega (theta - anchor)^2.

g is the gradient of the step: of an augmented batch, and after clipping. Extra losses of other methods in a combination
are part of the loss; if they add a penalty's gradient, name si before them.

Deviation: the penalty is applied in its proximal form unless `penalty: gradient` is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tripletcl.continual import Lam, Properties, Task
from tripletcl.errors import UserError
from tripletcl.mas import PenaltyForm, PenaltyMethod, QuadraticPenalty
from tripletcl.mas.path_integral import PathIntegral, checked_xi


class SI(PenaltyMethod):
    """Synaptic Intelligence; see the module's text for the equations.

    Memory: importance and anchor; while a task is learned also w, the weights at its start, and a copy of the weights
    and of the gradient.

    Args:
        lam: Weight of the penalty, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for every task.
        xi: Bounds the importance of a parameter that hardly moved, > 0; in units of a squared parameter.
        penalty: "proximal" or "gradient".

    Raises:
        UserError: A number out of its range.
    """

    name: ClassVar[str] = "si"
    properties: ClassVar[Properties] = Properties(on_pretrained=False, unlabeled=False)
    high_lam: ClassVar[float] = 1e6

    def __init__(self, lam: Lam = 1.0, xi: float = 0.1, penalty: PenaltyForm = "proximal") -> None:
        self.set_lam(lam)
        self.xi = checked_xi(xi)
        self.penalty = QuadraticPenalty(penalty)
        self.path = PathIntegral()

    def check(self, tasks: Sequence[Task]) -> None:
        if any(task.importance_subset for task in tasks):
            raise UserError(
                "si measures importance while it learns, on all training images of a task, so importance cannot be "
                "restricted to some facts; use mas or ewc"
            )

    def before_task(self, task: Task) -> None:
        self.path.begin(self.parameters)

    def before_step(self) -> None:
        self.path.copy_theta()
        self.path.copy_gradient()
        super().before_step()

    def after_step(self, lr: float) -> None:
        super().after_step(lr)
        self.path.accumulate()

    def after_task(self, task: Task) -> None:
        self.penalty.update(self.parameters, self.path.importance(self.xi))
        self.path = PathIntegral()
        self.penalty.log_scale(task.name, self.lam)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **self.path.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.path.load_state_dict(state, self.parameters)
