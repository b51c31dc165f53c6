"""The one training loop: the same lines for every method, for facts and for object recognition."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from tripletcl import group
from tripletcl.continual.device import Compute
from tripletcl.continual.method import Learner, Method
from tripletcl.continual.optimization import Training, frozen_trunk, learning_rate, set_lr
from tripletcl.continual.precision import full_precision, mixed
from tripletcl.continual.run_folder import Position
from tripletcl.continual.task import Batch, InputSource, Task, epoch_batches, steps_per_epoch
from tripletcl.errors import UserError

CHECK_EVERY = 10
"""Steps between checks of the loss: a check waits for the device."""


class Diverged(UserError):
    """Raised when a loss is not finite."""


class LossWatch:
    """Keeps the latest losses on the device and finds the batch in which one became NaN or infinite.

    Where several processes share a batch, each keeps its part of the loss, and all of them find out at once.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self.recent: list[tuple[Position, np.ndarray, Tensor]] = []

    def add(self, position: Position, items: np.ndarray, loss: Tensor) -> None:
        self.recent.append((position, items, loss))

    def flush(self) -> float:
        """The mean of the losses since the last check.

        Raises:
            Diverged: A loss is not finite; names the batch and its items.
        """
        if not self.recent:
            return float("nan")
        own = torch.stack([loss for _, _, loss in self.recent]).float().cpu()
        losses = own.clone()
        group.add_up([losses])
        for (position, items, _), part, loss in zip(self.recent, own, losses, strict=True):
            if not torch.isfinite(loss):
                items = np.concatenate(group.gathered(items[: 0 if torch.isfinite(part) else None]))
                raise Diverged(
                    f"the loss became {loss.item()} in {self.task.name}, epoch {position.epoch + 1}, batch "
                    f"{position.step + 1} (image ids {items[:8].tolist()}...); the last checkpoint is kept; "
                    "try a smaller training.lr or lam, or the proximal penalty"
                )
        self.recent.clear()
        return losses.mean().item()


def train_task(
    learner: Learner,
    task: Task,
    method: Method,
    source: InputSource,
    optimizer: torch.optim.Optimizer,
    training: Training,
    compute: Compute,
    *,
    seed: int,
    start: Position,
    on_check: Callable[[Position, float], None],
    save: Callable[[Position], None],
) -> None:
    """Train one task from a position on.

    Args:
        on_check: Called with the position and the mean loss every few steps, once the loss is known to be finite.
        save: Called with the position to resume from, every `training.checkpoint_minutes`.
    """
    steps = steps_per_epoch(task, training.batch_size)
    total = steps * training.epochs
    watch, saved_at = LossWatch(task), time.monotonic()
    learner.train()
    for epoch in range(start.epoch, training.epochs):
        first = start.step if epoch == start.epoch else 0
        batches = epoch_batches(
            task,
            source,
            batch_size=training.batch_size,
            seed=(seed, start.stage, epoch),
            start=first,
            device=compute.device,
        )
        with frozen_trunk(learner) if epoch < training.head_epochs else nullcontext():
            for step, batch in enumerate(batches, first):
                lr = learning_rate(training, (epoch * steps + step + 0.5) / total)
                loss = train_step(learner, batch, method, optimizer, compute, lr, training)
                here = replace(start, epoch=epoch, step=step)
                watch.add(here, batch.items, loss)
                due = group.agreed(time.monotonic() - saved_at >= 60 * training.checkpoint_minutes)
                last = step == steps - 1
                if due or last or (epoch * steps + step) % CHECK_EVERY == CHECK_EVERY - 1:
                    on_check(here, watch.flush())
                if due and not (last and epoch == training.epochs - 1):
                    save(replace(start, epoch=epoch + last, step=0 if last else step + 1))
                    saved_at = time.monotonic()


def train_step(
    learner: Learner,
    batch: Batch,
    method: Method,
    optimizer: torch.optim.Optimizer,
    compute: Compute,
    lr: float,
    training: Training,
) -> Tensor:
    """Take one step; returns the loss, which includes the method's term; of several processes each its part."""
    set_lr(optimizer, lr)
    optimizer.zero_grad()
    method.before_forward()
    with group.parts(batch.counts), group.own_random(batch.seed):
        with mixed(compute):
            representation = learner.represent(batch.inputs)
            out = learner.readout(representation)
        representation, out = full_precision(representation), full_precision(out)
        loss = training.loss_weight * learner.loss(out, batch) + method.extra_loss(batch, representation, out)
    if not batch.counts:
        loss = 0 * loss
    scaled = loss if compute.scaler is None else compute.scaler.scale(loss)
    scaled.backward()
    if group.size() > 1:
        _add_up_gradients(learner.parameters())
    if compute.scaler is not None:
        compute.scaler.unscale_(optimizer)
    if training.clip_norm is not None:
        nn.utils.clip_grad_norm_(learner.parameters(), training.clip_norm)
    method.before_step()
    if compute.scaler is None:
        optimizer.step()
    else:
        compute.scaler.step(optimizer)
        compute.scaler.update()
    method.after_step(lr)
    return loss.detach()


def _add_up_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradients up over all processes; a parameter that has none in some of them has zeros there."""
    trained = [p for p in parameters if p.requires_grad]
    used = torch.tensor([p.grad is not None for p in trained], dtype=torch.float32)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    group.add_up([used, *gradients])
    for p, gradient, uses in zip(trained, gradients, used.tolist(), strict=True):
        p.grad = gradient if uses else None
