"""Memory Aware Synapses (Aljundi, Babiloni, Elhoseiny, Rohrbach, Tuytelaars, ECCV 2018).

After each task the importance of every parameter is the mean over images of the gradient magnitude of the squared norm
of the learned function,

    omega = 1/N sum_n | d ||F(x_n)||^2 / d theta |,

which needs no label. Importances of the tasks are summed, the anchor is the latest theta; the next task is learned
under

    L(theta) = L_task(theta) + lam sum omega (theta - anchor)^2.

Variants of the importance:

- `output: vector`: sum_d |d F_d(x) / d theta| instead of the norm's gradient, the paper's other choice; as many
  backward passes as F has outputs, so D times as expensive: hundreds of times for an embedding of that width.
- `scope: local` (l-MAS): | d ||y_l||^2 / d theta_l | of every layer's own output y_l, its input held constant, by a
  forward pass only. For y = W x it is 2 |y_i x_j|, a Hebbian rule: units that are active together are tied together.
  `scope: rectified` is the paper's form of it, which takes a layer together with its ReLU, 2 relu(y_i) |x_j|: a
  silenced unit does not count. A ReLU belongs to a layer if it is an `nn.ReLU` that the layer's very output enters.
  With batch normalisation between them it belongs to that; the convolution, like a layer that no ReLU follows, keeps
  the form of `local`. No released code has either.
- `per: batch`: the approximation of the mean above in released code, |gradient of the batch's mean|; for comparison.

Deviations: the gradient is that of each sample (released code takes that of the batch, whose magnitude is not the mean
of the magnitudes); the penalty is applied in its proximal form unless `penalty: gradient` is set.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from tripletcl.continual import Lam, Properties, Task
from tripletcl.errors import UserError
from tripletcl.mas.importance import SCALARS, Output, Per, check_measure, task_importance
from tripletcl.mas.penalty import PenaltyForm, PenaltyMethod, QuadraticPenalty
from tripletcl.mas.statistics import Engine, Scope

Normalise = Literal["none", "mean", "max"]


class MAS(PenaltyMethod):
    """Memory Aware Synapses; see the module's text for the equations.

    Args:
        lam: Weight of the penalty, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for every task.
        penalty: "proximal" or "gradient".
        engine: "hooks" (one pass of the whole batch) or "loop" (one sample at a time).
        scope: "global", the learned function's output; "local", every layer's own output; or "rectified", the same
            after the layer's ReLU.
        output: "l2", the squared norm of the outputs, or "vector", every output by itself.
        per: "sample", or "batch" (of `training.batch_size` images; `engine` does not matter then).
        accumulate: Combines the tasks' importances: their "sum", their "running_mean", or "ema", an average that starts
            with the first task's and continues as `Omega = decay * Omega + (1 - decay) * omega`.
        decay: Of "ema", in [0, 1].
        normalise: Divide each task's importance by its "mean" or its "max" over all parameters, so that a lam means the
            same for another network or task.

    Raises:
        UserError: A weight out of its range, or settings that do not go together.
    """

    name: ClassVar[str] = "mas"
    properties: ClassVar[Properties] = Properties(adaptive=True)
    counters: ClassVar[tuple[str, ...]] = ("measured",)

    def __init__(
        self,
        lam: Lam = 1.0,
        penalty: PenaltyForm = "proximal",
        engine: Engine = "hooks",
        scope: Scope = "global",
        output: Output = "l2",
        per: Per = "sample",
        accumulate: Literal["sum", "running_mean", "ema"] = "sum",
        decay: float = 0.5,
        normalise: Normalise = "none",
    ) -> None:
        self.set_lam(lam)
        self.measure: dict[str, Any] = {"engine": engine, "scope": scope, "scalar": SCALARS[output], "per": per}
        check_measure(**self.measure)
        if not 0 <= decay <= 1:
            raise UserError(f"decay is {decay}, but an average keeps a share between 0 and 1 of its past")
        self.accumulate, self.decay, self.normalise = accumulate, decay, normalise
        self.penalty = QuadraticPenalty(penalty)
        self.measured = 0
        """Number of tasks that have added importance."""

    def after_task(self, task: Task) -> None:
        omega = self._importance(task)
        keep, add = self._weights()
        self.penalty.update(self.parameters, omega, keep=keep, add=add)
        self.measured += bool(omega)
        self.penalty.log_scale(task.name, self.lam)

    def add_importance(self, task: Task, weight: float, recompute: bool = False) -> None:
        omega = self._importance(task)
        if recompute:
            self.penalty.reset()
        self.penalty.update(self.parameters, omega, add=weight)
        self.penalty.log_scale(task.name, self.lam)

    def _importance(self, task: Task) -> dict[str, Tensor]:
        return normalised(task_importance(self.learner, task, self.inputs, **self.measure), self.normalise)

    def _weights(self) -> tuple[float, float]:
        """The weights of the importance so far, and of the new task's."""
        if self.accumulate == "running_mean":
            return self.measured / (self.measured + 1), 1 / (self.measured + 1)
        if self.accumulate == "ema" and self.measured:
            return self.decay, 1 - self.decay
        return 1.0, 1.0


def normalised(omega: dict[str, Tensor], by: Normalise) -> dict[str, Tensor]:
    """Divide the importance by its mean or its maximum over all parameters; zeros stay zeros."""
    if by == "none" or not omega:
        return omega
    if by == "mean":
        scale = sum(v.sum().item() for v in omega.values()) / sum(v.numel() for v in omega.values())
    else:
        scale = max(v.max().item() for v in omega.values())
    return {name: value / scale for name, value in omega.items()} if scale else omega
