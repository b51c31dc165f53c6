"""The quadratic penalty `lam * sum omega (theta - anchor)^2` (no 1/2), shared by every importance method.

Two forms of the same penalty:

- gradient: `2 lam omega (theta - anchor)` is added to the loss gradient before the step, as in the paper's code. It
  diverges once `lr * 2 * lam * max(omega)` exceeds about `2 * (1 + momentum)`.
- proximal: after the optimizer's step on the loss, `theta <- argmin_x |x - theta|^2 / (2 lr) + penalty(x)`, which is
  `(theta + 2 lr lam omega anchor) / (1 + 2 lr lam omega)`: stable at any lam, and no part of the momentum.

Quadratic terms add up: `sum_t omega_t (theta - anchor_t)^2` is, up to a constant, one term with the importance
`sum_t omega_t` around the mean of the anchors weighted by omega_t. So an anchor for each task needs no more memory.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tripletcl.continual import Method
from tripletcl.errors import UserError
from tripletcl.mas.chunked import TINY, add_penalty_gradient_, proximal_step_

PenaltyForm = Literal["proximal", "gradient"]
Anchor = Literal["latest", "mean"]

log = logging.getLogger("tripletcl")


class QuadraticPenalty:
    """Importance and anchor of named parameters, and the penalty in both its forms.

    Memory: two tensors a parameter, whatever the number of tasks. Tensors are replaced, never changed, so that a
    `state_dict` stays as it was. A parameter that requires no gradient is left alone.

    Args:
        form: The form that `before_step` and `after_step` apply.
    """

    def __init__(self, form: PenaltyForm = "proximal") -> None:
        self.form = form
        self.omega: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self.peak_lr = 0.0
        """The largest learning rate so far."""
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
        anchor: Anchor = "latest",
    ) -> None:
        """Add a task: `Omega <- keep Omega + add omega`, and move the anchor.

        Args:
            parameters: Name to parameter; there may be more than at the last task.
            omega: Name to the task's importance, same shapes, all >= 0. If it is empty, the importance stays as it is.
            keep: The weight, >= 0, of the importance so far.
            add: The weight, >= 0, of the task's importance.
            anchor: "latest" moves it to the current parameters. "mean" moves it towards them by the task's share in
                the new importance, which keeps the sum of the tasks' penalties, each around its own anchor.
        """
        anchors: dict[str, Tensor] = {}
        for name in self.omega | omega:
            theta = parameters[name].detach().clone()
            old = self.anchor.get(name, theta)
            if omega:
                task = add * omega.get(name, torch.zeros_like(theta))
                total = task + keep * self.omega.get(name, torch.zeros_like(theta))
                if anchor == "mean":  # where nothing is important the share is 0 / TINY = 0, and any anchor will do
                    old = torch.lerp(old, theta, (task / total.clamp_min(TINY)).to(theta.dtype))
                self.omega[name] = total
            anchors[name] = old if anchor == "mean" else theta
        self.anchor = anchors
        self.bind(parameters)

    def reset(self) -> None:
        """Forget all tasks."""
        self.omega, self.anchor, self._parameters = {}, {}, []

    @torch.no_grad()
    def follow(self, parameters: dict[str, nn.Parameter]) -> None:
        """Follow parameters that became larger, moved to another device or were replaced since the last task.

        Raises:
            UserError: One is missing, or smaller.
        """
        for name in self.omega:
            if name not in parameters:
                raise UserError(f"the model has lost its parameter {name}, which holds what earlier tasks learned")
            self.omega[name] = grown(name, self.omega[name], parameters[name], fill=0.0)
            self.anchor[name] = grown(name, self.anchor[name], parameters[name])
        self.bind(parameters)

    def bind(self, parameters: dict[str, nn.Parameter]) -> None:
        """Pair the stored tensors with a model's parameters, and give them the same memory layout."""
        for stored in (self.omega, self.anchor):
            stored.update({name: _in_layout_of(parameters[name], value) for name, value in stored.items()})
        self._parameters = [parameters[name] for name in self.omega]

    def before_step(self, lam: float) -> None:
        """Apply the gradient form, for a method's hook of that name."""
        if self.form == "gradient":
            self.add_gradient(lam)

    def after_step(self, lr: float, lam: float) -> None:
        """Apply the proximal form, for a method's hook of that name."""
        self.peak_lr = max(self.peak_lr, lr)
        if self.form == "proximal":
            self.proximal_step(lr, lam)

    @torch.no_grad()
    def add_gradient(self, lam: float) -> None:
        """`p.grad += 2 lam omega (theta - anchor)`, also where the loss left no gradient (its grad is None)."""
        if lam == 0:  # a missing gradient must stay None, or weight decay would change the parameter
            return
        parameters, omega, anchor = self._trained()
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gradients = [p.grad for p in parameters if p.grad is not None]
        add_penalty_gradient_(gradients, parameters, omega, anchor, 2 * lam)

    @torch.no_grad()
    def proximal_step(self, lr: float, lam: float) -> None:
        """`theta <- (theta + c anchor) / (1 + c)` with `c = 2 lr lam omega`."""
        if lr * lam == 0:
            return
        parameters, omega, anchor = self._trained()
        proximal_step_(parameters, omega, anchor, 2 * lr * lam)

    def _trained(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The parameters that are trained, their importance and their anchor."""
        trained = [(p, name) for p, name in zip(self._parameters, self.omega, strict=True) if p.requires_grad]
        return (
            [p for p, _ in trained],
            [self.omega[name] for _, name in trained],
            [self.anchor[name] for _, name in trained],
        )

    def log_scale(self, after: str, lam: float) -> None:
        """Log the scale of the importance, without which a value of lam has no meaning."""
        omega = list(self.omega.values())
        count = sum(value.numel() for value in omega)
        total, largest = sum(v.sum().item() for v in omega), max((v.max().item() for v in omega), default=0.0)
        log.info(
            "importance after %s: mean %.3g, max %.3g over %d parameters; lr * 2 * lam * max = %.3g: the gradient form "
            "of the penalty diverges where it exceeds about 2 * (1 + momentum), the proximal form never does",
            after,
            total / max(count, 1),
            largest,
            count,
            self.peak_lr * 2 * lam * largest,
        )

    def state_dict(self) -> dict[str, Any]:
        """Importance and anchor by parameter name, and the largest learning rate."""
        return {"omega": dict(self.omega), "anchor": dict(self.anchor), "peak_lr": self.peak_lr}

    def load_state_dict(self, state: dict[str, Any], parameters: dict[str, nn.Parameter]) -> None:
        """Restore a `state_dict`, for a model's parameters."""
        self.omega, self.anchor = dict(state["omega"]), dict(state["anchor"])
        self.peak_lr = state["peak_lr"]
        self.bind(parameters)


class PenaltyMethod(Method):
    """A method whose loss is L(theta) = L_task(theta) + weight * sum omega (theta - anchor)^2.

    Attributes:
        penalty: Holds omega and anchor.
        counters: Names of the attributes, plain values, that are stored together with them.
    """

    counters: ClassVar[tuple[str, ...]] = ()

    penalty: QuadraticPenalty

    @property
    def weight(self) -> float:
        """The weight of the penalty."""
        return self.lam

    def before_step(self) -> None:
        self.penalty.before_step(self.weight)

    def after_step(self, lr: float) -> None:
        self.penalty.after_step(lr, self.weight)

    def state_dict(self) -> dict[str, Any]:
        return {**self.penalty.state_dict(), **{name: getattr(self, name) for name in self.counters}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.penalty.load_state_dict(state, self.parameters)
        for name in self.counters:
            setattr(self, name, state[name])


def grown(name: str, old: Tensor | None, parameter: Tensor, fill: float | None = None) -> Tensor:
    """A stored value of a parameter on its device, and in the first rows and columns of a larger one.

    Args:
        name: The parameter's name.
        old: The value; None if there is none.
        parameter: The parameter.
        fill: The value of new entries; by default the parameter's own.

    Raises:
        UserError: The parameter has become smaller.
    """
    if old is not None and old.shape == parameter.shape:
        return old.to(parameter.device)
    new = parameter.detach().clone() if fill is None else torch.full_like(parameter, fill)
    if old is None:
        return new
    if old.ndim != new.ndim or any(a > b for a, b in zip(old.shape, new.shape, strict=True)):
        raise UserError(f"{name} had shape {[*old.shape]} and now has {[*new.shape]}: a parameter may only grow")
    new = new.to(old.dtype)
    new[tuple(slice(size) for size in old.shape)] = old.to(new.device)
    return new


def _in_layout_of(parameter: Tensor, value: Tensor) -> Tensor:
    if value.stride() == parameter.stride() or value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
