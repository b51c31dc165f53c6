"""Every method on tasks with a head each: they share the trunk, and a penalty protects the trunk only."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import MultiHeadToy, ToySource, assert_same, joint_task, multi_head_tasks, run_multi_head

from tripletcl.continual import Method, Task, Training, plain_batches
from tripletcl.continual.task import derived_seed
from tripletcl.mas import MAS, MASAlpha
from tripletcl.methods import METHODS, Combined, Frozen
from tripletcl.methods.ebll import EBLL
from tripletcl.methods.ewc import EWC
from tripletcl.methods.imm import IMM
from tripletcl.methods.lwf import LwF
from tripletcl.methods.si import SI
from tripletcl.testing import resumes

VARIANTS: dict[str, Callable[..., Method]] = {
    "finetune": Method,
    "mas": MAS,
    "mas local": lambda **settings: MAS(scope="local", **settings),
    "mas rectified": lambda **settings: MAS(scope="rectified", **settings),
    "mas vector": lambda **settings: MAS(output="vector", **settings),
    "mas gradient": lambda lam=0.1: MAS(penalty="gradient", lam=lam),
    "mas_alpha": MASAlpha,
    "ewc": EWC,
    "ewc separate": lambda **settings: EWC(form="separate", **settings),
    "ewc loss": lambda **settings: EWC(fisher="loss", **settings),
    "si": SI,
    "imm mean": lambda **settings: IMM("mean", **settings),
    "imm mode": lambda **settings: IMM("mode", **({"drop": 0.2} | settings)),
    "lwf": LwF,
    "lwf logits": lambda **settings: LwF(target="logits", **settings),
    "ebll": lambda **settings: EBLL(**({"epochs": 3} | settings)),
    "frozen": Frozen,
    "mas+lwf": lambda lam=0.5: Combined([MAS(lam=lam), LwF(lam=lam)]),
}
DISTILLED = {"lwf", "lwf logits", "ebll", "mas+lwf"}
"""The variants that still train old heads."""

ALL_ZERO: dict[str, dict[str, float]] = {
    **{name: {"lam": 0.0} for name in ("mas", "mas gradient", "mas_alpha", "ewc", "si", "lwf", "mas+lwf")},
    "imm mode": dict(METHODS["imm"].zero),
    "ebll": dict(METHODS["ebll"].zero),
}
TRAININGS = {
    "sgd": Training(epochs=3, head_epochs=1, batch_size=16, lr=0.05, weight_decay=0.1),
    "adamw": Training(epochs=3, head_epochs=1, batch_size=16, lr=0.01, optimizer="adamw", weight_decay=0.1),
}
TASKS = multi_head_tasks()
STATE = dict[str, Tensor]


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], list[STATE]]:
    """The states of the learner before and after each task, in a run of a variant with an optimizer."""

    @cache
    def run(variant: str, optimizer: str) -> list[STATE]:
        method, states = VARIANTS[variant](), [MultiHeadToy(TASKS).state_dict()]
        after_task = method.after_task

        def after(task: Task) -> None:
            after_task(task)
            states.append(copy.deepcopy(method.learner.state_dict()))

        method.after_task = after  # type: ignore[method-assign]
        run_multi_head(tmp_path_factory.mktemp("run"), method, training=TRAININGS[optimizer])
        return states

    return run


def test_every_method_is_here() -> None:
    elsewhere = {"joint", "analytic"}  # trained on all tasks at once; with a readout instead of heads
    assert {name.split()[0] for name in VARIANTS} - {"mas+lwf"} == METHODS.keys() - elsewhere


@pytest.mark.parametrize(
    ("variant", "optimizer"),
    [(name, "adamw") for name in VARIANTS]
    + [(name, "sgd") for name in ("finetune", "mas gradient", "imm mode", "lwf")],
)
def test_a_head_is_trained_by_its_own_task_and_by_distillation_only(
    stages: Callable[[str, str], list[STATE]], variant: str, optimizer: str
) -> None:
    """Bit for bit: neither weight decay nor a penalty nor a merge changes a head that is not in use."""
    states = stages(variant, optimizer)
    assert len(states) == 4
    for task, (before, after) in enumerate(pairwise(states)):
        moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
        heads = {name for name in after if name.startswith(f"heads.{task}.")}
        if variant in DISTILLED:
            heads |= {name for name in after if name.startswith("heads.") and int(name.split(".")[1]) < task}
        trunk = {name for name in after if name.startswith("net.")}
        assert moved == (heads if variant == "frozen" and task else heads | trunk)


@pytest.mark.parametrize("variant", ["mas gradient", "ewc", "si", "imm mode", "ebll", "frozen", "mas+lwf"])
def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path: Path, variant: str) -> None:
    training = replace(TRAININGS["adamw"], epochs=2, checkpoint_minutes=0)
    run = partial(run_multi_head, tasks=TASKS[:2])
    assert resumes(VARIANTS[variant], tmp_path, training, run)


@pytest.mark.parametrize("variant", ALL_ZERO)
def test_zero_weights_are_finetune_bit_for_bit(
    tmp_path: Path, stages: Callable[[str, str], list[STATE]], variant: str
) -> None:
    method = VARIANTS[variant](**ALL_ZERO[variant])
    learner, _ = run_multi_head(tmp_path / "zero", method, training=TRAININGS["adamw"])
    for name, value in stages("finetune", "adamw")[-1].items():
        assert torch.equal(learner.state_dict()[name], value), name


def test_joint_training_uses_all_heads(tmp_path: Path) -> None:
    training = Training(epochs=20, head_epochs=2, batch_size=16, lr=0.1)
    learner, _ = run_multi_head(tmp_path, METHODS["joint"](), tasks=[joint_task(TASKS)], training=training)
    learner.eval()
    for head, task in enumerate(TASKS):
        outputs = learner.heads[head](learner.net(ToySource().inputs[task.items]))
        right = task.classes[outputs.argmax(dim=1)] == task.targets
        assert right.mean() > 0.75


# --- what is measured is the trunk, through the head of the task that was learned -------------------------------------


def function_of(learner: MultiHeadToy, x: Tensor) -> Tensor:
    """The second task's logits of one sample, in eval mode."""
    learner.eval()
    return learner.heads[1](learner.net(x[None]))[0]


