"""Encoder Based Lifelong Learning (Rannen Triki, Aljundi, Blaschko, Tuytelaars, ICCV 2017).

After each task an under-complete autoencoder is trained on the task's representations h,

    enc(h) = sigmoid(W h' + b),   dec(c) = V c + d,   h' = (h - mean) / std,
    min  ||dec(enc(h)) - h'||^2 / C + task_weight L_task(readout(reconstructed h)),

with the readout of the task and a frozen model; of the autoencoder the encoder is stored. Later tasks are learned with
their outputs kept near the old ones, as in LwF, and so are the codes of all earlier tasks' encoders, h* being the
representation of the model before the task:

    L(theta) = L_task(theta) + lam sum_h d(F_h, F_h*) + code_lam sum_k ||enc_k(h) - enc_k(h*)||^2 / 2.

So a representation may move in directions in which no earlier task's code does. Codes and outputs are those of the new
task's inputs.

Deviations: those of LwF (`tripletcl.methods.lwf`); features that hardly vary in the task are not encoded, as division
by their std would let the smallest change of one change every code; Adam instead of Adadelta; the reconstruction error
is the mean over the features and not their sum, with weight 1 and not 1e-6.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from tripletcl import group
from tripletcl.continual import Batch, Lam, Method, Properties, Task, checked_weight
from tripletcl.continual.precision import full_precision
from tripletcl.continual.task import derived_seed
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError
from tripletcl.methods.lwf import Target, Teacher, answers_distance, checked_temperature, distillation_properties

log = logging.getLogger("tripletcl")

BATCH_SIZE = 64
"""Representations of one training step of an autoencoder."""

LIVE = 0.1
"""Minimum standard deviation of a feature that is encoded, relative to the mean over all features."""

Encoder = dict[str, Tensor]
"""`weight` `[K, C]` and `bias` `[K]` for plain representations: the standardisation is folded in."""


class EBLL(Method):
    """Encoder Based Lifelong Learning; see the module's text for the equations.

    With code_lam 0 it is LwF, and with lam 0 in addition fine-tuning, both bit for bit: no autoencoder is trained.

    Args:
        lam: Weight of the distance to the old outputs, >= 0; "auto" chooses it for every task.
        code_lam: Weight of the distance to the old codes, >= 0. Codes are steep, and every task adds its own: too large
            a weight makes the optimizer's steps overshoot.
        code: K, the width of a code; at most half the number of features that vary in the task.
        epochs: Passes over a task's representations in the training of its autoencoder.
        lr: Learning rate of that training (Adam).
        task_weight: Weight of the task's loss in that training, >= 0.
        target: As in LwF.
        temperature: As in LwF.
        seed: Of the autoencoders' initial weights and the order of their batches.

    Raises:
        UserError: A number out of its range.
    """

    name: ClassVar[str] = "ebll"
    loss_in_parts: ClassVar[bool] = True
    properties: ClassVar[Properties] = Properties(constant_memory=False, unlabeled=False)
    zero: ClassVar[Mapping[str, float]] = {"lam": 0.0, "code_lam": 0.0}
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
        self.set_lam(lam)
        self.code_lam = checked_weight(code_lam, "code_lam")
        self.task_weight = checked_weight(task_weight, "task_weight")
        self.code, self.epochs, self.lr, self.seed = code, epochs, lr, seed
        self.target, self.temperature = target, checked_temperature(temperature)
        self.properties = distillation_properties(self.properties, target)  # type: ignore[misc]
        self.teacher = Teacher()
        self.encoders: list[Encoder] = []
        self.has_learned = False

    def before_task(self, task: Task) -> None:
        if self.has_learned and (self.lam or self.lam_is_auto or self.code_lam):
            self.teacher.snapshot(self.learner)

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
        self.has_learned = True
        if self.code_lam:
            self.encoders.append(self._train_encoder(task))

    def _train_encoder(self, task: Task) -> Encoder:
        """Train the encoder of the task just learned, with the learner frozen in eval mode.

        Processes that train together share the passes of the images; the first one trains the encoder.
        """
        learner: Any = self.learner
        device = next(learner.parameters()).device

        def task_loss(reconstructed: Tensor, rows: Tensor) -> Tensor:
            # A loss reads outputs and targets; here representations take the place of inputs.
            return learner.loss(learner.readout(reconstructed), task.batch(reconstructed, rows.numpy()))

        def trained() -> tuple[Encoder, float]:
            encoder, error = train_autoencoder(
                torch.cat(list(chain.from_iterable(parts))).to(device),  # [M, C]
                task_loss,
                code=self.code,
                epochs=self.epochs,
                lr=self.lr,
                task_weight=self.task_weight,
                generator=torch.Generator().manual_seed(derived_seed(self.seed, len(self.encoders))),
            )
            return {name: value.cpu() for name, value in encoder.items()}, error

        with eval_mode(learner):
            with torch.no_grad():
                batches = self.inputs(task.items[group.share(len(task))])
                parts = group.gathered([full_precision(learner.represent(inputs)).cpu() for inputs in batches])
            encoder, error = group.on_first(trained)
        log.info("autoencoder of %s: %.2g of the representation's variance is not reconstructed", task.name, error)
        if not error < float("inf"):
            raise UserError(f"the autoencoder of {task.name} diverged; try a smaller lr than method ebll's {self.lr}")
        return {name: value.to(device) for name, value in encoder.items()}

    def state_dict(self) -> dict[str, Any]:
        encoders = {str(i): encoder for i, encoder in enumerate(self.encoders)}
        return {"learned": self.has_learned, "teacher": self.teacher.weights, "encoders": encoders}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.has_learned, self.teacher.weights = state["learned"], state["teacher"]
        self.encoders = [state["encoders"][str(i)] for i in range(len(state["encoders"]))]


def encode(encoder: Encoder, representation: Tensor) -> Tensor:
    """The codes `[B, K]` of representations `[B, C]`."""
    return torch.sigmoid(F.linear(representation, encoder["weight"], encoder["bias"]))


def code_distance(encoders: list[Encoder], new: Tensor, old: Tensor) -> Tensor:
    """The mean over the batch, or this process's part of it, of `sum_k ||enc_k(new) - enc_k(old)||^2 / 2`.

    Args:
        encoders: The encoders enc_k.
        new: Representations `[B, C]`.
        old: Those of the model before the task.
    """
    differences = [encode(encoder, new) - encode(encoder, old) for encoder in encoders]
    return group.mean(torch.cat(differences, dim=1).square().sum(dim=1)) / 2


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
    """Train an autoencoder of the features that vary; see the module's text for the equations.

    Args:
        features: The representations `[M, C]`.
        task_loss: Reconstructed representations `[B, C]` and their rows `[B]` (on the CPU) to the task's loss.
        code: K, reduced to at most half the number of the features that vary.
        epochs: Passes over the representations.
        lr: Learning rate of Adam.
        task_weight: Weight of the task's loss.
        generator: Of the CPU; the only source of random numbers.

    Returns:
        The encoder, and the reconstruction error on all features, relative to their variance.
    """
    mean, std = features.mean(dim=0), features.std(dim=0, correction=0)
    live = (std > LIVE * std.mean()).nonzero()[:, 0]
    if not len(live):  # all representations are equal: there is nothing to encode
        return {"weight": features.new_zeros(1, features.shape[1]), "bias": features.new_zeros(1)}, 0.0
    standard = ((features - mean) / std)[:, live]
    parameters = _initial_weights(len(live), max(1, min(code, len(live) // 2)), generator, features)
    weight, bias, out_weight, out_bias = parameters
    optimizer = torch.optim.Adam(parameters, lr=lr)

    def reconstruct(x: Tensor) -> Tensor:
        return F.linear(torch.sigmoid(F.linear(x, weight, bias)), out_weight, out_bias)

    for _ in range(epochs):
        for rows in torch.randperm(len(features), generator=generator).split(BATCH_SIZE):
            reconstructed = reconstruct(standard[rows])
            loss = F.mse_loss(reconstructed, standard[rows])
            if task_weight:
                whole = mean.repeat(len(rows), 1).index_copy(1, live, reconstructed * std[live] + mean[live])
                loss = loss + task_weight * task_loss(whole, rows)
            optimizer.zero_grad()
            loss.backward(inputs=parameters)  # the learner's own get no gradient
            optimizer.step()
    with torch.no_grad():
        scaled = weight / std[live]
        folded = {
            "weight": weight.new_zeros(len(weight), len(mean)).index_copy(1, live, scaled),
            "bias": bias - scaled @ mean[live],
        }
        return folded, F.mse_loss(reconstruct(standard), standard).item()


def _initial_weights(columns: int, width: int, generator: torch.Generator, like: Tensor) -> list[Tensor]:
    """Weight and bias of encoder and decoder, initialised as in nn.Linear: uniform, within 1 / sqrt(inputs)."""
    shapes = [(width, columns), (width,), (columns, width), (columns,)]
    bounds = [columns**-0.5, columns**-0.5, width**-0.5, width**-0.5]
    weights = [torch.empty(s).uniform_(-b, b, generator=generator) for s, b in zip(shapes, bounds, strict=True)]
    return [weight.to(like).requires_grad_() for weight in weights]
