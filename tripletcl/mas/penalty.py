"""The quadratic penalty `lam * sum omega (theta - anchor)^2` (no 1/2), shared by every importance method.

Two forms of the same penalty:

- gradient: `2 lam omega (theta - anchor)` is added to the loss gradient before the step, as in the paper's code. It
  diverges once `lr * 2 * lam * max(omega)` passes about `2 * (1 + momentum)`.
- proximal: after the optimizer's step on the loss alone, `theta <- argmin_x |x - theta|^2 / (2 lr) + penalty(x)`, which
  is `(theta + 2 lr lam omega anchor) / (1 + 2 lr lam omega)`: stable at any lam, and momentum does not carry it.

Quadratic terms add up: `sum_t omega_t (theta - anchor_t)^2` is, up to a constant, one term with the importance
`sum_t omega_t` around the mean of the anchors weighted by omega_t. So an anchor for each task costs no memory either.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tripletcl.mas.pieces import TINY, add_pull, draw_near

PenaltyForm = Literal["proximal", "gradient"]
Anchor = Literal["newest", "mean"]

log = logging.getLogger("tripletcl")


class QuadraticPenalty:
    """Importance and anchor of named parameters, and the penalty in both its forms.

    Memory: two tensors a parameter, however many tasks there were. Tensors are replaced, never changed, so what
    `state_dict` gave stays as it was. A parameter that needs no gradient stands still.

    Args:
        form: The form that `before_step` and `after_step` apply.
    """

    def __init__(self, form: PenaltyForm = "proximal") -> None:
        self.form = form
        self.omega: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self.peak_lr = 0.0
        self._parameters: list[Tensor] = []

    @property
    def active(self) -> bool:
        """False until the first task's importance was added."""
        return bool(self.omega)

    @torch.no_grad()
    def update(
        self,
        parameters: dict[str, nn.Parameter],
        omega: dict[str, Tensor],
        *,
        keep: float = 1.0,
        add: float = 1.0,
        anchor: Anchor = "newest",
    ) -> None:
        """After a task: `Omega <- keep Omega + add omega`, and move the anchor.

        Args:
            parameters: Name to parameter; may have grown since the last task.
            omega: Name to the task's importance, same shapes, all >= 0. Empty where the task has none: then the
                importance of the tasks before stays as it is.
            keep: The weight, >= 0, of the importance before.
            add: The weight, >= 0, of the task's importance.
            anchor: "newest" moves it to the parameters as they are now. "mean" moves it towards them by the task's
                share in the new importance, which keeps the sum of the tasks' penalties, each around its own anchor.
        """
        names = list(self.omega | omega)
        theta = [parameters[name].detach().clone() for name in names]
        old = [self.anchor.get(name, p) for name, p in zip(names, theta, strict=True)]
        moved: Sequence[Tensor] = old if anchor == "mean" else theta
        if omega:
            task = torch._foreach_mul(_all(names, omega, theta), add)
            total = torch._foreach_add(task, _all(names, self.omega, theta), alpha=keep)
            if anchor == "mean":  # where nothing is important the share is 0 / TINY = 0, and any anchor will do
                moved = torch._foreach_lerp(old, theta, torch._foreach_div(task, torch._foreach_clamp_min(total, TINY)))
            self.omega = dict(zip(names, total, strict=True))
        self.anchor = dict(zip(names, moved, strict=True))
        self.bind(parameters)

    def forget(self) -> None:
        """Be as before the first task."""
        self.omega, self.anchor, self._parameters = {}, {}, []

    def bind(self, parameters: dict[str, nn.Parameter]) -> None:
        """Pair the stored tensors with a model's parameters, and lay them out in memory as these are."""
        for stored in (self.omega, self.anchor):
            stored.update({name: _lying_as(value, parameters[name]) for name, value in stored.items()})
        self._parameters = [parameters[name] for name in self.omega]

    def before_step(self, lam: float) -> None:
        """For a method's hook of that name: the gradient form."""
        if self.form == "gradient":
            self.add_gradient(lam)

    def after_step(self, lr: float, lam: float) -> None:
        """For a method's hook of that name: the proximal form."""
        self.peak_lr = max(self.peak_lr, lr)
        if self.form == "proximal":
            self.proximal_step(lr, lam)

    @torch.no_grad()
    def add_gradient(self, lam: float) -> None:
        """`p.grad += 2 lam omega (theta - anchor)`, also where the loss left no gradient (its grad is None)."""
        if lam == 0:  # it may not even turn a missing gradient into zeros: weight decay would see
            return
        parameters, omega, anchor = self._pulled()
        add_pull([_gradient(p) for p in parameters], parameters, omega, anchor, 2 * lam)

    @torch.no_grad()
    def proximal_step(self, lr: float, lam: float) -> None:
        """`theta <- (theta + c anchor) / (1 + c)` with `c = 2 lr lam omega`."""
        if lr * lam == 0:
            return
        parameters, omega, anchor = self._pulled()
        draw_near(parameters, omega, anchor, 2 * lr * lam)

    def _pulled(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The parameters that do not stand still, their importance and their anchor."""
        moving = [(p, name) for p, name in zip(self._parameters, self.omega, strict=True) if p.requires_grad]
        return (
            [p for p, _ in moving],
            [self.omega[name] for _, name in moving],
            [self.anchor[name] for _, name in moving],
        )

    def log_scale(self, after: str, lam: float) -> None:
        """Say how large the importance is: without its scale lam is a number without meaning."""
        omega = _tensors(self.omega)
        count = sum(value.numel() for value in omega)
        total, largest = sum(v.sum().item() for v in omega), max((v.max().item() for v in omega), default=0.0)
        log.info(
            "importance after %s: mean %.3g, max %.3g over %d parameters; lr * 2 * lam * max = %.3g, and the gradient "
            "form of the penalty diverges where this passes about 2 * (1 + momentum); the proximal form never does",
            after,
            total / max(count, 1),
            largest,
            count,
            self.peak_lr * 2 * lam * largest,
        )

    def state_dict(self) -> dict[str, Any]:
        """Importance and anchor by parameter name, and the largest learning rate so far."""
        return {"omega": dict(self.omega), "anchor": dict(self.anchor), "peak_lr": self.peak_lr}

    def load_state_dict(self, state: dict[str, Any], parameters: dict[str, nn.Parameter]) -> None:
        """Take up what `state_dict` gave."""
        self.omega, self.anchor = dict(state["omega"]), dict(state["anchor"])
        self.peak_lr = state["peak_lr"]
        self.bind(parameters)


def _tensors(named: dict[str, Tensor]) -> list[Tensor]:
    return list(named.values())


def _lying_as(value: Tensor, parameter: Tensor) -> Tensor:
    if value.stride() == parameter.stride() or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _all(names: list[str], named: dict[str, Tensor], like: list[Tensor]) -> list[Tensor]:
    """The tensors of all names, zeros where there is none."""
    return [named[name] if name in named else torch.zeros_like(p) for name, p in zip(names, like, strict=True)]


def _gradient(parameter: Tensor) -> Tensor:
    """The parameter's gradient; zeros, now its own, where the loss left none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
