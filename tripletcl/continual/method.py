"""The five hooks of a continual-learning method. The base class does nothing: it is plain fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn

from tripletcl.continual.task import Batch, Task

Inputs = Callable[[np.ndarray], Iterator[Tensor]]
"""Item ids to batches of their inputs, without augmentation, in order."""


class Learner(Protocol):
    """What the loop and the methods ask of a model: outputs, a loss, what to remember, and an `nn.Module`'s own."""

    @property
    def protected(self) -> nn.Module:
        """The part whose parameters the tasks share and whose function is to be kept."""
        ...

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs `[B, ...]` to un-normalised outputs `[B, ...]`, the function whose change is penalised."""
        ...

    def begin_task(self, task: Task) -> None:
        """Make ready for the task's targets. Called again on a resume: must depend on nothing but the task."""
        ...

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """The task's scalar loss of a batch."""
        ...

    def functions(self, task: Task, inputs: Inputs) -> Iterable[tuple[Callable[[Tensor], Tensor], Iterable[Tensor]]]:
        """The learned functions, each with the batches to measure its sensitivity on."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def train(self, mode: bool = True) -> Any: ...
    def requires_grad_(self, requires_grad: bool = True) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


class Method:
    """Plain fine-tuning, and the base of every method: override the hooks that the method needs.

    The loop calls, for every task: `before_task`; for every batch `extra_loss`, the backward pass, `before_step`, the
    optimizer's step, `after_step`; at last `after_task`. On a resume `before_task` is called and the stored weights
    and state are loaded over what it did, so it may not do anything that a load does not put right.

    Attributes:
        name: The key in METHODS and in every table.
        joint: Trained on all tasks at once: the upper bound, no continual learner.
    """

    name: ClassVar[str] = "finetune"
    joint: ClassVar[bool] = False

    learner: Learner
    inputs: Inputs

    def start(self, learner: Learner, inputs: Inputs) -> None:
        """Meet the learner and the inputs, once, before the sequence."""
        self.learner = learner
        self.inputs = inputs

    def before_task(self, task: Task) -> None:
        """Freeze a teacher, restore weights."""

    def extra_loss(self, batch: Batch, out: Tensor) -> Tensor | float:
        """A term added to the task's loss, from the batch's un-normalised outputs."""
        return 0.0

    def before_step(self) -> None:
        """`p.grad` holds the gradient of the loss: add the penalty's."""

    def after_step(self, lr: float) -> None:
        """The optimizer has moved the weights with learning rate lr: path integrals, the proximal penalty."""

    def after_task(self, task: Task) -> None:
        """Importance, anchor, merge."""

    def state_dict(self) -> dict[str, Any]:
        """All that is carried from step to step: nested dicts of tensors (keyed by parameter name) and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""

    def memory_bytes(self) -> int:
        """Bytes of the tensors that the method keeps between tasks."""
        return _tensor_bytes(self.state_dict())


def _tensor_bytes(tree: Any) -> int:
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    return sum(map(_tensor_bytes, tree.values())) if isinstance(tree, dict) else 0
