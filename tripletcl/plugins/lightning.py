"""MAS, EWC or SI in the Trainer of Lightning."""

from __future__ import annotations

from typing import Any

from tripletcl.mas.synapses import Protection
from tripletcl.plugins import learning_rate, needs

try:
    from lightning.pytorch import Callback
except ImportError as error:
    raise needs(__name__, "lightning 2.1") from error


class ConsolidationCallback(Callback):
    """Applies a penalty after every step of the optimizer, and measures importance at the end of training.

    Importance and anchor are part of Lightning's checkpoints.

    Args:
        protection: A `MemoryAwareSynapses`, `ElasticWeightConsolidation` or `SynapticIntelligence` of the module; the
            same one for every task.
        arguments: Of its `consolidate`.
    """

    def __init__(self, protection: Protection, **arguments: Any) -> None:
        self.protection, self.arguments = protection, arguments
        self.steps = 0
        """The optimizer's steps so far: with accumulated gradients not every batch has one."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Count from the trainer's position."""
        self.steps = trainer.global_step

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        """Apply the penalty in its proximal form, if the optimizer took a step."""
        if trainer.global_step > self.steps:
            self.steps = trainer.global_step
            self.protection.step(learning_rate(trainer.optimizers))

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        """End the task."""
        self.protection.consolidate(trainer.train_dataloader, **self.arguments)

    def state_dict(self) -> dict[str, Any]:
        """Importance and anchor."""
        return self.protection.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore them."""
        self.protection.load_state_dict(state_dict)
