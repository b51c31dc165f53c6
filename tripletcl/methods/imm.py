"""Incremental Moment Matching (Lee, Kim, Jun, Ha, Zhang, NeurIPS 2017).

Every task k is learned to weights theta_k of its own; what is evaluated after task t is their merge, elementwise,

    mean   theta = sum_k alpha_k theta_k / sum_k alpha_k
    mode   theta = sum_k alpha_k f_k theta_k / sum_k alpha_k f_k,   f_k the diagonal Fisher information of task k,

with alpha_t = 1 for the latest task and alpha_k = past for each earlier one. Averaging makes sense only if no barrier
of the loss separates the theta_k, which three kinds of transfer provide for:

    weight-transfer   task k starts from theta_(k-1), always;
    L2-transfer       lam ||theta - theta_(k-1)||^2 is added to the loss of task k;
    drop-transfer     in every step a weight is theta_(k-1) with probability p, else (theta - p theta_(k-1)) / (1 - p),
                      whose mean is theta.

Only sums over the tasks are stored, sum f_k theta_k and sum f_k, in addition to the latest theta_k.

Deviations: the Fisher information needs no label, it is E_x sum_d (dF_d(x) / dtheta)^2 of the un-normalised outputs, as
in `ewc`; a floor far below its first mean makes the merge the plain mean where it is zero for all tasks; drop-transfer
drops single weights and not nodes; L2-transfer applies the penalty in its proximal form; buffers, such as the running
statistics of batch normalisation, are not merged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tripletcl import group
from tripletcl.continual import Lam, Method, Properties, Task, checked_weight
from tripletcl.continual.task import derived_seed
from tripletcl.errors import UserError
from tripletcl.mas import Engine, QuadraticPenalty, task_importance
from tripletcl.mas.fisher import checked_draws, gaussian_projections

FLOOR = 1e-6
"""Minimum Fisher information of a parameter, relative to the mean over all parameters after the first task."""


class IMM(Method):
    """Incremental Moment Matching; see the module's text for the equations.

    In a combination name it first: the methods after it then see the weights that drop-transfer has restored.

    Args:
        merge: "mode", weighted by Fisher information, or "mean".
        lam: Weight of L2-transfer, >= 0; "auto" chooses it for every task.
        drop: Probability p of drop-transfer, in [0, 1).
        past: Weight of each earlier task in the merge, relative to the latest; 0 merges nothing. With lam 0 and drop 0
            in addition it is fine-tuning, bit for bit.
        draws: Noise vectors a sample for the estimate of the Fisher information, each a backward pass.
        seed: Of the noise.
        engine: "hooks" (one pass, rules per layer type) or "loop" (one sample at a time, any layer); for "mode".

    Raises:
        UserError: A number out of its range.
    """

    name: ClassVar[str] = "imm"
    properties: ClassVar[Properties] = Properties(adaptive=True)
    zero: ClassVar[Mapping[str, float]] = {"lam": 0.0, "drop": 0.0, "past": 0.0}
    high_lam: ClassVar[float] = 100.0

    def __init__(
        self,
        merge: Literal["mean", "mode"] = "mode",
        lam: Lam = 0.01,
        drop: float = 0.0,
        past: float = 1.0,
        draws: int = 1,
        seed: int = 0,
        engine: Engine = "hooks",
    ) -> None:
        if not 0 <= drop < 1:
            raise UserError(f"drop is {drop}, but a probability of dropping weights is at least 0 and below 1")
        self.set_lam(lam)
        self.merge, self.drop, self.past = merge, drop, checked_weight(past, "past")
        self.draws, self.seed = checked_draws(draws), seed
        self.measure: dict[str, Any] = {"statistic": torch.square, "engine": engine}
        equal = merge == "mean" and past == 1
        self.properties = replace(self.properties, adaptive=merge == "mode", consistent=equal)  # type: ignore[misc]
        self.penalty = QuadraticPenalty()  # its anchor is theta_k
        self.weighted: dict[str, Tensor] = {}
        """sum f_k theta_k."""
        self.weight: dict[str, Tensor] = {}
        """sum f_k."""
        self.floor, self.tasks = 0.0, 0
        self.perturbed: list[tuple[nn.Parameter, Tensor, Tensor]] = []

    @torch.no_grad()
    def before_task(self, task: Task) -> None:
        """Weight-transfer: start from the last task's own weights, not from the merge."""
        for name, p in self._trained().items():
            if name in self.penalty.anchor:
                p.copy_(self.penalty.anchor[name])

    @torch.no_grad()
    def before_forward(self) -> None:
        """Drop-transfer: perturb the weights, and store theta and d perturbed / d theta."""
        if not (self.drop and self.penalty.active):
            return
        for name, p in self._trained().items():
            if name in self.penalty.anchor:
                anchor, theta = self.penalty.anchor[name], p.clone()
                keep = torch.rand_like(p) >= self.drop
                p.copy_(torch.where(keep, (theta - self.drop * anchor) / (1 - self.drop), anchor))
                self.perturbed.append((p, theta, keep / (1 - self.drop)))

    @torch.no_grad()
    def before_step(self) -> None:
        for p, theta, slope in self.perturbed:
            p.copy_(theta)
            if p.grad is not None:
                p.grad.mul_(slope)
        self.perturbed.clear()

    def after_step(self, lr: float) -> None:
        self.penalty.proximal_step(lr, self.lam)

    def after_task(self, task: Task) -> None:
        parameters = self._trained()
        # All weights are equally important: one number a parameter, which broadcasts, is enough for omega.
        self.penalty.omega = {name: p.new_ones(()) for name, p in parameters.items()}
        self.penalty.anchor = {name: p.detach().clone() for name, p in parameters.items()}
        self.penalty.bind(parameters)
        if self.past and parameters:
            self._merge(parameters, self._weights(task, parameters))
        self.tasks += 1

    @torch.no_grad()
    def add_importance(self, task: Task, weight: float, recompute: bool = False) -> None:
        if not self.past:
            return
        parameters = self._trained()
        fisher = self._weights(task, parameters)
        if recompute:
            self.weighted, self.weight = {}, {}
        for name, p in parameters.items():
            share = weight * fisher[name]
            self.weighted[name] = self.weighted.get(name, torch.zeros_like(p)) + share * p
            self.weight[name] = self.weight.get(name, torch.zeros_like(p)) + share

    def _trained(self) -> dict[str, nn.Parameter]:
        """The trained parameters, in the model's own order: the random numbers depend on it."""
        return {name: p for name, p in self.parameters.items() if p.requires_grad}

    def _weights(self, task: Task, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        """f of the task just learned: a tensor of each parameter's shape, or one that broadcasts."""
        if self.merge == "mean":
            return {name: p.new_ones(()) for name, p in parameters.items()}
        earlier = group.share(len(task.importance_items)).start
        noise = gaussian_projections(np.random.default_rng(derived_seed(self.seed, self.tasks)), self.draws, earlier)
        fisher = task_importance(self.learner, task, self.inputs, scalar=noise, **self.measure)
        if fisher and not self.floor:
            count = sum(value.numel() for value in fisher.values())
            self.floor = FLOOR * sum(value.sum().item() for value in fisher.values()) / count
        # Above zero even if no task has any information: the merge divides by the sum.
        return {name: fisher.get(name, p.new_zeros(())) + (self.floor or 1e-30) for name, p in parameters.items()}

    @torch.no_grad()
    def _merge(self, parameters: dict[str, nn.Parameter], weights: dict[str, Tensor]) -> None:
        """Replace the model's weights by the merge over all tasks, and add the latest task to the sums."""
        for name, p in parameters.items():
            weighted, weight = weights[name] * p, weights[name]
            if name in self.weight:
                p.copy_((self.past * self.weighted[name] + weighted) / (self.past * self.weight[name] + weight))
                weighted, weight = self.weighted[name] + weighted, self.weight[name] + weight
            self.weighted[name], self.weight[name] = weighted, weight

    def state_dict(self) -> dict[str, Any]:
        sums = {"weighted": dict(self.weighted), "weight": dict(self.weight)}
        return {"penalty": self.penalty.state_dict(), **sums, "floor": self.floor, "tasks": self.tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.penalty.load_state_dict(state["penalty"], self.parameters)
        self.weighted, self.weight = dict(state["weighted"]), dict(state["weight"])
        self.floor, self.tasks = state["floor"], state["tasks"]
