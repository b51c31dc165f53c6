"""MAS with every task weighing the same (Aljundi, Babiloni, Elhoseiny, Rohrbach, Tuytelaars, ECCV 2018).

In plain MAS a task whose importances are large outweighs the others. Here each task t has its own weight and anchor,

    L(theta) = L_task(theta) + sum_t alpha_t sum omega_t (theta - anchor_t)^2,

with `alpha_t S_t` the same for all t, S_t = sum omega_t, and `sum_t alpha_t = lam`. That has one solution, alpha_t =
lam (1 / S_t) / Z with Z = sum_t 1 / S_t, so the penalty is, up to a constant, the single term

    lam / Z sum A (theta - B / A)^2,    A = sum_t omega_t / S_t,    B = sum_t omega_t anchor_t / S_t:

constant memory, although every task has an anchor. A, B / A and Z are what is kept.

Deviations: those of MAS (`tripletcl.mas.method`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tripletcl.continual import Lam, Method, Properties, Task
from tripletcl.errors import UserError
from tripletcl.mas.importance import SCALARS, Output, check_measure, task_importance
from tripletcl.mas.penalty import PenaltyForm, QuadraticPenalty
from tripletcl.mas.statistics import Engine, Scope


class MASAlpha(Method):
    """MAS with weights alpha_t that let no task's importance outweigh another's; see the module's text.

    Args:
        lam: The sum of the tasks' weights, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for every task.
        penalty: As in MAS.
        engine: As in MAS.
        scope: As in MAS.
        output: As in MAS.
    """

    name: ClassVar[str] = "mas_alpha"
    properties: ClassVar[Properties] = Properties(adaptive=True, consistent=True)

    def __init__(
        self,
        lam: Lam = 1.0,
        penalty: PenaltyForm = "proximal",
        engine: Engine = "hooks",
        scope: Scope = "global",
        output: Output = "l2",
    ) -> None:
        self.weigh(lam)
        self.measure: dict[str, Any] = {"engine": engine, "scope": scope, "scalar": SCALARS[output], "per": "sample"}
        check_measure(**self.measure)
        self.penalty = QuadraticPenalty(penalty)
        self.inverse_sums = 0.0
        """Z = sum_t 1 / S_t."""

    @property
    def weight(self) -> float:
        """lam / Z, of the single term."""
        return self.lam / self.inverse_sums if self.inverse_sums else 0.0

    def check(self, tasks: Sequence[Task]) -> None:
        if len(tasks) < 2:
            raise UserError(
                "mas_alpha makes tasks weigh the same, so it takes two tasks at least; for one there is mas"
            )

    def before_step(self) -> None:
        self.penalty.before_step(self.weight)

    def after_step(self, lr: float) -> None:
        self.penalty.after_step(lr, self.weight)

    def after_task(self, task: Task) -> None:
        self.add_importance(task, 1.0)

    def add_importance(self, task: Task, weight: float, afresh: bool = False) -> None:
        omega = task_importance(self.learner, task, self.inputs, **self.measure)
        if afresh:
            self.penalty.forget()
            self.inverse_sums = 0.0
        total = sum(value.sum().item() for value in omega.values())
        if total:  # a task without importance has no share to be made equal
            parameters = dict(self.learner.protected.named_parameters())
            self.penalty.update(parameters, omega, add=weight / total, anchor="mean")
            self.inverse_sums += weight / total
        self.penalty.log_scale(task.name, self.weight)

    def state_dict(self) -> dict[str, Any]:
        return {**self.penalty.state_dict(), "inverse_sums": self.inverse_sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.penalty.load_state_dict(state, dict(self.learner.protected.named_parameters()))
        self.inverse_sums = state["inverse_sums"]
