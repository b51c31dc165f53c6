"""The hooks of a continual-learning method. The base class does nothing: it is plain fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from torch import Tensor, nn

from tripletcl.continual.task import Batch, Task
from tripletcl.errors import UserError

Lam = float | Literal["auto"]
"""The weight of what a method adds to the loss: a number >= 0, or chosen task by task (`stability`)."""

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

    def represent(self, inputs: Tensor) -> Tensor:
        """Inputs `[B, ...]` to the representation `[B, C]` that the last layers read."""
        ...

    def readout(self, representation: Tensor) -> Tensor:
        """A representation to outputs: `learner(x)` is `learner.readout(learner.represent(x))`."""
        ...

    def answers(self, representation: Tensor, out: Tensor) -> Sequence[Tensor]:
        """The outputs `[B, ...]` by which the tasks BEFORE this one are answered, one tensor for each head.

        Args:
            representation: `[B, C]`.
            out: What `readout` made of it: where one output serves all tasks, `(out,)` is the answer.
        """
        ...

    def begin_task(self, task: Task) -> None:
        """Make ready for the task's targets. Called again on a resume: must depend on nothing but the task."""
        ...

    def trunk(self) -> Iterable[nn.Parameter]:
        """The parameters of `represent`."""
        ...

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """The task's scalar loss of a batch."""
        ...

    def score(self, out: Tensor, batch: Batch) -> Tensor:
        """`[B]` in [0, 1], higher is better: how well the task is solved on each item of a batch."""
        ...

    def functions(self, task: Task, inputs: Inputs) -> Iterable[tuple[Callable[[Tensor], Tensor], Iterable[Tensor]]]:
        """The learned functions, each with the batches to measure its sensitivity on."""
        ...

    def install_readout(self, width: int, seed: int, targets: Literal["text", "indicators", "both"]) -> None:
        """Make room for a linear read-out of random features of the representation; unused until `set_readout`."""
        ...

    def expand(self, representation: Tensor) -> Tensor:
        """A representation `[B, C]` to the read-out's random features `[B, M]`."""
        ...

    def indicators(self, batch: Batch) -> Tensor:
        """`[B, K]`: which of the task's classes each input shows, 1 in all."""
        ...

    def set_readout(self, weight: Tensor, classes: np.ndarray) -> None:
        """Answer by the read-out from now on: its weight `[M, K]`, for these K classes."""
        ...

    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def train(self, mode: bool = True) -> Any: ...
    def eval(self) -> Any: ...
    def requires_grad_(self, requires_grad: bool = True) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True)
class Properties:
    """What a method promises, as in the table of properties of Aljundi et al. (ECCV 2018).

    Attributes:
        constant_memory: What it keeps does not grow with the number of tasks.
        problem_agnostic: It asks nothing of the outputs: classes, embeddings, anything.
        on_pretrained: It can protect a network that was trained without it.
        unlabeled: What it keeps is computed from inputs alone.
        adaptive: Other inputs (`Task.importance_items`) make it keep other things.
        consistent: Every task weighs the same in what is kept.
    """

    constant_memory: bool = True
    problem_agnostic: bool = True
    on_pretrained: bool = True
    unlabeled: bool = True
    adaptive: bool = False
    consistent: bool = False


class Method:
    """Plain fine-tuning, and the base of every method: override the hooks that the method needs.

    The loop calls, for every task: `before_task`; for every batch `before_forward`, the forward pass, `extra_loss`,
    the backward pass, `before_step`, the optimizer's step, `after_step`; at last `after_task`. On a resume
    `before_task` is called and the stored weights and state are loaded over what it did, so it may not do anything
    that a load does not put right. A parameter that does not require a gradient stands still, perhaps for a while
    (`Training.head_epochs`): `before_forward`, `before_step` and `after_step` leave it and its missing gradient alone.

    Attributes:
        name: The key in METHODS and in every table.
        joint: Trained on all tasks at once: the upper bound, no continual learner.
        freezes_protected: After some task it lets nothing that the tasks share be trained any more.
        properties: What it promises.
        high_lam: A weight so high that hardly anything new is learned: where `lam: auto` starts to look.
        lam: The weight of what it adds to the loss.
        lam_is_auto: It is chosen anew for every task (`tripletcl.continual.stability`).
    """

    name: ClassVar[str] = "finetune"
    joint: ClassVar[bool] = False
    freezes_protected: ClassVar[bool] = False
    properties: ClassVar[Properties] = Properties(on_pretrained=False)  # there is nothing that it protects

    high_lam: ClassVar[float] = 1000.0

    lam: float = 0.0
    lam_is_auto: bool = False

    learner: Learner
    inputs: Inputs

    def weigh(self, lam: Lam) -> None:
        """Take the weight, or leave it to be chosen; for constructors.

        Raises:
            UserError: it is negative or not finite.
        """
        self.lam_is_auto = lam == "auto"
        self.lam = 0.0 if lam == "auto" else checked_weight(lam)

    @property
    def searched(self) -> Method | None:
        """The method whose `lam` is chosen automatically: itself, one of a combination, or none."""
        return self if self.lam_is_auto else None

    def check(self, tasks: Sequence[Task]) -> None:
        """Look at the sequence before anything is trained.

        Raises:
            UserError: the method cannot do what is asked of it.
        """

    def start(self, learner: Learner, inputs: Inputs) -> None:
        """Meet the learner and the inputs, once, before the sequence."""
        self.learner = learner
        self.inputs = inputs

    def prefetch(self, state: dict[str, Any]) -> None:
        """A state will be loaded after `start`: begin in a thread what takes long to learn a little more from there."""

    def before_task(self, task: Task) -> None:
        """Freeze a teacher, restore weights."""

    def before_forward(self) -> None:
        """The weights are about to be used on a batch: perturb them, and put them back in `before_step`."""

    def extra_loss(self, batch: Batch, representation: Tensor, out: Tensor) -> Tensor | float:
        """A term added to the task's loss, from the batch's representation `[B, C]` and un-normalised outputs."""
        return 0.0

    def before_step(self) -> None:
        """`p.grad` holds the gradient of the loss: add the penalty's."""

    def after_step(self, lr: float) -> None:
        """The optimizer has moved the weights with learning rate lr: path integrals, the proximal penalty."""

    def after_task(self, task: Task) -> None:
        """Importance, anchor, merge."""

    def add_importance(self, task: Task, weight: float, afresh: bool = False) -> None:
        """Measure importance on a task's `importance_items`, with the model as the last task left it, and add it.

        For methods that are `adaptive`: what a user looks at is what is to be remembered.

        Args:
            weight: How much it counts beside the tasks', >= 0; 0 leaves all as it is.
            afresh: Put it in place of what the tasks before have left.
        """
        raise UserError(f"{self.name} does not measure importance on images, so it cannot be adapted")

    def state_dict(self) -> dict[str, Any]:
        """All that is carried from step to step: nested dicts of tensors (keyed by parameter name) and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""

    def memory_bytes(self) -> int:
        """Bytes of the tensors that the method keeps between tasks."""
        return _tensor_bytes(self.state_dict())


def checked_weight(weight: float, name: str = "lam") -> float:
    """The weight itself.

    Raises:
        UserError: it is negative or not finite.
    """
    if not 0 <= weight < float("inf"):
        raise UserError(f"{name} is {weight}, but the weight of a penalty is a finite number of at least 0")
    return weight


def _tensor_bytes(tree: Any) -> int:
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    return sum(map(_tensor_bytes, tree.values())) if isinstance(tree, dict) else 0
