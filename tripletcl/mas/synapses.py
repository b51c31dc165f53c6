"""Memory Aware Synapses for a model and a training loop of one's own.

mas = MemoryAwareSynapses(model, lam=1.0)
for loader in tasks:
    for inputs, labels in loader:
        loss = criterion(model(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mas.step(lr)              # or, before backward, loss = loss + mas.penalty()
    mas.consolidate(loader)       # after the task: exact importance, no labels
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tripletcl.errors import UserError
from tripletcl.mas.importance import importance
from tripletcl.mas.penalty import QuadraticPenalty
from tripletcl.mas.samples import Samples, check_samples, map_tensors
from tripletcl.mas.taps import Forward

LABELS = ("labels", "label")
"""Entries of a batch that a model would compute a loss from; importance needs none."""


class MemoryAwareSynapses:
    """Protects what a model has learned while it learns more (Aljundi et al., ECCV 2018).

    The model stays the user's own: nothing is wrapped, and no hook remains on it. A model in DistributedDataParallel or
    compiled by `torch.compile` may be given as it is. A layer that grows keeps the importance of its old part; the new
    part is free.

    Args:
        model: Its parameters with `requires_grad` are protected.
        lam: Weight, >= 0, of the penalty `lam * sum omega (theta - anchor)^2`.

    Attributes:
        omega: Parameter name -> importance, summed over the tasks; empty before the first.
        anchor: Parameter name -> value after the last task.

    Raises:
        UserError: lam is negative or not finite.
    """

    def __init__(self, model: nn.Module, lam: float = 1.0) -> None:
        if not 0 <= lam < float("inf"):
            raise UserError(f"lam is {lam}, but the weight of a penalty is a finite number of 0 or more")
        self.model, self.lam = _unwrapped(model), lam
        self._penalty = QuadraticPenalty()

    @property
    def omega(self) -> dict[str, Tensor]:
        """Parameter name -> importance."""
        return self._penalty.omega

    @property
    def anchor(self) -> dict[str, Tensor]:
        """Parameter name -> value after the last task."""
        return self._penalty.anchor

    def consolidate(
        self,
        loader: Iterable[Any],
        *,
        forward: Forward | None = None,
        select: Callable[[Any], Samples] | None = None,
        weight: float = 1.0,
        **measure: Any,
    ) -> None:
        """Add the importance of a task, after it was learned, and move the anchor to the current parameters.

        Args:
            loader: Batches as for training: tensors `[B, ...]`; tuples, whose first entry is used; or mappings, whose
                labels are left out. They are moved to the model's device.
            forward: Computes the outputs `[B, ...]` to protect from a batch; by default the model does.
            select: Takes the inputs out of a batch of another form.
            weight: Weight of this task among all.
            measure: Further arguments of `importance`, such as `engine`, `scalar` or `scope`.

        Raises:
            UserError: as `importance`.
        """
        device = next(self.model.parameters()).device
        batches = (_to(device, _inputs(batch, select)) for batch in loader)
        omega = importance(self.model, batches, forward=forward, **measure)
        self._grow()
        self._penalty.update(dict(self.model.named_parameters()), omega, add=weight)

    def penalty(self) -> Tensor:
        """Compute `lam * sum omega (theta - anchor)^2`, a scalar to be added to the loss; 0 before the first task.

        The gradient form diverges once `2 lr lam max(omega)` exceeds about 2 (1 + momentum); `step` never does.
        """
        self._grow()
        parameters = dict(self.model.named_parameters())
        total = next(iter(parameters.values())).new_zeros((), dtype=torch.float32)
        for name, omega in self.omega.items():
            if parameters[name].requires_grad:
                total = total + (omega * (parameters[name] - self.anchor[name]).square()).sum()
        return self.lam * total

    def step(self, lr: float) -> None:
        """Apply the penalty after `optimizer.step()`, in its proximal form, which is stable at any lam.

        Args:
            lr: The optimizer's current learning rate, such as `scheduler.get_last_lr()[0]`.
        """
        self._grow()
        self._penalty.proximal_step(lr, self.lam)

    def state_dict(self) -> dict[str, Any]:
        """Importance and anchor by parameter name, for `torch.save` with the model's own state."""
        return self._penalty.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`, on the model's device.

        Raises:
            UserError: the state has a parameter that the model lacks.
        """
        parameters = dict(self.model.named_parameters())
        if strange := sorted(set(state["omega"]) - set(parameters)):
            raise UserError(f"the state has an importance of {strange[0]}, and the model has no such parameter")
        moved = {
            key: {name: value.to(parameters[name].device) for name, value in state[key].items()}
            for key in ("omega", "anchor")
        }
        self._penalty.load_state_dict({**state, **moved}, parameters)

    @torch.no_grad()
    def _grow(self) -> None:
        """Follow parameters that became larger or were replaced since the last task."""
        parameters = dict(self.model.named_parameters())
        for name in self.omega:
            if name not in parameters:
                raise UserError(f"the model has lost its parameter {name}, which holds what earlier tasks learned")
            if self.omega[name].shape != parameters[name].shape:
                self._penalty.omega[name] = _in_corner(name, self.omega[name], torch.zeros_like(parameters[name]))
                self._penalty.anchor[name] = _in_corner(name, self.anchor[name], parameters[name].detach().clone())
        self._penalty.bind(parameters)


def _inputs(batch: Any, select: Callable[[Any], Samples] | None) -> Samples:
    """The inputs in a batch of a training loader."""
    if select is not None:
        return select(batch)
    if isinstance(batch, Mapping):
        return {key: value for key, value in batch.items() if key not in LABELS}
    if isinstance(batch, tuple | list) and batch:
        return batch[0]
    return batch


def _to(device: torch.device, batch: Samples) -> Samples:
    check_samples(batch)
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))


def _in_corner(name: str, old: Tensor, new: Tensor) -> Tensor:
    """Write an old tensor into the first rows and columns of a new one."""
    if old.ndim != new.ndim or any(a > b for a, b in zip(old.shape, new.shape, strict=True)):
        raise UserError(f"{name} had shape {[*old.shape]} and now has {[*new.shape]}: a parameter may only grow")
    new[tuple(slice(size) for size in old.shape)] = old
    return new


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without DistributedDataParallel, DataParallel or `torch.compile` around it."""
    while isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel) or (
        type(model).__name__ == "OptimizedModule"  # the type of a compiled module has no public name
    ):
        model = next(model.children())
    return model