def gradients(learner: MultiHeadToy, value: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(value, list(learner.net.parameters()), retain_graph=True))


def of_the_norm(learner: MultiHeadToy, x: Tensor, target: Tensor, eps: Tensor) -> list[Tensor]:
    return [g.abs() for g in gradients(learner, (function_of(learner, x) ** 2).sum())]


def of_every_output(learner: MultiHeadToy, x: Tensor, target: Tensor, eps: Tensor) -> list[Tensor]:
    by_output = [gradients(learner, output) for output in function_of(learner, x)]
    return [sum(g.abs() for g in of_parameter) for of_parameter in zip(*by_output, strict=True)]


def of_the_noise(learner: MultiHeadToy, x: Tensor, target: Tensor, eps: Tensor) -> list[Tensor]:
    return [g**2 for g in gradients(learner, (eps * function_of(learner, x)).sum())]


def of_the_loss(learner: MultiHeadToy, x: Tensor, target: Tensor, eps: Tensor) -> list[Tensor]:
    column = int(target) - 3  # the second task's first class
    return [g**2 for g in gradients(learner, -function_of(learner, x).log_softmax(0)[column])]


def of_own_outputs(rectified: bool) -> Callable[..., list[Tensor]]:
    def measure(learner: MultiHeadToy, x: Tensor, target: Tensor, eps: Tensor) -> list[Tensor]:
        terms = []
        for layer in (learner.net[0], learner.net[3]):
            y = layer(x).detach()
            own = torch.relu(y) if rectified else y
            terms += [(2 * own[:, None] * x[None, :]).abs(), (2 * own).abs()]
            x = torch.relu(y)
        return terms

    return measure


