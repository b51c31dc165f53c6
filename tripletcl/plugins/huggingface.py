"""MAS, EWC or SI in the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from typing import Any

from tripletcl.mas.synapses import Protection
from tripletcl.plugins import learning_rate, needs

try:
    import accelerate  # noqa: F401  # the Trainer does not start without it
    from transformers import TrainerCallback
except ImportError as error:
    raise needs(__name__, "transformers 4.50 and accelerate 0.26") from error


class ConsolidationCallback(TrainerCallback):
    """Applies a penalty after every step of the optimizer, and measures importance at the end of training.

    Args:
        protection: A `MemoryAwareSynapses`, `ElasticWeightConsolidation` or `SynapticIntelligence` of the Trainer's
            model; the same one for every task.
        arguments: Of its `consolidate`. By default `forward` gives the logits of the model's output.
    """

    def __init__(self, protection: Protection, **arguments: Any) -> None:
        self.protection, self.arguments = protection, {"forward": self._logits, **arguments}

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Apply the penalty in its proximal form."""
        self.protection.step(learning_rate([given["optimizer"]]))

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """End the task."""
        self.protection.consolidate(given["train_dataloader"], **self.arguments)

    def _logits(self, batch: Any) -> Any:
        outputs = self.protection.model(**batch)
        return getattr(outputs, "logits", outputs)
