"""Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017; online: Schwarz et al., ICML 2018).

Importance is the diagonal of the Fisher information, and the next task is learned under

    separate:  L(theta) = L_task(theta) + lam sum_t sum F_t (theta - anchor_t)^2,         one anchor per task,
    online:    L(theta) = L_task(theta) + lam sum Omega (theta - anchor)^2,               the newest anchor alone,
               Omega_t = gamma Omega_{t-1} + F_t.

The separate terms are kept exactly in constant memory: quadratic terms add up, so their sum is, up to a constant, one
term with importance sum_t F_t around the mean of the anchors weighted by F_t.

Two kinds of F:

- embedding: F = E_x sum_d (d F_d(x) / d theta)^2, the Fisher information of an output with Gaussian noise of variance 1
  around it. It needs no label and no D passes backward: with eps ~ N(0, I), g = d (eps . F(x)) / d theta has
  E g^2 = sum_d (d F_d / d theta)^2, so the mean of g^2 over samples is an estimate without bias.
- loss: the empirical Fisher information, the mean over the task's labelled training inputs, without augmentation, of
  the squared gradient of the loss of that one sample.

Deviations: the penalty has no 1/2, so that lam here is half the lam of the papers; it is applied in its proximal form
unless `penalty: gradient` is set.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tripletcl.continual import Batch, Inputs, Lam, Learner, Method, Properties, Task
from tripletcl.continual.task import derived_seed
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError
from tripletcl.mas import Engine, PenaltyForm, QuadraticPenalty, Scalar, importance, task_importance
from tripletcl.mas.penalty import Anchor


class EWC(Method):
    """Elastic Weight Consolidation; see the module's text for the equations.

    Args:
        lam: Weight of the penalty, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for every task.
        penalty: "proximal" or "gradient".
        fisher: "embedding", on `Task.importance_items` without labels, or "loss", on the task's training items.
        form: "online" or "separate".
        gamma: What the online form keeps of the importance before, in [0, 1].
        draws: Noise vectors a sample, each a pass backward; for "embedding".
        seed: Of the noise.
        engine: "hooks" (one pass, rules per layer type) or "loop" (one sample at a time, any layer); for "embedding".
            "loss" always goes one sample at a time: a loss may have parameters of its own, such as the text projection.

    Raises:
        UserError: a number out of its range, or settings that do not go together.
    """

    name: ClassVar[str] = "ewc"
    properties: ClassVar[Properties] = Properties(adaptive=True)

    def __init__(
        self,
        lam: Lam = 1.0,
        penalty: PenaltyForm = "proximal",
        fisher: Literal["embedding", "loss"] = "embedding",
        form: Literal["online", "separate"] = "online",
        gamma: float = 1.0,
        draws: int = 1,
        seed: int = 0,
        engine: Engine = "hooks",
    ) -> None:
        self.weigh(lam)
        if not 0 <= gamma <= 1:
            raise UserError(f"gamma is {gamma}, but the online form keeps a share between 0 and 1 of what was")
        if form == "separate" and gamma != 1:
            raise UserError("the separate form keeps every task's term as it was, so it has no gamma but 1")
        if draws < 1:
            raise UserError(f"draws is {draws}, but the estimate takes one noise vector a sample at least")
        self.fisher, self.form, self.gamma = fisher, form, gamma
        self.draws, self.seed = draws, seed
        self.measure: dict[str, Any] = {"statistic": torch.square, "engine": engine}
        if fisher == "loss":
            self.properties = Properties(unlabeled=False)  # type: ignore[misc]
        self.penalty = QuadraticPenalty(penalty)
        self.tasks = 0

    def check(self, tasks: Sequence[Task]) -> None:
        if self.fisher == "loss" and any(task.importance_subset for task in tasks):
            raise UserError(
                "ewc with fisher loss takes all labelled training images of a task, so importance cannot be restricted "
                "to chosen facts; take fisher embedding"
            )

    def before_step(self) -> None:
        self.penalty.before_step(self.lam)

    def after_step(self, lr: float) -> None:
        self.penalty.after_step(lr, self.lam)

    def after_task(self, task: Task) -> None:
        self._add(self._information(task), keep=self.gamma)
        self.tasks += 1
        self.penalty.log_scale(task.name, self.lam)

    def add_importance(self, task: Task, weight: float, afresh: bool = False) -> None:
        information = self._information(task)
        if afresh:
            self.penalty.forget()
        self._add(information, add=weight)
        self.penalty.log_scale(task.name, self.lam)

    def _information(self, task: Task) -> dict[str, Tensor]:
        if self.fisher == "loss":
            return loss_fisher(self.learner, task, self.inputs)
        noise = gaussian_projections(np.random.default_rng(derived_seed(self.seed, self.tasks)), self.draws)
        return task_importance(self.learner, task, self.inputs, scalar=noise, **self.measure)

    def _add(self, information: dict[str, Tensor], keep: float = 1.0, add: float = 1.0) -> None:
        parameters = dict(self.learner.protected.named_parameters())
        anchor: Anchor = "newest" if self.form == "online" else "mean"
        self.penalty.update(parameters, information, keep=keep, add=add, anchor=anchor)

    def state_dict(self) -> dict[str, Any]:
        return {**self.penalty.state_dict(), "tasks": self.tasks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.penalty.load_state_dict(state, dict(self.learner.protected.named_parameters()))
        self.tasks = state["tasks"]


def gaussian_projections(generator: np.random.Generator, draws: int) -> Scalar:
    """The scalars eps_k . F(x) / sqrt(draws): the sum of their squared gradients estimates sum_d (d F_d / d theta)^2.

    The noise is drawn sample after sample, so it does not depend on how the samples fall into batches.
    """

    def scalar(outputs: Tensor) -> Tensor:
        flat = outputs.reshape(len(outputs), -1)  # [B, D]
        noise = generator.standard_normal((len(flat), draws, flat.shape[1])) / math.sqrt(draws)
        return torch.einsum("bd,bkd->bk", flat, torch.from_numpy(noise).to(flat))

    return scalar


def loss_fisher(learner: Learner, task: Task, inputs: Inputs) -> dict[str, Tensor]:
    """The mean over the task's items of the squared gradient of each one's own loss."""
    rows = itertools.count()

    def loss(sample: Tensor) -> Tensor:
        """`[1, ...]` to `[1]`; called once for every item, in their order."""
        one = slice(row := next(rows), row + 1)
        targets = torch.from_numpy(task.targets[one]).to(sample.device)
        return learner.loss(learner(sample), Batch(sample, targets, task.items[one])).reshape(1)

    with eval_mode(learner):  # a head of the task's own is not among the protected
        return importance(
            learner.protected,
            inputs(task.items),
            forward=loss,
            scalar=lambda value: value,
            statistic=torch.square,
            engine="loop",
        )
