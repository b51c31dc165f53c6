"""The quadratic penalty `lam * sum omega (theta - anchor)^2` (no 1/2), shared by every importance method.

Two forms of the same penalty:

- gradient: `2 lam omega (theta - anchor)` is added to the loss gradient before the step, as in the paper's code. It
  diverges once `lr * 2 * lam * max(omega)` passes about `2 * (1 + momentum)`.
- proximal: after the optimizer's step on the loss alone, `theta <- argmin_x |x - theta|^2 / (2 lr) + penalty(x)`, which
  is `(theta + 2 lr lam omega anchor) / (1 + 2 lr lam omega)`: stable at any lam, and momentum does not carry it.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

PenaltyForm = Literal["proximal", "gradient"]


class QuadraticPenalty:
    """Importance and anchor of named parameters, and the penalty in both its forms.

    Memory: two tensors a parameter, however many tasks there were. All is done by multi-tensor operations.
    """

    def __init__(self) -> None:
        self.omega: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}
        self._parameters: list[Tensor] = []

    @property
    def active(self) -> bool:
        """False until the first task has been learned."""
        return bool(self.omega)

    @torch.no_grad()
    def update(self, parameters: dict[str, nn.Parameter], omega: dict[str, Tensor]) -> None:
        """Add a task's importance and move the anchor to the parameters as they are now.

        Args:
            parameters: Name to parameter; may have grown since the last task.
            omega: Name to importance, same shapes, all >= 0.
        """
        for name, importance in omega.items():
            known = self.omega.get(name)
            self.omega[name] = importance.clone() if known is None else known + importance
            self.anchor[name] = parameters[name].detach().clone()
        self.bind(parameters)

    def bind(self, parameters: dict[str, nn.Parameter]) -> None:
        """Pair the stored tensors with a model's parameters."""
        self._parameters = [parameters[name] for name in self.omega]

    @torch.no_grad()
    def add_gradient(self, lam: float) -> None:
        """`p.grad += 2 lam omega (theta - anchor)`, also where the loss left no gradient (its grad is None)."""
        if (
            not self.active or lam == 0
        ):  # lam 0 may not even turn a missing gradient into zeros: weight decay would see it
            return
        pull = torch._foreach_sub(self._parameters, _tensors(self.anchor))
        torch._foreach_mul_(pull, _tensors(self.omega))
        torch._foreach_add_([_gradient(p) for p in self._parameters], pull, alpha=2 * lam)

    @torch.no_grad()
    def proximal_step(self, lr: float, lam: float) -> None:
        """`theta <- (theta + c anchor) / (1 + c)` with `c = 2 lr lam omega`."""
        if not self.active:
            return
        strength = list(torch._foreach_mul(_tensors(self.omega), 2 * lr * lam))
        torch._foreach_addcmul_(self._parameters, strength, _tensors(self.anchor))
        torch._foreach_add_(strength, 1.0)
        torch._foreach_div_(self._parameters, strength)

    @torch.no_grad()
    def value(self, lam: float) -> float:
        """The penalty itself, for logs."""
        terms = zip(self._parameters, self.omega.values(), self.anchor.values(), strict=True)
        return lam * sum((omega * (p - anchor).square()).sum().item() for p, omega, anchor in terms)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Importance and anchor by parameter name."""
        return {"omega": dict(self.omega), "anchor": dict(self.anchor)}

    def load_state_dict(self, state: dict[str, dict[str, Tensor]], parameters: dict[str, nn.Parameter]) -> None:
        """Take up what `state_dict` gave."""
        self.omega, self.anchor = dict(state["omega"]), dict(state["anchor"])
        self.bind(parameters)


def _tensors(named: dict[str, Tensor]) -> list[Tensor]:
    return list(named.values())


def _gradient(parameter: Tensor) -> Tensor:
    """The parameter's gradient; zeros, now its own, where the loss left none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
