from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import ToyLearner, assert_same, run_toy, toy_tasks

from tripletcl.continual import Batch, Method, Properties, Task, Training
from tripletcl.errors import UserError
from tripletcl.mas import MAS
from tripletcl.methods import Analytic, Frozen, build_method, method_name
from tripletcl.methods.combined import Combined
from tripletcl.methods.ebll import EBLL
from tripletcl.methods.imm import IMM
from tripletcl.methods.joint import Joint
from tripletcl.methods.lwf import LwF
from tripletcl.testing import resumes

TRAININGS = {
    "sgd": Training(epochs=3, batch_size=16, lr=0.05),
    "adamw": Training(epochs=2, batch_size=16, lr=0.01, optimizer="adamw", weight_decay=0.1),
}


@pytest.mark.parametrize("optimizer", TRAININGS)
def test_at_zero_weights_it_is_finetune_bit_for_bit(tmp_path: Path, optimizer: str) -> None:
    training = TRAININGS[optimizer]
    plain, _ = run_toy(tmp_path / "plain", Method(), training=training)
    both, _ = run_toy(tmp_path / "both", Combined([MAS(lam=0), LwF(lam=0)]), training=training)
    assert_same(plain, both)


@pytest.mark.parametrize("optimizer", TRAININGS)
def test_finetune_adds_nothing_to_mas(tmp_path: Path, optimizer: str) -> None:
    training = TRAININGS[optimizer]
    mas, _ = run_toy(tmp_path / "mas", MAS(lam=0.5), training=training)
    for folder, methods in (
        ("alone", [MAS(lam=0.5)]),
        ("first", [MAS(lam=0.5), Method()]),
        ("last", [Method(), MAS(lam=0.5)]),
    ):
        assert_same(mas, run_toy(tmp_path / folder, Combined(methods), training=training)[0])


def test_both_methods_have_an_effect(tmp_path: Path) -> None:
    training = TRAININGS["sgd"]
    runs = {
        name: run_toy(tmp_path / name, make(), training=training)[0].net[0].weight
        for name, make in {
            "mas": lambda: MAS(lam=0.3),
            "lwf": lambda: LwF(lam=0.3),
            "both": lambda: Combined([MAS(lam=0.3), LwF(lam=0.3)]),
        }.items()
    }
    assert not torch.allclose(runs["both"], runs["mas"], atol=1e-3)
    assert not torch.allclose(runs["both"], runs["lwf"], atol=1e-3)


@pytest.mark.parametrize("first", [MAS, IMM, EBLL])
def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path: Path, first: Callable[..., Method]) -> None:
    assert resumes(lambda: Combined([first(), LwF(lam=0.3)]), tmp_path)


def scribe(name_: str, log: list[str], adds: float = 0.0) -> Method:
    """Records each call of a hook."""

    class Scribe(Method):
        name = name_

        def before_task(self, task: Task) -> None:
            log.append(f"{name_} before_task")

        def before_forward(self) -> None:
            log.append(f"{name_} before_forward")

        def extra_loss(self, batch: Batch, representation: Tensor, out: Tensor) -> Tensor | float:
            log.append(f"{name_} extra_loss")
            return adds * out.sum()

        def before_step(self) -> None:
            log.append(f"{name_} before_step")

        def after_step(self, lr: float) -> None:
            log.append(f"{name_} after_step {lr}")

        def after_task(self, task: Task) -> None:
            log.append(f"{name_} after_task")

    return Scribe()


def test_every_hook_of_every_method_is_called_in_the_order_given() -> None:
    log: list[str] = []
    both = Combined([scribe("b", log, adds=2.0), scribe("a", log, adds=1.0)])
    learner, task = ToyLearner(), toy_tasks()[0]

    def inputs(items: np.ndarray) -> Any:
        return iter(())

    both.start(learner, inputs)
    assert all(method.learner is learner and method.inputs is inputs for method in both.methods.values())
    both.before_task(task)
    both.before_forward()
    out = torch.ones(2, 3)
    assert both.extra_loss(Batch(out, out, np.arange(2)), out, out) == 18.0
    both.before_step()
    both.after_step(0.5)
    both.after_task(task)
    hooks = ["before_task", "before_forward", "extra_loss", "before_step", "after_step 0.5", "after_task"]
    assert log == [f"{name} {hook}" for hook in hooks for name in ("b", "a")]


def test_states_are_separate_and_memory_adds_up(tmp_path: Path) -> None:
    two = toy_tasks()[:2]
    both, mas, lwf = Combined([MAS(), LwF(lam=0.3)]), MAS(), LwF(lam=0.3)
    for folder, method in (("both", both), ("mas", mas), ("lwf", lwf)):
        run_toy(tmp_path / folder, method, tasks=two, training=TRAININGS["sgd"])
    assert set(both.state_dict()) == {"mas", "lwf"}
    assert both.memory_bytes() == mas.memory_bytes() + lwf.memory_bytes() > 0


def test_properties_are_common_but_one_adaptive_or_consistent_method_suffices() -> None:
    properties = Combined([MAS(), EBLL()]).properties
    expected = {"constant_memory": False, "unlabeled": False, "adaptive": True, "consistent": False}
    assert properties == Properties(**expected)
    assert Combined([IMM("mean"), LwF()]).properties.consistent


def test_the_automatic_weight_is_the_one_that_is_chosen() -> None:
    lwf = LwF(lam="auto")
    assert Combined([MAS(), lwf]).auto_method is lwf
    assert Combined([MAS(), LwF()]).auto_method is None


def test_settings_make_a_combination() -> None:
    settings = [{"name": "mas", "lam": 2.0}, {"name": "lwf", "target": "cosine"}]
    built = build_method(settings)
    assert isinstance(built, Combined)
    assert [type(method) for method in built.methods.values()] == [MAS, LwF]
    assert built.methods["mas"].lam == 2.0
    assert method_name(settings) == "mas+lwf"
    assert isinstance(build_method(settings[:1]), MAS)


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        (lambda: [MAS(), LwF(), MAS()], "each method once, not mas, lwf, mas"),
        (lambda: [MAS(), Joint()], "joint training sees all tasks at once"),
        (lambda: [MAS(), Frozen()], "frozen freezes what the tasks share"),
        (lambda: [Analytic(), LwF()], "analytic freezes what the tasks share"),
        (lambda: [MAS(lam="auto"), LwF(lam="auto")], "only one weight of a combination can be auto"),
    ],
)
def test_mistakes(methods: Callable[[], list[Method]], says: str) -> None:
    with pytest.raises(UserError, match=says):
        Combined(methods())
