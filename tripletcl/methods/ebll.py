"""Encoder Based Lifelong Learning (Rannen Triki, Aljundi, Blaschko, Tuytelaars, ICCV 2017).

After each task an under-complete autoencoder is trained on the task's representations h,

    enc(h) = sigmoid(W h' + b),   dec(c) = V c + d,   h' = (h - mean) / std,
    min  ||dec(enc(h)) - h'||^2 / C + task_weight L_task(readout(rebuilt h)),

readout being that of the task and the model standing still; of the autoencoder the encoder is kept. Later tasks are
learned with the old answers kept near, as in LwF, and with the codes of all earlier tasks' encoders kept, h* being the
representation by the model before the task:

    L(theta) = L_task(theta) + lam sum_h d(F_h, F_h*) + code_lam sum_k ||enc_k(h) - enc_k(h*)||^2 / 2.

So a representation may move where no earlier task's code does. Codes and answers are those of the new task's inputs.

Deviations: those of LwF (`tripletcl.methods.lwf`); features that hardly vary in the task have no part in its code, as
division by their std would let the least change of one change every code; Adam instead of Adadelta; the reconstruction
error is the mean over the features and not their sum, weighted by 1 and not 1e-6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tripletcl.continual import Batch, Lam, Method, Properties, Task, checked_weight
from tripletcl.continual.task import derived_seed
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError
from tripletcl.methods.lwf import Target, Teacher, answers_distance, checked_temperature, distillation_properties

log = logging.getLogger("tripletcl")

BATCH_SIZE = 64
"""Representations of one step of an autoencoder's training."""

LIVE = 0.1
"""Least standard deviation of a feature that is encoded, in parts of the mean over all features."""

Encoder = dict[str, Tensor]
"""`weight` `[K, C]` and `bias` `[K]` of representations that need not be standardised: that is folded in."""


class EBLL(Method):
    """Encoder Based Lifelong Learning; see the module's text for the equations.

    With code_lam 0 it is LwF, with lam 0 as well fine-tuning, both bit for bit: no autoencoder is trained.

    Args:
        lam: Weight of the distance to the old outputs, >= 0; "auto" chooses it for every task.
        code_lam: Weight of the distance to the old codes, >= 0. Codes are steep, and every task adds its own: a weight
            that is too large makes the optimizer's steps overshoot.
        code: K, the width of a code; at most half the number of features that vary in the task.
        epochs: Passes over a task's representations in training its autoencoder.
        lr: Adam's learning rate there.
        task_weight: Weight of the task's loss there, >= 0.
        target: As in LwF.
        temperature: As in LwF.
        seed: Of the autoencoders' start and the order of their batches.

    Raises:
        UserError: a number out of its range.
    """

    name: ClassVar[str] = "ebll"
    properties: ClassVar[Properties] = Properties(constant_memory=False, unlabeled=False)
    high_lam: ClassVar[float] = 30.0

    def __init__(
        self,
        lam: Lam = 1.0,
        code_lam: float = 0.03,
        code: int = 64,
        epochs: int = 30,
        lr: float = 0.003,
        task_weight: float = 1.0,
        target: Target = "embedding",
        temperature: float = 2.0,
        seed: int = 0,
    ) -> None:
        if code < 1 or epochs < 1 or not 0 < lr < float("inf"):
            raise UserError(
                f"code is {code}, epochs is {epochs} and lr is {lr}, but an autoencoder needs at least 1 of the first "
                "two and a finite learning rate above 0"
            )
        self.weigh(lam)
        self.code_lam = checked_weight(code_lam, "code_lam")
        self.task_weight = checked_weight(task_weight, "task_weight")
        self.code, self.epochs, self.lr, self.seed = code, epochs, lr, seed
        self.target, self.temperature = target, checked_temperature(temperature)
        self.properties = distillation_properties(self.properties, target)  # type: ignore[misc]
        self.teacher = Teacher()
        self.encoders: list[Encoder] = []
        self.learned = False

    def before_task(self, task: Task) -> None:
        if self.learned and (self.lam or self.lam_is_auto or self.code_lam):
            self.teacher.remember(self.learner)

    def extra_loss(self, batch: Batch, representation: Tensor, out: Tensor) -> Tensor | float:
        if not (self.teacher.weights and (self.lam or self.code_lam)):
            return 0.0
        old_representation, old = self.teacher(self.learner, batch.inputs)
        loss: Tensor | float = 0.0
        if self.lam:
            new = self.learner.answers(representation, out)
            loss += self.lam * answers_distance(new, old, self.target, self.temperature)
        if self.code_lam:
            loss += self.code_lam * code_distance(self.encoders, representation, old_representation)
        return loss

    def after_task(self, task: Task) -> None:
        self.learned = True
        if self.code_lam:
            self.encoders.append(self._train_encoder(task))

    def _train_encoder(self, task: Task) -> Encoder:
        """The encoder of the task just learned, while the learner stands still in eval mode."""
        learner: Any = self.learner
        with eval_mode(learner):
            with torch.no_grad():
                batches = self.inputs(task.items)
                features = torch.cat([learner.represent(inputs).float() for inputs in batches])  # [M, C]

            def task_loss(rebuilt: Tensor, rows: Tensor) -> Tensor:
                at = rows.numpy()
                targets = torch.from_numpy(task.targets[at]).to(rebuilt.device)
                # A loss reads outputs and targets; the inputs of this forward pass are the representations.
                return learner.loss(learner.readout(rebuilt), Batch(rebuilt, targets, task.items[at]))

            encoder, error = train_autoencoder(
                features,
                task_loss,
                code=self.code,
                epochs=self.epochs,
                lr=self.lr,
                task_weight=self.task_weight,
                generator=torch.Generator().manual_seed(derived_seed(self.seed, len(self.encoders))),
            )
        log.info("autoencoder of %s: %.2g of the representation's variance is not rebuilt", task.name, error)
        if not error < float("inf"):
            raise UserError(f"the autoencoder of {task.name} diverged; try a smaller lr than method ebll's {self.lr}")
        return encoder

    def state_dict(self) -> dict[str, Any]:
        encoders = {str(i): encoder for i, encoder in enumerate(self.encoders)}
        return {"learned": self.learned, "teacher": self.teacher.weights, "encoders": encoders}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learned, self.teacher.weights = state["learned"], state["teacher"]
        self.encoders = [state["encoders"][str(i)] for i in range(len(state["encoders"]))]


