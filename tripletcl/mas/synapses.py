"""MAS, EWC and SI for a model and a training loop of one's own.

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

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tripletcl.continual.task import derived_seed
from tripletcl.errors import UserError
from tripletcl.mas.chunked import add_penalty_gradient_
from tripletcl.mas.consolidation import Consolidation, Loss, Select, inputs_of, labelled, losses
from tripletcl.mas.fisher import checked_draws, checked_gamma, gaussian_projections
from tripletcl.mas.path_integral import PathIntegral, checked_xi
from tripletcl.mas.samples import call_model
from tripletcl.mas.statistics import Engine
from tripletcl.mas.taps import Forward


class MemoryAwareSynapses(Consolidation):
    """Memory Aware Synapses (Aljundi et al., ECCV 2018): importance is the sensitivity of the outputs, without labels.

    Arguments and errors as in `Consolidation`.
    """

    def consolidate(
        self,
        loader: Iterable[Any],
        *,
        forward: Forward | None = None,
        select: Select | None = None,
        weight: float = 1.0,
        keep: float = 1.0,
        **measure: Any,
    ) -> None:
        """Add the importance of a task, after it was learned, and move the anchor to the current parameters.

        Args:
            loader: Batches as for training: tensors `[B, ...]`; tuples, whose first entry is used; or mappings, whose
                labels are left out. They are moved to the model's device.
            forward: Computes the outputs `[B, ...]` to protect from a batch; by default the model does.
            select: Takes the inputs out of a batch of another form.
            weight: Weight, >= 0, of this task among all.
            keep: Weight, >= 0, of the importance so far.
            measure: Further arguments of `importance`, such as `engine`, `scalar` or `scope`.

        Raises:
            UserError: as `importance`.
        """
        self.add(self.importance_on(inputs_of(loader, select), forward, **measure), keep=keep, weight=weight)


class ElasticWeightConsolidation(Consolidation):
    """Elastic Weight Consolidation (Kirkpatrick et al., PNAS 2017), online: importance is the Fisher information.

    The penalty has no 1/2, so that lam is half the paper's.

    Args:
        model: As in `Consolidation`.
        lam: As in `Consolidation`.
        gamma: Factor of the earlier tasks' importance with each further task, in [0, 1].
        draws: Noise vectors a sample, each a backward pass, for the information of the outputs.
        seed: Of the noise.

    Raises:
        UserError: A number out of its range.
    """

    def __init__(
        self, model: nn.Module, lam: float = 1.0, *, gamma: float = 1.0, draws: int = 1, seed: int = 0
    ) -> None:
        super().__init__(model, lam)
        self.gamma, self.draws, self.seed = checked_gamma(gamma), checked_draws(draws), seed
        self.tasks = 0
        """Number of tasks so far."""

    def consolidate(
        self,
        loader: Iterable[Any],
        *,
        loss: Loss | None = None,
        forward: Forward | None = None,
        select: Select | None = None,
        weight: float = 1.0,
        engine: Engine = "hooks",
    ) -> None:
        """Add the Fisher information of a task, after it was learned, and move the anchor to the current parameters.

        Args:
            loader: As in `MemoryAwareSynapses.consolidate`; with a loss each batch has labels.
            loss: Outputs and labels to one number a sample, such as `nn.CrossEntropyLoss(reduction="none")`: the
                empirical Fisher information, the mean of the squared gradient of each sample's own loss. By default
                that of outputs with Gaussian noise, `sum_d (d F_d / d theta)^2`, which needs no label, estimated by
                `draws` backward passes.
            forward: Computes the outputs `[B, ...]` from the inputs of a batch; by default the model does.
            select: Takes the inputs out of a batch of another form; with a loss a pair of inputs and labels.
            weight: Weight, >= 0, of this task among all.
            engine: As in `importance`.

        Raises:
            UserError: As `importance`; batches without labels, or a loss of another shape.
        """
        measure: dict[str, Any] = {"statistic": torch.square, "engine": engine}
        if loss is None:
            generator = np.random.default_rng(derived_seed(self.seed, self.tasks))
            batches, measure["scalar"] = inputs_of(loader, select), gaussian_projections(generator, self.draws)
        else:
            batches, measure["scalar"] = labelled(loader, select), _unchanged
            forward = partial(losses, loss, forward or partial(call_model, self.model))
        self.add(self.importance_on(batches, forward, **measure), keep=self.gamma, weight=weight)
        self.tasks += 1

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "tasks": self.tasks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.tasks = state["tasks"]


class SynapticIntelligence(Consolidation):
    """Synaptic Intelligence (Zenke, Poole, Ganguli, ICML 2017): importance is the path integral of the loss gradient.

    It is measured while the model learns, so `step` (or `record`) comes after every step of the optimizer, from the
    first task on, and before the gradients are set to zero.

    Args:
        model: As in `Consolidation`.
        lam: As in `Consolidation`.
        xi: Bounds the importance of a parameter that hardly moved, > 0; in units of a squared parameter.

    Raises:
        UserError: A number out of its range.
    """

    def __init__(self, model: nn.Module, lam: float = 1.0, *, xi: float = 0.1) -> None:
        super().__init__(model, lam)
        self.xi = checked_xi(xi)
        self._path = PathIntegral()
        self._path.begin(self.parameters)

    def step(self, lr: float) -> None:
        """Apply the penalty after `optimizer.step()`, in its proximal form, and record the step.

        Args:
            lr: The optimizer's current learning rate.
        """
        super().step(lr)
        self._path.copy_gradient()
        self._accumulate()

    def record(self) -> None:
        """Record the optimizer's step after `penalty()` or `add_gradient()`, whose gradient does not count."""
        self.follow()
        self._path.copy_gradient()
        names = [name for name in self.omega if name in self._path.gradient]
        of_loss, theta, omega, anchor = (
            [stored[name] for name in names]
            for stored in (self._path.gradient, self._path.theta, self.omega, self.anchor)
        )
        add_penalty_gradient_(of_loss, theta, omega, anchor, -2 * self.lam)
        self._accumulate()

    def consolidate(self, loader: Iterable[Any] = (), *, forward: Forward | None = None, weight: float = 1.0) -> None:
        """Add the importance of the task that was learned, move the anchor, and begin the next task.

        Args:
            loader: Not used, as nothing is left to be measured: the three classes are called alike.
            forward: The same.
            weight: Weight, >= 0, of this task among all.

        Raises:
            UserError: No step with a gradient was recorded.
        """
        if not any(work.any() for work in self._path.work.values()):
            raise UserError(
                "SI has recorded no step with a gradient since the last task: call step(lr) after optimizer.step() and "
                "before optimizer.zero_grad()"
            )
        self.follow()
        self.add(self._path.importance(self.xi), weight=weight)
        self._path.begin(self.parameters)

    def state_dict(self) -> dict[str, Any]:
        theta = {name: value.clone() for name, value in self._path.theta.items()}
        return {**super().state_dict(), **self._path.state_dict(), "theta": theta}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._path.load_state_dict(state, self.parameters)

    def _accumulate(self) -> None:
        self._path.accumulate()
        self._path.copy_theta()

    def follow(self) -> dict[str, nn.Parameter]:
        """As in `Consolidation`."""
        parameters = super().follow()
        self._path.follow({name: p for name, p in parameters.items() if p.requires_grad or name in self._path.work})
        return parameters


Protection = MemoryAwareSynapses | ElasticWeightConsolidation | SynapticIntelligence
"""Any of the three, which are called alike."""


def _unchanged(losses: Tensor) -> Tensor:
    return losses
