"""MAS in which every task has the same weight (Aljundi, Babiloni, Elhoseiny, Rohrbach, Tuytelaars, ECCV 2018).

In plain MAS a task whose importances are large outweighs the others. Here each task t has its own weight and anchor,

    L(theta) = L_task(theta) + sum_t alpha_t sum omega_t (theta - anchor_t)^2,

with `alpha_t S_t` the same for all t, S_t = sum omega_t, and `sum_t alpha_t = lam`. That has one solution, alpha_t =
lam (1 / S_t) / Z with Z = sum_t 1 / S_t, so the penalty is, up to a constant, the single term

    lam / Z sum A (theta - B / A)^2,    A = sum_t omega_t / S_t,    B = sum_t omega_t anchor_t / S_t:

constant memory, although every task has an anchor. A, B / A and Z are stored.

Deviations: those of MAS (`tripletcl.mas.method`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tripletcl.continual import Lam, Properties, Task
from tripletcl.errors import UserError
from tripletcl.mas.importance import SCALARS, Output, check_measure, task_importance
from tripletcl.mas.penalty import PenaltyForm, PenaltyMethod, QuadraticPenalty
from tripletcl.mas.statistics import Engine, Scope


class MASAlpha(PenaltyMethod):
    """MAS with weights alpha_t by which no task's importance outweighs another's; see the module's text.

    Args:
        lam: The sum of the tasks' weights, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for every task.
        penalty: As in MAS.
        engine: As in MAS.
        scope: As in MAS.
        output: As in MAS.
    """

    name: ClassVar[str] = "mas_alpha"
    properties: ClassVar[Properties] = Properties(adaptive=True, consistent=True)
    counters: ClassVar[tuple[str, ...]] = ("inverse_sums",)

    def __init__(
        self,
        lam: Lam = 1.0,
        penalty: PenaltyForm = "proximal",
        engine: Engine = "hooks",
        scope: Scope = "global",
        output: Output = "l2",
    ) -> None:
        self.set_lam(lam)
        self.measure: dict[str, Any] = {"engine": engine, "scope": scope, "scalar": SCALARS[output], "per": "sample"}
        check_measure(**self.measure)
        self.penalty = QuadraticPenalty(penalty)
        self.inverse_sums = 0.0
        """Z = sum_t 1 / S_t."""

    @property
    def weight(self) -> float:
        """lam / Z, the weight of the single term."""
        return self.lam / self.inverse_sums if self.inverse_sums else 0.0

    def check(self, tasks: Sequence[Task]) -> None:
        if len(tasks) < 2:
            raise UserError("mas_alpha gives tasks equal weights, so it needs two tasks at least; for one there is mas")

    def after_task(self, task: Task) -> None:
        self.add_importance(task, 1.0)

    def add_importance(self, task: Task, weight: float, recompute: bool = False) -> None:
        omega = task_importance(self.learner, task, self.inputs, **self.measure)
        if recompute:
            self.penalty.reset()
            self.inverse_sums = 0.0
        total = sum(value.sum().item() for value in omega.values())
        if total:  # a task without importance has no share that could be equal
            self.penalty.update(self.parameters, omega, add=weight / total, anchor="mean")
            self.inverse_sums += weight / total
        self.penalty.log_scale(task.name, self.weight)
