"""Optimizer, learning-rate schedule, and the settings of training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import Ge, Gt, Lt

from tripletcl.continual.method import Learner
from tripletcl.errors import UserError


@dataclass(frozen=True)
class Training:
    """The settings of training, for every task."""

    __pydantic_config__: ClassVar[dict[str, object]] = {"extra": "forbid", "use_attribute_docstrings": True}

    epochs: Annotated[int, Ge(1)] = 8
    """Passes over a task's training images."""
    head_epochs: Annotated[int, Ge(0)] = 0
    """Epochs at the start of each task that train the heads only, with a frozen trunk: the gradient of a head that has
    learned nothing would harm the trunk (the warm-up of Li and Hoiem)."""
    batch_size: Annotated[int, Ge(1)] = 64
    """Images of one step."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """A new one is built for every task: old momentum belongs to an old task."""
    lr: Annotated[float, Gt(0)] = 0.01
    """Peak learning rate."""
    trunk_lr: Annotated[float, Ge(0)] = 1.0
    """Learning rate of the pretrained trunk as a multiple of lr: new heads learn fast, the layers below slowly."""
    momentum: Annotated[float, Ge(0), Lt(1)] = 0.9
    """Momentum of SGD."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """Pulls towards zero, and so away from the anchor: keep it small with a penalty method."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Schedule of the learning rate within a task; cosine decays to zero at its end."""
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Fraction of a task during which the learning rate rises linearly from zero."""
    clip_norm: Annotated[float, Gt(0)] | None = None
    """Maximum norm of the loss gradient; null does not clip."""
    loss_weight: Annotated[float, Gt(0)] = 1.0
    """Weight of the task's own loss relative to a method's: more learns the task, less keeps the past."""
    checkpoint_minutes: Annotated[float, Ge(0)] = 5.0
    """Time between checkpoints within a task; 0 writes one after every step."""

    def __post_init__(self) -> None:
        if self.head_epochs >= self.epochs:
            raise UserError(
                f"training.head_epochs is {self.head_epochs}, but it must be less than training.epochs, which is "
                f"{self.epochs}: the trunk would never learn"
            )


def build_optimizer(learner: Learner, training: Training, fused: bool = True) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW over the parameters that are trained; `set_lr` sets their learning rates.

    Args:
        fused: Update each parameter in one pass over its numbers. Not with a gradient scaler, which would leave it to
            the optimizer to skip a step that overflowed.
    """
    trunk = set(learner.trunk())
    trained = [p for p in learner.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p not in trunk], "scale": 1.0},
        {"params": [p for p in trained if p in trunk], "scale": training.trunk_lr},
    ]
    groups = [group for group in groups if group["params"]]
    common: dict[str, Any] = {"lr": training.lr, "weight_decay": training.weight_decay}
    common["fused" if fused else "foreach"] = True
    optimizer: torch.optim.Optimizer
    if training.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, momentum=training.momentum, **common)
    else:
        optimizer = torch.optim.AdamW(groups, **common)
    if fused:
        optimizer.register_step_pre_hook(_prepare_fused_step)
    return optimizer


def _prepare_fused_step(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Establish what fused kernels assume.

    Either all parameters of a group have a momentum or none has, but a parameter may get its first gradient later than
    others. And gradients are read in memory order, without a check that their layout is the parameter's.
    """
    for group in optimizer.param_groups:
        for p in group["params"]:
            if p.grad is None:
                continue
            if group.get("momentum") and optimizer.state[p].get("momentum_buffer") is None:
                optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
            if p.grad.stride() != p.stride():
                p.grad = torch.empty_like(p).copy_(p.grad)


@contextmanager
def frozen_trunk(learner: Learner) -> Iterator[None]:
    """Freeze the trunk inside: its parameters need no gradient, and its layers keep their running statistics.

    An optimizer that was built before neither moves nor decays a parameter without a gradient, and collects no momentum
    for it.
    """
    trunk = set(learner.trunk())
    parameters = [p for p in trunk if p.requires_grad]
    layers = [m for m in learner.modules() if m.training and any(p in trunk for p in m.parameters(recurse=False))]
    try:
        for p in parameters:
            p.requires_grad_(False)
        for layer in layers:
            layer.training = False
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
        for layer in layers:
            layer.training = True


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group, scaled by the group's own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def learning_rate(training: Training, progress: float) -> float:
    """The learning rate at a task's progress in [0, 1): it depends on nothing else, so there is no state to store."""
    if progress < training.warmup:
        return training.lr * progress / training.warmup
    if training.schedule == "constant":
        return training.lr
    done = (progress - training.warmup) / (1 - training.warmup)
    return training.lr * 0.5 * (1 + math.cos(math.pi * done))
