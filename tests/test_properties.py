"""The declared properties of every method against its behaviour on the toy sequence.

Problem agnostic and consistent are held by the tests of each method: what they mean is in its own equations.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import ToyLearner, ToySource, run_toy, toy_tasks

from tripletcl.continual import Method, Position, Task, Training
from tripletcl.continual.device import compute_on
from tripletcl.continual.loop import train_task
from tripletcl.continual.optimization import build_optimizer
from tripletcl.continual.task import plain_batches
from tripletcl.methods import METHODS
from tripletcl.methods.analytic import Analytic

OTHER_SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("mas", {"scope": "local"}),
    ("mas", {"accumulate": "ema"}),
    ("ewc", {"form": "separate"}),
    ("ewc", {"fisher": "loss"}),
    ("imm", {"merge": "mean"}),
    ("analytic", {"trunk": "first"}),
]
"""Settings that may change the properties of a method."""

CASES = {name: (name, {}) for name, method in METHODS.items() if not method.joint}
CASES |= {f"{name} {' '.join(settings.values())}": (name, settings) for name, settings in OTHER_SETTINGS}
TRAINING = Training(epochs=3, batch_size=16, lr=0.05, checkpoint_minutes=0)
SOURCE = ToySource()


def build(case: str) -> Method:
    """The method of a case; four thousand random features would take seconds."""
    name, settings = CASES[case]
    return METHODS[name](**({"features": 100} if name == "analytic" else {}), **settings)


def inputs(items: np.ndarray) -> Iterator[Tensor]:
    return plain_batches(SOURCE, items, TRAINING.batch_size)


def same(left: Any, right: Any) -> bool:
    """Tell whether two states are the same, bit for bit."""
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return torch.equal(left, right) if isinstance(left, Tensor) else bool(left == right)


@dataclass
class States:
    """A method that was trained on two tasks: the states before and after the second."""

    before: dict[str, Any]
    learner_before: dict[str, Tensor]
    learner_after: dict[str, Tensor]
    random: Tensor
    after: dict[str, Any]


def train_two_tasks(case: str, folder: Path) -> States:
    """Train two tasks and record the states."""
    method, states = build(case), {}
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
    return States(**states)


def untrained_state(case: str, of: States, task: Task) -> dict[str, Any]:
    """The state of a method without the training of the second task: it gets the weights and the task's inputs."""
    method, learner = build(case), ToyLearner()
    method.start(learner, inputs)
    learner.load_state_dict(of.learner_before)
    method.load_state_dict(copy.deepcopy(of.before))
    method.before_task(task)
    learner.load_state_dict(of.learner_after)
    torch.set_rng_state(of.random)
    method.after_task(task)
    return method.state_dict()


@pytest.mark.parametrize("case", CASES)
def test_constant_memory(tmp_path: Path, case: str) -> None:
    method, kept = build(case), []
    after_task = method.after_task

    def measured(task: Task) -> None:
        after_task(task)
        kept.append(method.memory_bytes())

    method.after_task = measured  # type: ignore[method-assign]
    run_toy(tmp_path / "run", method, tasks=toy_tasks(10), training=replace(TRAINING, epochs=1))
    grows = kept[9] > kept[1]
    assert grows != method.properties.constant_memory, kept


@pytest.mark.parametrize("case", CASES)
def test_unlabeled_the_state_depends_on_weights_and_inputs_only(tmp_path: Path, case: str) -> None:
    """Labels change it neither at the end of the task nor through the loss during training."""
    task = toy_tasks()[1]
    mislabelled = replace(task, targets=-task.targets[::-1].copy(), classes=task.classes + 5)
    trained = train_two_tasks(case, tmp_path / "run")
    assert same(untrained_state(case, trained, mislabelled), trained.after) == build(case).properties.unlabeled


@pytest.mark.parametrize("case", CASES)
def test_adaptive_other_inputs_give_another_state(tmp_path: Path, case: str) -> None:
    task, other = toy_tasks()[1:3]
    trained = train_two_tasks(case, tmp_path / "run")
    both = [
        untrained_state(case, trained, replace(task, importance_items=items)) for items in (task.items, other.items)
    ]
    assert same(*both) != build(case).properties.adaptive


@pytest.mark.parametrize("case", [case for case in CASES if build(case).properties.adaptive])
def test_adaptive_importance_of_other_inputs_can_be_added_after_the_last_task(tmp_path: Path, case: str) -> None:
    """With weight 0 nothing changes, bit for bit; recomputed importance does not depend on the old one."""
    first, second, other = toy_tasks()
    states = []
    for number, tasks in enumerate(([first, second], [first, other])):
        method = build(case)
        learner, _ = run_toy(tmp_path / str(number), method, tasks=tasks, training=TRAINING)
        before = copy.deepcopy(method.state_dict())
        method.add_importance(other, 0.0)
        assert same(method.state_dict(), before)
        method.add_importance(other, 2.0)
        assert not same(method.state_dict(), before)
        learner.load_state_dict(ToyLearner().state_dict())
        method.add_importance(other, 1.0, recompute=True)
        states.append(method.state_dict())
    assert same(*({key: state[key] for key in ("omega", "weight", "weighted") if key in state} for state in states))


def learn(method: Method, learner: ToyLearner, task: Task) -> None:
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


def drift(method: Method, pretrained: ToyLearner) -> tuple[float, float]:
    """The change of outputs and representation of the first task's inputs while a second task is learned.

    The method meets a network that was trained without it: it may look at it, once, with the first task's inputs.
    """
    first, second = toy_tasks()[:2]
    learner = copy.deepcopy(pretrained).eval()
    method.start(learner, inputs)
    method.before_task(first)
    method.after_task(first)
    outputs, representation = all_of(learner, first), all_of(learner.represent, first)
    learn(method, learner, second)
    moved = all_of(learner, first) - outputs, all_of(learner.represent, first) - representation
    return moved[0].square().mean().item(), moved[1].square().mean().item()


@torch.no_grad()
def all_of(function: Callable[[Tensor], Tensor], task: Task) -> Tensor:
    """The function of all of a task's inputs."""
    return torch.cat([function(batch) for batch in inputs(task.items)])


@pytest.mark.parametrize("case", CASES)
def test_on_pretrained_a_network_trained_without_it_is_protected(tmp_path: Path, case: str) -> None:
    """Its outputs change less than without the method; if the method has a readout of its own, which grows with the
    classes, this holds for the representation."""
    pretrained, _ = run_toy(tmp_path / "plain", Method(), tasks=toy_tasks()[:1], training=TRAINING)
    method = build(case)
    protected, plain = drift(method, pretrained), drift(Method(), pretrained)
    what = 1 if isinstance(method, Analytic) else 0
    assert (protected[what] < plain[what]) == method.properties.on_pretrained, (protected, plain)
