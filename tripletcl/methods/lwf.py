"""Learning without Forgetting (Li, Hoiem, ECCV 2016; TPAMI 2018).

From the second task on, the outputs of the model on the NEW task's inputs are kept near those of the model before the
task:

    L(theta) = L_task(theta) + lam sum_h d(F_h(x; theta), F_h(x; theta_old)),

where h runs over the heads of the earlier tasks (`Learner.answers`): one for each of them, which only this term still
trains, or the one output that serves all tasks. d is one of

    embedding   sum_n ||F_n - F*_n||^2 / sum_n ||F*_n||^2: the mean squared distance relative to the old outputs' mean
                squared norm, so that lam means the same whatever the scale of the outputs. Each head's distance is
                relative to its own outputs: a head with small ones weighs as much as the others;
    cosine      mean over samples and vectors of 1 - cos(F, F*), a vector being a row of the last axis: of a head with
                classes, all its logits;
    logits      T^2 KL(softmax(F* / T) || softmax(F / T)), the mean over samples and rows, a softmax for each head: the
                distillation of the paper, up to a constant and Hinton's T^2.

The paper first trains the new head only: `training.head_epochs`.

Deviations: the old outputs are computed in every step, on the augmented batch, instead of once on the plain images; in
epochs that train the heads only the old heads are not frozen, but as the trunk is, their outputs are the old ones, and
only dropout in the trunk changes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from tripletcl import group
from tripletcl.continual import Batch, Lam, Learner, Method, Properties, Task
from tripletcl.continual.precision import full_precision
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError

Target = Literal["embedding", "cosine", "logits"]


class LwF(Method):
    """Learning without Forgetting; see the module's text for the equations.

    Args:
        lam: Weight of the distance to the old outputs, >= 0; 0 is fine-tuning, bit for bit; "auto" chooses it for
            every task.
        target: The distance d: "embedding", "cosine" or "logits".
        temperature: T of "logits", > 0; the others have none.

    Raises:
        UserError: A number out of its range.
    """

    name: ClassVar[str] = "lwf"
    loss_in_parts: ClassVar[bool] = True
    properties: ClassVar[Properties] = Properties()
    high_lam: ClassVar[float] = 30.0

    def __init__(self, lam: Lam = 1.0, target: Target = "embedding", temperature: float = 2.0) -> None:
        self.set_lam(lam)
        self.target, self.temperature = target, checked_temperature(temperature)
        self.properties = distillation_properties(self.properties, target)  # type: ignore[misc]
        self.teacher = Teacher()
        self.has_learned = False

    def before_task(self, task: Task) -> None:
        if self.has_learned and (self.lam or self.lam_is_auto):
            self.teacher.snapshot(self.learner)

    def extra_loss(self, batch: Batch, representation: Tensor, out: Tensor) -> Tensor | float:
        if not (self.lam and self.teacher.weights):
            return 0.0
        _, old = self.teacher(self.learner, batch.inputs)
        new = self.learner.answers(representation, out)
        return self.lam * answers_distance(new, old, self.target, self.temperature)

    def after_task(self, task: Task) -> None:
        self.has_learned = True

    def state_dict(self) -> dict[str, Any]:
        return {"learned": self.has_learned, "teacher": self.teacher.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.has_learned, self.teacher.weights = state["learned"], state["teacher"]


class Teacher:
    """An earlier state of the learner: a copy of everything that training may change, used in its place for a call.

    Attributes:
        weights: Trained parameters and buffers, by their names in the learner; empty before `snapshot`. Frozen
            parameters are the learner's own.
    """

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def snapshot(self, learner: Learner) -> None:
        """Copy the learner's current weights."""
        frozen = {name for name, p in learner.named_parameters() if not p.requires_grad}
        self.weights = {name: t.detach().clone() for name, t in learner.state_dict().items() if name not in frozen}

    @torch.no_grad()
    def __call__(self, learner: Learner, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The old representation `[B, C]` and outputs `[B, ...]`, in eval mode; the learner is unchanged."""
        passes = _Passes(learner)
        with eval_mode(passes):
            weights = {f"learner.{name}": weight for name, weight in self.weights.items()}
            representation, answers = functional_call(passes, weights, (inputs,), tie_weights=False)
        return full_precision(representation), [full_precision(answer) for answer in answers]


class _Passes(nn.Module):
    """Representation and outputs in one forward, as `functional_call` needs it."""

    def __init__(self, learner: Any) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, inputs: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        representation = self.learner.represent(inputs)
        return representation, self.learner.answers(representation, self.learner.readout(representation))


def answers_distance(
    new: Sequence[Tensor], old: Sequence[Tensor], target: Target, temperature: float
) -> Tensor | float:
    """The sum over the heads of `output_distance`; arguments as there, one tensor a head."""
    return sum((output_distance(n, o, target, temperature) for n, o in zip(new, old, strict=True)), 0.0)


def output_distance(new: Tensor, old: Tensor, target: Target, temperature: float) -> Tensor:
    """The distance of outputs `[B, ...]` of one head from the old ones: >= 0, and 0 if they are equal.

    Where several processes share a batch, this process's part of it.

    Args:
        new: The outputs.
        old: The old outputs.
        target: "embedding", "cosine" or "logits": the equations are in the module's text.
        temperature: Of "logits".
    """
    if target == "embedding":
        scale = group.total(old.square().sum()).clamp(min=torch.finfo(old.dtype).tiny)  # not 0 / 0 if both are all zero
        return (new - old).square().sum() / scale
    if target == "cosine":
        return group.mean(1 - F.cosine_similarity(new, old, dim=-1))
    student, teacher = (
        F.log_softmax(out.flatten(0, -2) / temperature, dim=-1) for out in (new, old)
    )  # [rows, classes]
    divergence = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return temperature**2 * (divergence / group.total(len(student)))


def distillation_properties(properties: Properties, target: Target) -> Properties:
    """The properties of a method that preserves outputs: a softmax assumes that they are classes."""
    return replace(properties, problem_agnostic=target != "logits")


def checked_temperature(temperature: float) -> float:
    """Return the temperature.

    Raises:
        UserError: It is not a finite number above 0.
    """
    if not 0 < temperature < float("inf"):
        raise UserError(f"temperature is {temperature}, but outputs are softened by a finite number above 0")
    return temperature
