"""The contract of a method: it resumes bit for bit, is fine-tuning at weight zero, and keeps its promised properties.

Every check trains toys (`tripletcl.testing.toy`) in a folder. What "problem agnostic" and "consistent" mean is in a
method's own equations, so its own tests hold them.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripletcl.config.method import validate_method
from tripletcl.continual import Method, Position, RunFolder, Task, Training
from tripletcl.continual.device import compute_on
from tripletcl.continual.loop import train_task
from tripletcl.continual.optimization import build_optimizer
from tripletcl.continual.task import plain_batches
from tripletcl.errors import UserError
from tripletcl.methods import build_method
from tripletcl.testing.toy import ToyLearner, ToySource, run_toy, toy_tasks

Build = Callable[[], Method]
"""Makes a new instance of a method."""

Check = Callable[[Build, Path], bool]

TRAINING = Training(epochs=3, batch_size=16, lr=0.05, checkpoint_minutes=0)
SOURCE = ToySource()
STEPS = 4
"""Steps after which a run is killed."""


def contract(given: Any) -> Iterator[tuple[str, bool | None]]:
    """Check a method: yields each clause, and whether it holds; None where the method does not promise it.

    Args:
        given: A name or a path `package.module:Class`, or a mapping of it and settings.

    Raises:
        UserError: There is no such method, or its settings are wrong.
    """
    try:
        settings = validate_method(given)
    except ValueError as error:
        raise UserError(str(error)) from error
    build = partial(build_method, [settings])
    method = build()
    with tempfile.TemporaryDirectory() as scratch:
        folders = (Path(scratch, str(number)) for number in itertools.count())
        yield "a run that is killed and resumed equals an uninterrupted one, bit for bit", resumes(build, next(folders))
        if method.joint:
            return
        if zero := zero_settings(type(method)):
            clause = (
                f"with {', '.join(f'{key} {value:g}' for key, value in zero.items())} it is fine-tuning, bit for bit"
            )
            yield clause, is_finetune_at_zero(partial(build_method, [settings | zero]), next(folders))
        for key, check in PROPERTIES.items():
            promised = asdict(method.properties)[key]
            yield f"property: {key.replace('_', ' ')}", check(build, next(folders)) if promised else None


def resumes(
    build: Build,
    folder: Path,
    training: Training = TRAINING,
    run: Callable[..., tuple[Any, RunFolder]] = run_toy,
) -> bool:
    """Train in one go, and in a run that is killed again and again; tell whether weights and figures are equal."""
    whole, whole_run = run(folder / "whole", build(), training=training)
    for attempt in itertools.count(1):
        try:  # every attempt takes a few steps more than the last, then is killed
            pieces, pieces_run = run(folder / "pieces", build(), training=training, stop_after=STEPS)
            break
        except KeyboardInterrupt:
            torch.manual_seed(attempt)  # a new process could be in any state
    figures = [
        [{key: value for key, value in line.items() if key not in ("seconds", "time")} for line in each.metrics]
        for each in (whole_run, pieces_run)
    ]
    return attempt > 1 and same(whole.state_dict(), pieces.state_dict()) and figures[0] == figures[1]


def is_finetune_at_zero(build: Build, folder: Path, training: Training = TRAINING) -> bool:
    """Tell whether a run of a method without weight has the weights of plain fine-tuning, bit for bit."""
    learners = [
        run_toy(folder / str(number), method, training=training)[0] for number, method in enumerate((Method(), build()))
    ]
    return same(*(learner.state_dict() for learner in learners))


def zero_settings(method: type[Method]) -> dict[str, Any] | None:
    """The settings under which a method promises to be fine-tuning; None if it has no such settings."""
    known = inspect.signature(method).parameters
    return dict(method.zero) if method.zero.keys() <= known.keys() else None


def has_constant_memory(build: Build, folder: Path) -> bool:
    """Tell whether its memory does not grow from the second to the tenth task."""
    method, kept = build(), []
    after_task = method.after_task

    def measured(task: Task) -> None:
        after_task(task)
        kept.append(method.memory_bytes())

    method.after_task = measured  # type: ignore[method-assign]
    run_toy(folder, method, tasks=toy_tasks(10), training=replace(TRAINING, epochs=1))
    return kept[9] <= kept[1]


def is_unlabeled(build: Build, folder: Path) -> bool:
    """Tell whether labels change its state neither at the end of a task nor through the loss during training."""
    task = toy_tasks()[1]
    mislabelled = replace(task, targets=-task.targets[::-1].copy(), classes=task.classes + 5)
    trained = _train_two_tasks(build, folder)
    return same(_untrained_state(build, trained, mislabelled), trained.after)


def is_adaptive(build: Build, folder: Path) -> bool:
    """Tell whether other inputs give another state, and can be added after the last task (`add_importance`)."""
    task, other = toy_tasks()[1:3]
    trained = _train_two_tasks(build, folder / "two")
    states = [_untrained_state(build, trained, replace(task, importance_items=t.items)) for t in (task, other)]
    return not same(*states) and _importance_can_be_added(build, folder / "added", other)


def protects_pretrained(build: Build, folder: Path) -> bool:
    """Tell whether the outputs of a network that was trained without it change less than by fine-tuning.

    If the method has a readout of its own, which grows with the classes, this is asked of the representation.
    """
    pretrained, _ = run_toy(folder, Method(), tasks=toy_tasks()[:1], training=TRAINING)
    method = build()
    protected, plain = _drift(method, pretrained), _drift(Method(), pretrained)
    what = 0 if method.learner.analytic is None else 1  # type: ignore[attr-defined]
    return protected[what] < plain[what]


PROPERTIES: dict[str, Check] = {
    "constant_memory": has_constant_memory,
    "unlabeled": is_unlabeled,
    "adaptive": is_adaptive,
    "on_pretrained": protects_pretrained,
}
"""The properties (`Properties`) that a run can show."""


def same(left: Any, right: Any) -> bool:
    """Tell whether two states are the same, bit for bit."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return torch.equal(left, right) if isinstance(left, Tensor) else bool(left == right)


