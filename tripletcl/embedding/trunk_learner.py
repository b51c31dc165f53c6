"""The common part of the learners of facts and of objects: inputs pass a trunk, and a readout makes the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from tripletcl.embedding.readout import AnalyticReadout
from tripletcl.embedding.trunk import Trunk


class TaskLike(Protocol):
    """The part of a task that a learner reads: ids of its classes, of those of earlier tasks, and of inputs."""

    @property
    def classes(self) -> np.ndarray: ...
    @property
    def earlier_classes(self) -> np.ndarray: ...
    @property
    def importance_items(self) -> np.ndarray: ...


class TrunkLearner(nn.Module):
    """A learner whose model has a trunk and, once a method installs it, an analytic readout.

    Args:
        from_features: The inputs are features of the frozen trunk, not images.
    """

    readout: Callable[[Tensor], Tensor]

    def __init__(self, from_features: bool) -> None:
        super().__init__()
        self.from_features = from_features

    @property
    def network(self) -> Trunk:
        """The trunk, perhaps with heads."""
        raise NotImplementedError

    @property
    def analytic(self) -> AnalyticReadout | None:
        """The analytic readout, if a method installed it."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Map images or features `[B, ...]` to outputs `[B, ...]`."""
        return self.readout(self.represent(inputs))

    def represent(self, inputs: Tensor) -> Tensor:
        """Map images or features `[B, ...]` to the representation `[B, C]` that the heads read."""
        return self.network.represent(inputs if self.from_features else self.network.features(inputs))

    def trunk(self) -> Iterable[nn.Parameter]:
        """The parameters of `represent`."""
        return [*self.network.shared.parameters(), *self.network.branches.parameters()]

    def expand(self, representation: Tensor) -> Tensor:
        """Map a representation `[B, C]` to its random features `[B, M]`."""
        assert self.analytic is not None
        return self.analytic.expand(representation)

    def read_by_vectors(self) -> bool:
        """Classes have no vectors, unless a learner says otherwise."""
        return False

    def class_vectors(self, classes: np.ndarray, fit: bool = False) -> Tensor:
        """Not asked for where classes have no vectors."""
        raise NotImplementedError

    def functions(
        self, task: TaskLike, inputs: Callable[[np.ndarray], Iterator[Tensor]]
    ) -> Iterable[tuple[Callable[[Tensor], Tensor], Iterable[Tensor]]]:
        """Yield each learned function with the batches to measure its sensitivity on: outputs of the task's images."""
        yield self.forward, inputs(task.importance_items)
