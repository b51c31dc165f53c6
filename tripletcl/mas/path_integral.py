"""The path integral of Synaptic Intelligence (Zenke, Poole, Ganguli, ICML 2017).

While a task is learned, every parameter accumulates by how much its own change has lowered the loss,

    w <- w - g delta,

where g is the gradient of a step and delta the parameter's change in it. After the task, with Delta the change over all
of it, its importance is relu(w / (Delta^2 + xi)).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tripletcl.errors import UserError
from tripletcl.mas.chunked import accumulate_path_integral_
from tripletcl.mas.penalty import grown


class PathIntegral:
    """w of the parameters that a task trains.

    Memory: w and the weights at the task's start, and a copy of the weights and of the gradient.

    Attributes:
        work: Parameter name -> w; empty before `begin`.
        origin: Parameter name -> theta at the start of the task.
        theta: Parameter name -> theta before the current step.
        gradient: Parameter name -> its gradient.
    """

    def __init__(self) -> None:
        self.work: dict[str, Tensor] = {}
        self.origin: dict[str, Tensor] = {}
        self.theta: dict[str, Tensor] = {}
        self.gradient: dict[str, Tensor] = {}
        self._parameters: list[nn.Parameter] = []

    def begin(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Begin a task: w is 0 for every parameter that requires a gradient."""
        self.work, self.origin, self.theta = {}, {}, {}
        self.follow({name: p for name, p in parameters.items() if p.requires_grad})

    def follow(self, parameters: Mapping[str, nn.Parameter]) -> None:
        """Pair w with the parameters of the task, of which some may be new, larger, or on another device."""
        for stored, fill in ((self.work, 0.0), (self.origin, None), (self.theta, None), (self.gradient, 0.0)):
            values = {name: grown(name, stored.get(name), p, fill) for name, p in parameters.items()}
            stored.clear()
            stored.update(values)
        self._parameters = list(parameters.values())

    @torch.no_grad()
    def copy_theta(self) -> None:
        """Copy the parameters, before a step."""
        for p, theta in zip(self._parameters, self.theta.values(), strict=True):
            theta.copy_(p)

    @torch.no_grad()
    def copy_gradient(self) -> None:
        """Copy the gradients; zeros if there is none, and where a half-precision step overflowed."""
        for p, copy in zip(self._parameters, self.gradient.values(), strict=True):
            if p.grad is None:
                copy.zero_()
            else:
                torch.nan_to_num(p.grad, nan=0.0, posinf=0.0, neginf=0.0, out=copy)

    @torch.no_grad()
    def accumulate(self) -> None:
        """`w -= g (theta - theta before the step)`, after the step."""
        accumulate_path_integral_(
            list(self.work.values()), list(self.gradient.values()), self._parameters, list(self.theta.values())
        )

    @torch.no_grad()
    def importance(self, xi: float) -> dict[str, Tensor]:
        """relu(w / (Delta^2 + xi)) by parameter name."""
        return {
            name: torch.relu(work / ((p - self.origin[name]).square() + xi))
            for (name, work), p in zip(self.work.items(), self._parameters, strict=True)
        }

    def state_dict(self) -> dict[str, Any]:
        """w and the start of the task."""
        work = {name: value.clone() for name, value in self.work.items()}  # the next step changes it in place
        return {"work": work, "origin": dict(self.origin)}

    def load_state_dict(self, state: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]) -> None:
        """Restore a `state_dict`, for a model's parameters."""
        self.work = {name: value.clone() for name, value in state["work"].items()}
        self.origin = dict(state["origin"])
        self.theta = {name: value.clone() for name, value in state.get("theta", {}).items()}
        self.follow({name: parameters[name] for name in self.work})


def checked_xi(xi: float) -> float:
    """Return xi.

    Raises:
        UserError: It is not a finite number above 0.
    """
    if not 0 < xi < float("inf"):
        raise UserError(f"xi is {xi}, but it must be a finite number above 0, as it is in a denominator")
    return xi
