"""Importance, anchor and penalty for a model and a training loop of one's own, whatever the importance is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from tripletcl import group
from tripletcl.continual import checked_weight
from tripletcl.errors import UserError
from tripletcl.mas.importance import importance
from tripletcl.mas.penalty import QuadraticPenalty
from tripletcl.mas.samples import Samples, check_samples, map_tensors, sample_count
from tripletcl.mas.taps import Forward

LABELS = ("labels", "label")
"""Entries of a batch that a model would compute a loss from."""

INPUT = ""
"""Key of an input that is a tensor, where inputs and labels are one mapping."""

Select = Callable[[Any], Any]
"""Takes the inputs out of a batch of a training loader; inputs and labels where a loss is differentiated."""

Loss = Callable[[Any, Tensor], Tensor]
"""Outputs and labels `[B, ...]` to one number a sample, `[B]`."""


class Consolidation:
    """Protects what a model has learned while it learns more.

    The model stays the user's own: nothing is wrapped, and no hook remains on it. A model in DistributedDataParallel or
    compiled by `torch.compile` may be given as it is. Where torch.distributed is initialised, every process measures
    importance on its share of the samples, and all get the mean. A layer that grows keeps the importance of its old
    part; the new part is free. Importance and anchor follow the model to another device.

    Args:
        model: Its parameters with `requires_grad` are protected.
        lam: Weight, >= 0, of the penalty `lam * sum omega (theta - anchor)^2`.

    Raises:
        UserError: lam is negative or not finite.
    """

    def __init__(self, model: nn.Module, lam: float = 1.0) -> None:
        self.lam = checked_weight(lam)
        self.model = _unwrapped(model)
        self._penalty = QuadraticPenalty()

    @property
    def omega(self) -> dict[str, Tensor]:
        """Parameter name -> importance, summed over the tasks; empty before the first."""
        return self._penalty.omega

    @property
    def anchor(self) -> dict[str, Tensor]:
        """Parameter name -> value after the last task."""
        return self._penalty.anchor

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The model's parameters by name."""
        return dict(self.model.named_parameters())

    def penalty(self) -> Tensor:
        """Compute `lam * sum omega (theta - anchor)^2`, a scalar to be added to the loss; 0 before the first task.

        The gradient form diverges once `2 lr lam max(omega)` exceeds about 2 (1 + momentum); `step` never does.
        """
        parameters = self.follow()
        total = next(iter(parameters.values())).new_zeros((), dtype=torch.float32)
        for name, omega in self.omega.items():
            if parameters[name].requires_grad:
                total = total + (omega * (parameters[name] - self.anchor[name]).square()).sum()
        return self.lam * total

    def add_gradient(self) -> None:
        """Add the gradient of `penalty()` to `p.grad` before `optimizer.step()`: the same, without autograd."""
        self.follow()
        self._penalty.add_gradient(self.lam)

    def step(self, lr: float) -> None:
        """Apply the penalty after `optimizer.step()`, in its proximal form, which is stable at any lam.

        Args:
            lr: The optimizer's current learning rate, such as `scheduler.get_last_lr()[0]`.
        """
        self.follow()
        self._penalty.proximal_step(lr, self.lam)

    def state_dict(self) -> dict[str, Any]:
        """Importance and anchor by parameter name, for `torch.save` with the model's own state."""
        return self._penalty.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a `state_dict`, on the model's device.

        Raises:
            UserError: The state has a parameter that the model lacks.
        """
        if strange := sorted(set(state["omega"]) - set(self.parameters)):
            raise UserError(f"the state has an importance of {strange[0]}, and the model has no such parameter")
        self._penalty.load_state_dict(dict(state), self.parameters)
        self.follow()

    def importance_on(self, batches: Iterable[Samples], forward: Forward | None, **measure: Any) -> dict[str, Tensor]:
        """Measure `importance` on batches of samples, of all processes of data-parallel training."""
        device = next(self.model.parameters()).device

        def moved() -> Iterator[Samples]:
            for batch in batches:
                check_samples(batch)
                yield map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))

        with group.joined(launched=False):
            return importance(self.model, moved(), forward=forward, **measure)

    def add(self, omega: dict[str, Tensor], *, keep: float = 1.0, weight: float) -> None:
        """Add a task's importance to `keep` times that of the earlier ones, and move the anchor.

        Raises:
            UserError: weight is negative or not finite.
        """
        self._penalty.update(self.follow(), omega, keep=keep, add=checked_weight(weight, "weight"))

    def follow(self) -> dict[str, nn.Parameter]:
        """Let what is stored follow the model's parameters, which are returned by name."""
        parameters = self.parameters
        self._penalty.follow(parameters)
        return parameters


def inputs_of(loader: Iterable[Any], select: Select | None) -> Iterator[Samples]:
    """Yield the inputs of a training loader's batches."""
    for batch in loader:
        if select is not None:
            yield select(batch)
        elif isinstance(batch, Mapping):
            yield {key: value for key, value in batch.items() if key not in LABELS}
        else:
            yield batch[0] if isinstance(batch, tuple | list) and batch else batch


def labelled(loader: Iterable[Any], select: Select | None) -> Iterator[Samples]:
    """Yield inputs and labels of a training loader's batches, each as one mapping.

    Raises:
        UserError: A batch has no labels.
    """
    for given in loader:
        batch = given if select is None else select(given)
        inputs, labels = batch, None
        if isinstance(batch, Mapping):
            labels = next((batch[key] for key in LABELS if key in batch), None)
            inputs = {key: value for key, value in batch.items() if key not in LABELS}
        elif isinstance(batch, tuple | list) and len(batch) > 1:
            inputs, labels = batch[:2]
        if not isinstance(labels, Tensor):
            raise UserError(
                f"a loss needs batches (inputs, labels), or mappings with a tensor called {' or '.join(LABELS)}, and "
                f"one of them is a {type(batch).__name__} without labels"
            )
        yield {**(inputs if isinstance(inputs, Mapping) else {INPUT: inputs}), LABELS[0]: labels}


def losses(loss: Loss, forward: Forward, samples: Mapping[str, Any]) -> Tensor:
    """The loss of each sample, `[B]`, of samples from `labelled`.

    Raises:
        UserError: The loss gives something else.
    """
    inputs = {key: value for key, value in samples.items() if key != LABELS[0]}
    values = loss(forward(inputs.get(INPUT, inputs)), samples[LABELS[0]])
    if values.shape != (count := sample_count(samples),):
        raise UserError(
            f'the loss must give one number a sample, [{count}], not {[*values.shape]}: reduction="none" of torch\'s'
        )
    return values


def _unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, without DistributedDataParallel, DataParallel or `torch.compile` around it."""
    while isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel) or (
        type(model).__name__ == "OptimizedModule"  # the type of a compiled module has no public name
    ):
        model = next(model.children())
    return model
