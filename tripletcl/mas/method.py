"""Memory Aware Synapses (Aljundi, Babiloni, Elhoseiny, Rohrbach, Tuytelaars, ECCV 2018).

After each task the importance of every parameter is the mean over images of the gradient magnitude of the squared norm
of the learned function,

    omega = 1/N sum_n | d ||F(x_n)||^2 / d theta |,

needing no label. Importances of the tasks are summed, the anchor is the newest theta; the next task is learned under

    L(theta) = L_task(theta) + lam sum omega (theta - anchor)^2.

Deviations: the gradient is taken of each sample by itself (the released code takes that of the batch, whose magnitude
is not the mean of the magnitudes); the penalty is applied in its proximal form unless `penalty: gradient` is set.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from torch import Tensor

from tripletcl.continual import Lam, Method, Task
from tripletcl.mas.importance import importance
from tripletcl.mas.penalty import PenaltyForm, QuadraticPenalty

log = logging.getLogger("tripletcl")


class MAS(Method):
    """Memory Aware Synapses; see the module's text for the equations.

    Args:
        lam: Weight of the penalty, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for every task.
        penalty: "proximal" or "gradient".
        engine: "hooks" (one pass, rules per layer type) or "loop" (one sample at a time, any layer).
    """

    name: ClassVar[str] = "mas"

    def __init__(
        self, lam: Lam = 1.0, penalty: PenaltyForm = "proximal", engine: Literal["hooks", "loop"] = "hooks"
    ) -> None:
        self.weigh(lam)
        self.form, self.engine = penalty, engine
        self.penalty = QuadraticPenalty()

    def before_step(self) -> None:
        if self.form == "gradient":
            self.penalty.add_gradient(self.lam)

    def after_step(self, lr: float) -> None:
        if self.form == "proximal":
            self.penalty.proximal_step(lr, self.lam)

    def after_task(self, task: Task) -> None:
        model = self.learner.protected
        omega: dict[str, Tensor] = {}
        for function, batches in self.learner.functions(task, self.inputs):
            for name, value in importance(model, batches, forward=function, engine=self.engine).items():
                omega[name] = omega[name] + value if name in omega else value
        self.penalty.update(dict(model.named_parameters()), omega)
        self._log_scale(omega.values())

    def _log_scale(self, omega: Iterable[Tensor]) -> None:
        """An importance whose scale is not known makes lam a number without meaning."""
        total, count, largest = 0.0, 0, 0.0
        for value in omega:
            total, count = total + value.sum().item(), count + value.numel()
            largest = max(largest, value.max().item())
        log.info("importance: mean %.3g, max %.3g over %d parameters", total / max(count, 1), largest, count)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.penalty.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.penalty.load_state_dict(state, dict(self.learner.protected.named_parameters()))