def encode(encoder: Encoder, representation: Tensor) -> Tensor:
    """The codes `[B, K]` of representations `[B, C]`."""
    return torch.sigmoid(F.linear(representation, encoder["weight"], encoder["bias"]))


def code_distance(encoders: list[Encoder], new: Tensor, old: Tensor) -> Tensor:
    """Mean over the batch of `sum_k ||enc_k(new) - enc_k(old)||^2 / 2`, from representations `[B, C]`."""
    differences = [encode(encoder, new) - encode(encoder, old) for encoder in encoders]
    return torch.cat(differences, dim=1).square().sum(dim=1).mean() / 2


def train_autoencoder(
    features: Tensor,
    task_loss: Callable[[Tensor, Tensor], Tensor],
    *,
    code: int,
    epochs: int,
    lr: float,
    task_weight: float,
    generator: torch.Generator,
) -> tuple[Encoder, float]:
    """Train an autoencoder of the features that vary; the module's text has the equations.

    Args:
        features: The representations `[M, C]`.
        task_loss: From rebuilt representations `[B, C]` and their rows `[B]` (on the CPU) to the task's loss.
        code: K, but at most half the number of the features that vary.
        generator: Of the CPU; nothing else is drawn from.

    Returns:
        The encoder, and the reconstruction error on all features, in parts of their variance.
    """
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    live = (std > LIVE * std.mean()).nonzero()[:, 0]
    if not len(live):  # all representations are one: there is nothing to encode
        return {"weight": features.new_zeros(1, features.shape[1]), "bias": features.new_zeros(1)}, 0.0
    standard = ((features - mean) / std)[:, live]
    parameters = _start(len(live), max(1, min(code, len(live) // 2)), generator, features.device)
    weight, bias, out_weight, out_bias = parameters
    optimizer = torch.optim.Adam(parameters, lr=lr)

    def rebuild(x: Tensor) -> Tensor:
        return F.linear(torch.sigmoid(F.linear(x, weight, bias)), out_weight, out_bias)

    for _ in range(epochs):
        for rows in torch.randperm(len(features), generator=generator).split(BATCH_SIZE):
            rebuilt = rebuild(standard[rows])
            loss = F.mse_loss(rebuilt, standard[rows])
            if task_weight:
                whole = mean.repeat(len(rows), 1).index_copy(1, live, rebuilt * std[live] + mean[live])
                loss = loss + task_weight * task_loss(whole, rows)
            optimizer.zero_grad()
            loss.backward(inputs=parameters)  # the learner's own are left without a gradient
            optimizer.step()
    with torch.no_grad():
        scaled = weight / std[live]
        folded = {
            "weight": weight.new_zeros(len(weight), len(mean)).index_copy(1, live, scaled),
            "bias": bias - scaled @ mean[live],
        }
        return folded, F.mse_loss(rebuild(standard), standard).item()


def _start(columns: int, width: int, generator: torch.Generator, device: torch.device) -> list[Tensor]:
    """Weight and bias of encoder and decoder as nn.Linear starts: uniform, within 1 / sqrt(inputs)."""
    shapes = [(width, columns), (width,), (columns, width), (columns,)]
    bounds = [columns**-0.5, columns**-0.5, width**-0.5, width**-0.5]
    starts = [torch.empty(s).uniform_(-b, b, generator=generator) for s, b in zip(shapes, bounds, strict=True)]
    return [start.to(device).requires_grad_() for start in starts]
