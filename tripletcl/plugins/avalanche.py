"""Exact Memory Aware Synapses for Avalanche, in place of its MASPlugin."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from tripletcl.mas import MemoryAwareSynapses, PenaltyForm
from tripletcl.plugins import learning_rate, needs

try:
    from avalanche.models import avalanche_forward
    from avalanche.training.plugins import SupervisedPlugin
except ImportError as error:
    raise needs(__name__, "avalanche-lib 0.5") from error


class ExactMASPlugin(SupervisedPlugin):
    """MAS whose importance is the mean of |d ||F(x)||^2 / d theta| over single samples, in eval mode.

    Avalanche's own plugin takes the gradient of a batch's mean, in which samples of different signs cancel, so that it
    depends on the batch size. The arguments are the same.

    Args:
        lambda_reg: Weight, >= 0, of the penalty.
        alpha: Share of the earlier experiences in the importance, as in Avalanche; None adds them up, as in the paper.
        penalty: "gradient" adds the penalty's gradient to that of the loss, as in Avalanche. "proximal", after each
            step of the optimizer, is stable at any weight. Momentum does not carry it, so that the same strength takes
            1 / (1 - momentum) times the weight.

    Raises:
        UserError: lambda_reg is negative or not finite.
    """

    def __init__(self, lambda_reg: float = 1.0, alpha: float | None = 0.5, penalty: PenaltyForm = "gradient") -> None:
        super().__init__()
        self.lambda_reg, self.alpha, self.penalty = lambda_reg, alpha, penalty
        self.mas: MemoryAwareSynapses | None = None
        """Importance and anchor; None before the first experience."""

    def before_update(self, strategy: Any, **_: Any) -> None:
        """Add the gradient of the penalty, in its gradient form."""
        if self.mas is not None and self.penalty == "gradient":
            self.mas.add_gradient()

    def after_update(self, strategy: Any, **_: Any) -> None:
        """Apply the penalty in its proximal form."""
        if self.mas is not None and self.penalty == "proximal":
            self.mas.step(learning_rate([strategy.optimizer]))

    def after_training_exp(self, strategy: Any, **_: Any) -> None:
        """Measure importance on the experience, and move the anchor."""
        if self.mas is None:
            self.mas = MemoryAwareSynapses(strategy.model, self.lambda_reg)
        dataset = strategy.experience.dataset
        loader = DataLoader(
            dataset,
            batch_size=strategy.train_mb_size,
            collate_fn=getattr(dataset, "collate_fn", None),
            generator=torch.Generator(),  # the loader would draw a number from torch's
        )
        first, alpha = not self.mas.omega, self.alpha
        self.mas.consolidate(
            loader,
            select=lambda batch: {"inputs": batch[0], "task_labels": batch[-1]},
            forward=lambda batch: avalanche_forward(strategy.model, batch["inputs"], batch["task_labels"]),
            keep=1.0 if alpha is None else alpha,
            weight=1.0 if alpha is None or first else 1 - alpha,
        )
