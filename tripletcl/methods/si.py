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

import torch
from torch import Tensor

from tripletcl.continual import Lam, Properties, Task
from tripletcl.errors import UserError
from tripletcl.mas import PenaltyForm, PenaltyMethod, QuadraticPenalty
from tripletcl.mas.chunked import accumulate_path_integral_


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
        if not 0 < xi < float("inf"):
            raise UserError(f"xi is {xi}, but it must be a finite number above 0, as it is in a denominator")
        self.xi = xi
        self.penalty = QuadraticPenalty(penalty)
        self.work: dict[str, Tensor] = {}
        """w."""
        self.origin: dict[str, Tensor] = {}
        """Theta at the start of the task."""
        self.trained: list[Tensor] = []
        """The parameters in the order of w."""
        self.theta: list[Tensor] = []
        """Copies of them before the step."""
        self.gradient: list[Tensor] = []
        """Copies of their gradients."""

    def check(self, tasks: Sequence[Task]) -> None:
        if any(task.importance_subset for task in tasks):
            raise UserError(
                "si measures importance while it learns, on all training images of a task, so importance cannot be "
                "restricted to some facts; use mas or ewc"
            )

    def before_task(self, task: Task) -> None:
        trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self.origin = {name: p.detach().clone() for name, p in trained.items()}
        self.work = {name: torch.zeros_like(value) for name, value in self.origin.items()}
        self._bind()

    @torch.no_grad()
    def before_step(self) -> None:
        for p, theta, gradient in zip(self.trained, self.theta, self.gradient, strict=True):
            theta.copy_(p)
            _copy_gradient(p, gradient)
        super().before_step()

    @torch.no_grad()
    def after_step(self, lr: float) -> None:
        super().after_step(lr)
        accumulate_path_integral_(list(self.work.values()), self.gradient, self.trained, self.theta)

    @torch.no_grad()
    def after_task(self, task: Task) -> None:
        parameters, omega = self.parameters, {}
        for name, work in self.work.items():
            change = parameters[name] - self.origin[name]
            omega[name] = torch.relu(work / (change.square() + self.xi))
        self.penalty.update(parameters, omega)
        self.work, self.origin = {}, {}
        self._bind()
        self.penalty.log_scale(task.name, self.lam)

    def _bind(self) -> None:
        """Pair w with the model's parameters, and allocate the copies that a step needs."""
        parameters = self.parameters
        self.trained = [parameters[name] for name in self.work]
        self.theta = [torch.empty_like(p) for p in self.work.values()]
        self.gradient = [torch.empty_like(p) for p in self.work.values()]

    def state_dict(self) -> dict[str, Any]:
        work = {name: value.clone() for name, value in self.work.items()}  # the next step changes it in place
        return {**super().state_dict(), "work": work, "origin": dict(self.origin)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.work = {name: value.clone() for name, value in state["work"].items()}
        self.origin = dict(state["origin"])
        self._bind()


def _copy_gradient(parameter: Tensor, copy: Tensor) -> None:
    """Copy the parameter's gradient; zeros if it is None, and where a half-precision step overflowed."""
    if parameter.grad is None:
        copy.zero_()
    else:
        torch.nan_to_num(parameter.grad, nan=0.0, posinf=0.0, neginf=0.0, out=copy)
