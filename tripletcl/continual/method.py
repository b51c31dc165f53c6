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
"""The weight of a method's term in the loss: a number >= 0, or chosen task by task (`stability`)."""

Inputs = Callable[[np.ndarray], Iterator[Tensor]]
"""Item ids to batches of their inputs, without augmentation, in order."""


class Learner(Protocol):
    """The model as the loop and the methods see it: outputs, a loss, functions to remember; and an `nn.Module`."""

    @property
    def protected(self) -> nn.Module:
        """The part whose parameters the tasks share, and whose function is to be preserved."""
        ...

    def __call__(self, inputs: Tensor) -> Tensor:
        """Inputs `[B, ...]` to un-normalised outputs `[B, ...]`, the function whose change is penalised."""
        ...

    def represent(self, inputs: Tensor) -> Tensor:
        """Inputs `[B, ...]` to the representation `[B, C]`, the input of the last layers."""
        ...

    def readout(self, representation: Tensor) -> Tensor:
        """A representation to outputs: `learner(x)` is `learner.readout(learner.represent(x))`."""
        ...

    def answers(self, representation: Tensor, out: Tensor) -> Sequence[Tensor]:
        """The outputs `[B, ...]` that belong to the tasks BEFORE this one, one tensor for each head.

        Args:
            representation: `[B, C]`.
            out: The `readout` of it. If one output serves all tasks, the result is `(out,)`.
        """
        ...

    def begin_task(self, task: Task) -> None:
        """Prepare for the task's targets. Called again on a resume: must depend on nothing but the task."""
        ...

    def trunk(self) -> Iterable[nn.Parameter]:
        """The parameters of `represent`."""
        ...

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        """The task's scalar loss of a batch; where several processes share it, this one's part (`tripletcl.group`)."""
        ...

    def score(self, out: Tensor, batch: Batch) -> Tensor:
        """`[B]` in [0, 1], higher is better: how well each item of a batch is solved."""
        ...

    def functions(self, task: Task, inputs: Inputs) -> Iterable[tuple[Callable[[Tensor], Tensor], Iterable[Tensor]]]:
        """The learned functions, each with the batches on which to measure its sensitivity."""
        ...

    def install_readout(self, width: int, seed: int, targets: Literal["text", "indicators", "both"]) -> None:
        """Add a linear readout of random features of the representation; it is unused until `set_readout`."""
        ...

    def expand(self, representation: Tensor) -> Tensor:
        """A representation `[B, C]` to the readout's random features `[B, M]`."""
        ...

    def indicators(self, batch: Batch) -> Tensor:
        """`[B, K]`: the task's classes in each input, weights that sum to 1."""
        ...

    def read_by_vectors(self) -> bool:
        """From now on read classes by their vectors; False if they have none."""
        ...

    def class_vectors(self, classes: np.ndarray, fit: bool = False) -> Tensor:
        """`[K, W]` the vectors of classes that are read by them; fit the map of the vectors to these classes first."""
        ...

    def set_readout(self, weight: Tensor, classes: np.ndarray, levels: Sequence[float] = ()) -> None:
        """Use the readout from now on, with the weight `[M, K]` for these K classes; `[M, W]` if they have vectors.

        `levels` are the mean scores of the classes in their own images; 0 where that is not known.
        """
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
    """The properties of a method, as in the table of Aljundi et al. (ECCV 2018).

    Attributes:
        constant_memory: Its memory does not grow with the number of tasks.
        problem_agnostic: It makes no assumption on the outputs: classes, embeddings, anything.
        on_pretrained: It can protect a network that was trained without it.
        unlabeled: What it stores is computed from inputs only.
        adaptive: Other inputs (`Task.importance_items`) make it preserve other things.
        consistent: Every task has the same weight in what it stores.
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
    the backward pass, `before_step`, the optimizer's step, `after_step`; and finally `after_task`. On a resume
    `before_task` is called and the stored weights and state are loaded over its result, so everything that it changes
    must be restored by that. A parameter that requires no gradient is frozen, perhaps for some epochs only
    (`Training.head_epochs`): `before_forward`, `before_step` and `after_step` leave it and its missing gradient alone.

    Attributes:
        name: The key in METHODS and in every table.
        joint: Trained on all tasks at once: the upper bound, no continual learner.
        freezes_protected: After some task it trains nothing any more that the tasks share.
        properties: See `Properties`.
        loss_in_parts: Its `extra_loss` gives, where several processes share a batch, this process's part of a mean
            over the whole batch (`tripletcl.group`); without it the method is trained by one process only.
        zero: Settings under which it is fine-tuning, bit for bit, where its constructor has them.
        high_lam: A weight so high that hardly anything new is learned: the start of the search of `lam: auto`.
        lam: The weight of its term in the loss.
        lam_is_auto: The weight is chosen for every task (`tripletcl.continual.stability`).
    """

    name: ClassVar[str] = "finetune"
    joint: ClassVar[bool] = False
    freezes_protected: ClassVar[bool] = False
    properties: ClassVar[Properties] = Properties(on_pretrained=False)  # it protects nothing

    loss_in_parts: ClassVar[bool] = False

    zero: ClassVar[Mapping[str, float]] = {"lam": 0.0}
    high_lam: ClassVar[float] = 1000.0

    lam: float = 0.0
    lam_is_auto: bool = False

    learner: Learner
    inputs: Inputs

    def set_lam(self, lam: Lam) -> None:
        """Set the weight, or leave it to be chosen; for constructors.

        Raises:
            UserError: It is negative or not finite.
        """
        self.lam_is_auto = lam == "auto"
        self.lam = 0.0 if lam == "auto" else checked_weight(lam)

    @property
    def losses_in_parts(self) -> bool:
        """True if several processes can train it together: it adds no loss to a batch, or does so in parts."""
        return self.loss_in_parts or type(self).extra_loss is Method.extra_loss

    @property
    def auto_method(self) -> Method | None:
        """The method whose `lam` is chosen automatically: itself, one of a combination, or none."""
        return self if self.lam_is_auto else None

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The parameters of the protected part by name."""
        return dict(self.learner.protected.named_parameters())

    def check(self, tasks: Sequence[Task]) -> None:
        """Check the sequence before anything is trained.

        Raises:
            UserError: The method cannot learn it.
        """

    def start(self, learner: Learner, inputs: Inputs) -> None:
        """Store the learner and the inputs; called once, before the sequence."""
        self.learner = learner
        self.inputs = inputs

    def prefetch(self, state: dict[str, Any]) -> None:
        """Start, in a thread, computations on a state that will be loaded after `start`."""

    def before_task(self, task: Task) -> None:
        """Freeze a teacher, restore weights."""

    def before_forward(self) -> None:
        """Perturb the weights for the forward pass; `before_step` restores them."""

    def extra_loss(self, batch: Batch, representation: Tensor, out: Tensor) -> Tensor | float:
        """A term added to the task's loss, from the batch's representation `[B, C]` and un-normalised outputs."""
        return 0.0

    def before_step(self) -> None:
        """Add the penalty's gradient to that of the loss, which is in `p.grad`."""

    def after_step(self, lr: float) -> None:
        """Update path integrals, apply the proximal penalty; the optimizer has taken a step with learning rate lr."""

    def after_task(self, task: Task) -> None:
        """Compute importance, move the anchor, merge weights."""

    @property
    def can_adapt(self) -> bool:
        """True if `add_importance` lets a user's own images decide what is remembered."""
        return self.properties.adaptive

    def add_importance(self, task: Task, weight: float, recompute: bool = False) -> None:
        """Measure importance on a task's `importance_items`, with the model after the last task, and add it.

        For methods that `can_adapt`.

        Args:
            weight: Its weight relative to the tasks', >= 0; 0 changes nothing.
            recompute: Replace the importance of all tasks by it.
        """
        raise UserError(f"{self.name} does not measure importance on images, so it cannot be adapted")

    def state_dict(self) -> dict[str, Any]:
        """The state between steps: nested dicts of tensors (keyed by parameter name) and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a `state_dict`."""

    def memory_bytes(self) -> int:
        """Bytes of the tensors that the method stores between tasks."""
        return _tensor_bytes(self.state_dict())


def checked_weight(weight: float, name: str = "lam") -> float:
    """Return the weight.

    Raises:
        UserError: It is negative or not finite.
    """
    if not 0 <= weight < float("inf"):
        raise UserError(f"{name} is {weight}, but the weight of a penalty is a finite number of at least 0")
    return weight


def _tensor_bytes(tree: Any) -> int:
    if isinstance(tree, Tensor):
        return tree.numel() * tree.element_size()
    return sum(map(_tensor_bytes, tree.values())) if isinstance(tree, dict) else 0
