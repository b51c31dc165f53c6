"""Synaptic Intelligence (Zenke, Poole, Ganguli, ICML 2017).

While a task is learned, every parameter adds up how much its own motion has lowered the loss,

    w <- w - g delta,

g the gradient of the loss alone, delta the parameter's whole change in the step, that by the penalty included. After
the task, with Delta its change over the task,

    omega <- omega + relu(w / (Delta^2 + xi)),

w starts anew at zero and the anchor is the newest theta; the next task is learned under

    L(theta) = L_task(theta) + lam sum omega (theta - anchor)^2.

g is the gradient that the step was made of: of a batch with its augmentation, and after clipping. Extra losses that
other methods of a combination add are part of the loss; where they add a penalty's gradient, name si before them.

Deviation: the penalty is applied in its proximal form unless `penalty: gradient` is set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tripletcl.continual import Lam, Method, Properties, Task
from tripletcl.errors import UserError
from tripletcl.mas import PenaltyForm, QuadraticPenalty
from tripletcl.mas.pieces import add_work


class SI(Method):
    """Synaptic Intelligence; see the module's text for the equations.

    Memory: importance and anchor; while a task is learned also w, where it started, and room for a copy of the weights
    and of the gradient.

    Args:
        lam: Weight of the penalty, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for every task.
        xi: Keeps the importance of a parameter that hardly moved from growing without bound, > 0; in units of a squared
            parameter.
        penalty: "proximal" or "gradient".

    Raises:
        UserError: a number out of its range.
    """

    name: ClassVar[str] = "si"
    properties: ClassVar[Properties] = Properties(on_pretrained=False, unlabeled=False)
    high_lam: ClassVar[float] = 1e6

    def __init__(self, lam: Lam = 1.0, xi: float = 0.1, penalty: PenaltyForm = "proximal") -> None:
        self.weigh(lam)
        if not 0 < xi < float("inf"):
            raise UserError(f"xi is {xi}, but it must be a finite number above 0: it is divided by")
        self.xi = xi
        self.penalty = QuadraticPenalty(penalty)
        self.work: dict[str, Tensor] = {}
        """w."""
        self.origin: dict[str, Tensor] = {}
        """Theta at the task's start."""
        self.trained: list[Tensor] = []
        """The parameters that w is of, in its order; what follows are copies of them and of their gradients."""
        self.theta: list[Tensor] = []
        self.gradient: list[Tensor] = []

    def check(self, tasks: Sequence[Task]) -> None:
        if any(task.importance_subset for task in tasks):
            raise UserError(
                "si measures importance while it learns, on all training images of a task, so importance cannot be "
                "restricted to chosen facts; take mas or ewc"
            )

    def before_task(self, task: Task) -> None:
        trained = {name: p for name, p in self.learner.protected.named_parameters() if p.requires_grad}
        self.origin = {name: p.detach().clone() for name, p in trained.items()}
        self.work = {name: torch.zeros_like(value) for name, value in self.origin.items()}
        self._bind()

    @torch.no_grad()
    def before_step(self) -> None:
        if self.trained:
            torch._foreach_copy_(self.theta, self.trained)
            for p, copy in zip(self.trained, self.gradient, strict=True):
                _copy_gradient(p, copy)
        self.penalty.before_step(self.lam)

    @torch.no_grad()
    def after_step(self, lr: float) -> None:
        self.penalty.after_step(lr, self.lam)
        add_work(list(self.work.values()), self.gradient, self.trained, self.theta)

    @torch.no_grad()
    def after_task(self, task: Task) -> None:
        parameters = dict(self.learner.protected.named_parameters())
        omega = {}
        for name, work in self.work.items():
            moved = parameters[name] - self.origin[name]
            omega[name] = torch.relu(work / (moved.square() + self.xi))
        self.penalty.update(parameters, omega)
        self.work, self.origin = {}, {}
        self._bind()
        self.penalty.log_scale(task.name, self.lam)

    def _bind(self) -> None:
        """Pair w with the model's parameters, and make room for the copies that a step needs."""
        parameters = dict(self.learner.protected.named_parameters())
        self.trained = [parameters[name] for name in self.work]
        self.theta = [torch.empty_like(p) for p in self.work.values()]
        self.gradient = [torch.empty_like(p) for p in self.work.values()]

    def state_dict(self) -> dict[str, Any]:
        work = {name: value.clone() for name, value in self.work.items()}  # the next step changes it in place
        return {**self.penalty.state_dict(), "work": work, "origin": dict(self.origin)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.penalty.load_state_dict(state, dict(self.learner.protected.named_parameters()))
        self.work = {name: value.clone() for name, value in state["work"].items()}
        self.origin = dict(state["origin"])
        self._bind()


def _copy_gradient(parameter: Tensor, copy: Tensor) -> None:
    """The parameter's gradient; zeros where there is none, and where a half-precision step overflowed."""
    if parameter.grad is None:
        copy.zero_()
    else:
        torch.nan_to_num(parameter.grad, nan=0.0, posinf=0.0, neginf=0.0, out=copy)