@dataclass
class _States:
    """A method that was trained on two tasks: the states before and after the second."""

    before: dict[str, Any]
    learner_before: dict[str, Tensor]
    learner_after: dict[str, Tensor]
    random: Tensor
    after: dict[str, Any]


def _train_two_tasks(build: Build, folder: Path) -> _States:
    """Train two tasks and record the states."""
    method, states = build(), dict[str, Any]()
    before_task, after_task = method.before_task, method.after_task

    def before(task: Task) -> None:
        states["before"] = copy.deepcopy(method.state_dict())
        states["learner_before"] = copy.deepcopy(method.learner.state_dict())
        before_task(task)

    def after(task: Task) -> None:
        states["learner_after"] = copy.deepcopy(method.learner.state_dict())
        states["random"] = torch.get_rng_state()
        after_task(task)
        states["after"] = copy.deepcopy(method.state_dict())

    method.before_task, method.after_task = before, after  # type: ignore[method-assign]
    run_toy(folder, method, tasks=toy_tasks()[:2], training=TRAINING)
    return _States(**states)


def _untrained_state(build: Build, of: _States, task: Task) -> dict[str, Any]:
    """The state of a method without the training of the second task: it gets the weights and the task's inputs."""
    method, learner = build(), ToyLearner()
    method.start(learner, _inputs)
    learner.load_state_dict(of.learner_before)
    method.load_state_dict(copy.deepcopy(of.before))
    method.before_task(task)
    learner.load_state_dict(of.learner_after)
    torch.set_rng_state(of.random)
    method.after_task(task)
    return method.state_dict()


def _importance_can_be_added(build: Build, folder: Path, other: Task) -> bool:
    """True if importance of other inputs changes the state after the last task; with weight 0 nothing does."""
    method = build()
    run_toy(folder, method, tasks=toy_tasks()[:2], training=TRAINING)
    before = copy.deepcopy(method.state_dict())
    method.add_importance(other, 0.0)
    unchanged = same(method.state_dict(), before)
    method.add_importance(other, 2.0)
    return unchanged and not same(method.state_dict(), before)


def _inputs(items: np.ndarray) -> Iterator[Tensor]:
    return plain_batches(SOURCE, items, TRAINING.batch_size)


def _drift(method: Method, pretrained: ToyLearner) -> tuple[float, float]:
    """The change of outputs and representation of the first task's inputs while a second task is learned.

    The method meets a network that was trained without it: it may look at it, once, with the first task's inputs.
    """
    first, second = toy_tasks()[:2]
    learner = copy.deepcopy(pretrained).eval()
    method.start(learner, _inputs)
    method.before_task(first)
    method.after_task(first)
    outputs, representation = _all_of(learner, first), _all_of(learner.represent, first)
    _learn(method, learner, second)
    moved = _all_of(learner, first) - outputs, _all_of(learner.represent, first) - representation
    return moved[0].square().mean().item(), moved[1].square().mean().item()


def _learn(method: Method, learner: ToyLearner, task: Task) -> None:
    """Train one task as the loop does."""
    method.before_task(task)
    if any(p.requires_grad for p in learner.parameters()):
        compute, optimizer = compute_on("cpu"), build_optimizer(learner, TRAINING)
        torch.manual_seed(0)
        train_task(
            learner, task, method, SOURCE, optimizer, TRAINING, compute,
            seed=0, start=Position(1), on_check=lambda *_: None, save=lambda *_: None,
        )  # fmt: skip
    method.after_task(task)
    learner.eval()


@torch.no_grad()
def _all_of(function: Callable[[Tensor], Tensor], task: Task) -> Tensor:
    """The function of all of a task's inputs."""
    return torch.cat([function(batch) for batch in _inputs(task.items)])