MEASURES: dict[str, Callable[..., list[Tensor]]] = {
    "mas": of_the_norm,
    "mas local": of_own_outputs(False),
    "mas rectified": of_own_outputs(True),
    "mas vector": of_every_output,
    "mas_alpha": of_the_norm,
    "ewc": of_the_noise,
    "ewc separate": of_the_noise,
    "ewc loss": of_the_loss,
    "imm mode": of_the_noise,
}


@pytest.mark.parametrize("batch", [1, 7, 40])
@pytest.mark.parametrize("variant", MEASURES)
def test_importance_is_exact_and_of_the_trunk_whatever_the_batches(variant: str, batch: int) -> None:
    task, source, learner = TASKS[1], ToySource(), MultiHeadToy(TASKS).double()
    source.inputs = source.inputs.double()
    noise = torch.from_numpy(np.random.default_rng(derived_seed(0, 0)).standard_normal((len(task), 2)))
    expected = [torch.zeros_like(p) for p in learner.net.parameters()]
    samples = zip(source.inputs[task.items], torch.from_numpy(task.targets), noise, strict=True)
    for x, target, eps in samples:
        own = MEASURES[variant](learner, x, target, eps)
        expected = [e + value / len(task) for e, value in zip(expected, own, strict=True)]

    method: Any = VARIANTS[variant]()
    method.start(learner, lambda items: plain_batches(source, items, batch))
    learner.begin_task(task)
    learner.train()
    method.after_task(task)
    assert all(module.training for module in learner.modules())
    omega = method.weight if variant == "imm mode" else method.penalty.omega
    if variant == "mas_alpha":  # is stored relative to its sum
        total = sum(e.sum() for e in expected)
        expected = [e / total for e in expected]
    assert omega.keys() == dict(learner.net.named_parameters()).keys()
    for (name, _), e in zip(learner.net.named_parameters(), expected, strict=True):
        scale = e.mean() if variant == "imm mode" else 0.0  # it has a floor
        torch.testing.assert_close(omega[name], e, rtol=1e-5, atol=1e-5 * float(scale))


def test_si_measures_the_trunk_only(tmp_path: Path) -> None:
    method = SI()
    learner, _ = run_multi_head(tmp_path, method, training=TRAININGS["sgd"])
    assert method.penalty.omega.keys() == dict(learner.net.named_parameters()).keys()


def test_memory_is_that_of_the_trunk(tmp_path: Path) -> None:
    """Importance and anchor, whatever the number of classes."""
    method = MAS()
    learner, _ = run_multi_head(tmp_path, method, training=TRAININGS["sgd"])
    assert method.memory_bytes() == 2 * sum(p.nbytes for p in learner.net.parameters())


def test_the_outputs_of_the_first_head_are_preserved(tmp_path: Path) -> None:
    """For the first task's inputs, after the second task."""
    training = Training(epochs=20, batch_size=16, lr=0.1)
    inputs = ToySource().inputs[TASKS[0].items]

    def said(name: str, method: Method, tasks: int = 2) -> Tensor:
        learner, _ = run_multi_head(tmp_path / name, method, tasks=TASKS[:tasks], training=training)
        return learner.eval().heads[0](learner.net(inputs)).detach()

    first = said("first", Method(), tasks=1)
    forgotten = (said("finetune", Method()) - first).square().mean()
    for variant, lam in {"mas": 3.0, "mas rectified": 3.0, "ewc": 3.0, "si": 30.0, "lwf": 0.3, "ebll": 0.3}.items():
        moved = said(variant, VARIANTS[variant](lam=lam)) - first
        assert moved.square().mean() < 0.3 * forgotten, variant


def test_assert_same_compares_the_whole_state() -> None:
    """`assert_same` detects a difference in any tensor."""
    left, right = MultiHeadToy(TASKS), MultiHeadToy(TASKS)
    assert_same(left, right)
    with torch.no_grad():
        right.heads[2][1].bias[0] += 1e-6
    with pytest.raises(AssertionError):
        assert_same(left, right)
