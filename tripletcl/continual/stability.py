"""The weight of the past, chosen on the new task only: the stability-plasticity rule.

De Lange, Aljundi, Masana, Parisot, Jia, Leonardis, Slabaugh, Tuytelaars, "A continual learning survey: Defying
forgetting in classification tasks" (2019; TPAMI 2021), section on continual hyperparameter selection. For every task
after the first, where each attempt starts from the weights after the previous task, and A is the score on items of the
new task that are held out of training:

1. plasticity: train with lam = 0, which scores A*;
2. stability decay: train with lam = start; while A < (1 - drop) A*, train again with lam <- decay * lam.

The result is the largest lam tried under which the new task is still learned; it needs no old data.

Deviations: the first step does not search for a learning rate, which is the config's; in a combination of methods the
others keep their weights in every attempt, also in that of fine-tuning; the number of attempts is bounded, and the last
one is kept if none passes; an attempt whose loss is not finite has failed, whatever the drop. The first task is learned
with lam 0, as there is no past to keep.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, Gt, Le, Lt

from tripletcl.continual.method import Learner, Method
from tripletcl.continual.task import InputSource, Task, validation_batches
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError

MIN_VALIDATION_ITEMS = 10
"""With fewer, a single item would decide."""

FAILED = -1.0
"""The score of an attempt whose loss became infinite: lower than any other, so that it never passes."""


@dataclass(frozen=True)
class Stability:
    """The choice of `lam: auto` for each task after the first; needs `data.validation`."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "use_attribute_docstrings": True}

    drop: Annotated[float, Ge(0), Le(1)] = 0.2
    """Fraction of the fine-tuned model's score on the new task that may be lost for stability."""
    start: Annotated[float, Gt(0)] | None = None
    """The first lam to try, for every task; null is the method's own, `Method.high_lam`."""
    decay: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Factor of lam after an attempt that lost more."""
    attempts: Annotated[int, Ge(1)] = 6
    """Maximum number of values of lam; each trains the task once, and fine-tuning once more."""

    def lam(self, method: Method, attempt: int) -> float:
        """The weight in an attempt: attempt 0 is fine-tuning, attempt 1 has the first weight."""
        start = method.high_lam if self.start is None else self.start
        return 0.0 if attempt == 0 else start * self.decay ** (attempt - 1)

    def passes(self, scores: Sequence[float]) -> bool:
        """Tell whether the latest attempt keeps enough of the fine-tuned model's score; scores are by attempt."""
        return len(scores) > 1 and scores[-1] >= (1 - self.drop) * scores[0]

    def ends(self, scores: Sequence[float]) -> bool:
        """Tell whether the latest attempt is the one to keep."""
        return self.passes(scores) or len(scores) > self.attempts


def check_validation(tasks: Sequence[Task]) -> None:
    """Check that every task for which a weight is chosen has enough held-out items.

    Raises:
        UserError: A task has fewer than `MIN_VALIDATION_ITEMS`.
    """
    for task in tasks[1:]:
        if task.chooses_weight and (count := len(task.validation_items)) < MIN_VALIDATION_ITEMS:
            raise UserError(
                f"lam: auto is chosen by items held out of training, and {task.name} has {count} of them; at least "
                f"{MIN_VALIDATION_ITEMS} are needed in every task after the first (a larger data.validation)"
            )


@torch.no_grad()
def validation_score(learner: Learner, task: Task, source: InputSource, batch_size: int, device: torch.device) -> float:
    """The mean of `Learner.score` over a task's held-out items, in eval mode."""
    batches = validation_batches(task, source, batch_size=batch_size)
    with eval_mode(learner):
        total = sum(learner.score(learner(batch.inputs).float(), batch).sum().item() for batch in batches)
    return total / len(task.validation_items)
