"""Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017; online: Schwarz et al., ICML 2018).

Importance is the diagonal of the Fisher information, and the next task is learned under

    separate:  L(theta) = L_task(theta) + lam sum_t sum F_t (theta - anchor_t)^2,         one anchor per task,
    online:    L(theta) = L_task(theta) + lam sum Omega (theta - anchor)^2,               the latest anchor only,
               Omega_t = gamma Omega_{t-1} + F_t.

The separate terms take constant memory: quadratic terms add up, so their sum is, up to a constant, one term with
importance sum_t F_t around the mean of the anchors weighted by F_t.

Two kinds of F:

- embedding: F = E_x sum_d (d F_d(x) / d theta)^2, the Fisher information of an output with Gaussian noise of variance
  1. It needs no label and no D backward passes: with eps ~ N(0, I), g = d (eps . F(x)) / d theta has
  E g^2 = sum_d (d F_d / d theta)^2, so the mean of g^2 over samples is an unbiased estimate.
- loss: the empirical Fisher information, the mean over the task's labelled training inputs, without augmentation, of
  the squared gradient of the loss of that one sample.

Deviations: the penalty has no 1/2, so that lam is half the lam of the papers; it is applied in its proximal form
unless `penalty: gradient` is set.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from tripletcl import group
from tripletcl.continual import Inputs, Lam, Learner, Properties, Task
from tripletcl.continual.task import derived_seed
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError
from tripletcl.mas import Engine, PenaltyForm, PenaltyMethod, QuadraticPenalty, importance, task_importance
from tripletcl.mas.fisher import checked_draws, checked_gamma, gaussian_projections
from tripletcl.mas.penalty import Anchor


class EWC(PenaltyMethod):
    """Elastic Weight Consolidation; see the module's text for the equations.

    Args:
        lam: Weight of the penalty, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for every task.
        penalty: "proximal" or "gradient".
        fisher: "embedding", on `Task.importance_items` without labels, or "loss", on the task's training items.
        form: "online" or "separate".
        gamma: Factor of the earlier importance in the online form, in [0, 1].
        draws: Noise vectors a sample, each a backward pass; for "embedding".
        seed: Of the noise.
        engine: "hooks" (one pass, rules per layer type) or "loop" (one sample at a time, any layer); for "embedding".
            "loss" always takes one sample at a time: a loss may have parameters of its own, such as the text
            projection.

    Raises:
        UserError: A number out of its range, or settings that do not go together.
    """

    name: ClassVar[str] = "ewc"
    properties: ClassVar[Properties] = Properties(adaptive=True)
    counters: ClassVar[tuple[str, ...]] = ("tasks",)

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
        self.set_lam(lam)
        if form == "separate" and gamma != 1:
            raise UserError("the separate form keeps every task's term unchanged, so its gamma can only be 1")
        self.fisher, self.form, self.gamma = fisher, form, checked_gamma(gamma)
        self.draws, self.seed = checked_draws(draws), seed
        self.measure: dict[str, Any] = {"statistic": torch.square, "engine": engine}
        if fisher == "loss":
            self.properties = Properties(unlabeled=False)  # type: ignore[misc]
        self.penalty = QuadraticPenalty(penalty)
        self.tasks = 0
        """Number of tasks so far."""

    def check(self, tasks: Sequence[Task]) -> None:
        if self.fisher == "loss" and any(task.importance_subset for task in tasks):
            raise UserError(
                "ewc with fisher loss takes all labelled training images of a task, so importance cannot be restricted "
                "to some facts; use fisher embedding"
            )

    def after_task(self, task: Task) -> None:
        self._add(self._information(task), keep=self.gamma)
        self.tasks += 1
        self.penalty.log_scale(task.name, self.lam)

    def add_importance(self, task: Task, weight: float, recompute: bool = False) -> None:
        information = self._information(task)
        if recompute:
            self.penalty.reset()
        self._add(information, add=weight)
        self.penalty.log_scale(task.name, self.lam)

    def _information(self, task: Task) -> dict[str, Tensor]:
        if self.fisher == "loss":
            return loss_fisher(self.learner, task, self.inputs)
        earlier = group.share(len(task.importance_items)).start
        noise = gaussian_projections(np.random.default_rng(derived_seed(self.seed, self.tasks)), self.draws, earlier)
        return task_importance(self.learner, task, self.inputs, scalar=noise, **self.measure)

    def _add(self, information: dict[str, Tensor], keep: float = 1.0, add: float = 1.0) -> None:
        anchor: Anchor = "latest" if self.form == "online" else "mean"
        self.penalty.update(self.parameters, information, keep=keep, add=add, anchor=anchor)


def loss_fisher(learner: Learner, task: Task, inputs: Inputs) -> dict[str, Tensor]:
    """The mean over the task's items of the squared gradient of the loss of each item."""
    mine = group.share(len(task.items))
    rows = itertools.count(mine.start)

    def loss(sample: Tensor) -> Tensor:
        """`[1, ...]` to `[1]`; called once for every item, in order."""
        one = slice(row := next(rows), row + 1)
        return learner.loss(learner(sample), task.batch(sample, one)).reshape(1)

    with eval_mode(learner):  # the head of a task is not part of the protected module
        return importance(
            learner.protected,
            inputs(task.items[mine]),
            forward=loss,
            scalar=lambda value: value,
            statistic=torch.square,
            engine="loop",
        )
