from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import MultiHeadToy, ToyLearner, assert_same, run_multi_head, run_toy, toy_tasks, weights

from tripletcl.continual import Batch, Method, Task, Training
from tripletcl.errors import UserError
from tripletcl.methods.lwf import LwF, Target, Teacher, answers_distance, output_distance

TARGETS: list[Target] = ["embedding", "cosine", "logits"]
SGD = Training(epochs=3, batch_size=16, lr=0.05)
ADAMW = Training(epochs=2, batch_size=16, lr=0.01, optimizer="adamw", weight_decay=0.1)


def distance_by_loops(new: Tensor, old: Tensor, target: Target, temperature: float) -> Tensor:
    """The equations of the module's text, one sample and one vector after the other."""
    if target == "embedding":
        moved = sum(((n - o) ** 2).sum() for n, o in zip(new, old, strict=True)) / len(new)
        return moved / (sum((o**2).sum() for o in old) / len(old))
    rows = [(n, o) for n, o in zip(new.reshape(-1, new.shape[-1]), old.reshape(-1, old.shape[-1]), strict=True)]
    if target == "cosine":
        return sum(1 - (n @ o) / (n.norm() * o.norm()) for n, o in rows) / len(rows)
    total = torch.zeros(())
    for n, o in rows:
        p, q = torch.exp(o / temperature), torch.exp(n / temperature)
        p, q = p / p.sum(), q / q.sum()
        total = total + (p * torch.log(p / q)).sum()
    return temperature**2 * total / len(rows)


class PlainLwF(Method):
    """The slow twin: a deep copy of the learner in eval mode, and one head after the other."""

    name = "plain"

    def __init__(self, lam: float, target: Target) -> None:
        self.lam, self.target, self.old, self.tasks = lam, target, None, 0

    def before_task(self, task: Task) -> None:
        if self.tasks > 0:
            self.old = copy.deepcopy(self.learner).eval()

    def extra_loss(self, batch: Batch, representation: Tensor, out: Tensor) -> Tensor | float:
        if self.old is None:
            return 0.0
        if not isinstance(self.learner, MultiHeadToy):
            return self.lam * distance_by_loops(out, self.old(batch.inputs).detach(), self.target, 2.0)
        loss: Tensor | float = 0.0
        for task in range(self.tasks):
            old = self.old.heads[task](self.old.net(batch.inputs)).detach()
            new = self.learner.heads[task](representation)
            loss = loss + self.lam * distance_by_loops(new, old, self.target, 2.0)
        return loss

    def after_task(self, task: Task) -> None:
        self.tasks += 1


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [(7, 4), (5, 3, 6)])
def test_distance_is_that_of_the_equations(shape: tuple[int, ...], target: Target) -> None:
    generator = torch.Generator().manual_seed(0)
    new, old = (torch.randn(shape, generator=generator) for _ in range(2))
    new.requires_grad_()
    for temperature in (1.0, 2.0, 5.0):
        ours, slow = (f(new, old, target, temperature) for f in (output_distance, distance_by_loops))
        torch.testing.assert_close(ours, slow)
        torch.testing.assert_close(torch.autograd.grad(ours, new), torch.autograd.grad(slow, new))


@pytest.mark.parametrize("target", TARGETS)
def test_distance_of_equal_outputs_is_zero_and_has_no_gradient(target: Target) -> None:
    out = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    distance = output_distance(out, out.detach(), target, 2.0)
    assert distance.item() == pytest.approx(0, abs=1e-6)
    assert torch.autograd.grad(distance, out)[0].abs().max() < 1e-6


@pytest.mark.parametrize("target", ["embedding", "cosine"])
def test_lam_means_the_same_whatever_the_outputs_scale(target: Target) -> None:
    new, old = torch.randn(2, 6, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        output_distance(1e3 * new, 1e3 * old, target, 1.0), output_distance(new, old, target, 1.0)
    )


def test_logits_have_the_gradient_of_the_soft_cross_entropy() -> None:
    new, old = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))
    new.requires_grad_()
    cross_entropy = 3.0**2 * nn.functional.cross_entropy(new / 3.0, torch.softmax(old / 3.0, dim=1))
    expected = torch.autograd.grad(cross_entropy, new)[0]
    torch.testing.assert_close(torch.autograd.grad(output_distance(new, old, "logits", 3.0), new)[0], expected)


def test_old_outputs_of_zeros_give_no_division_by_zero() -> None:
    assert output_distance(torch.zeros(2, 3), torch.zeros(2, 3), "embedding", 1.0) == 0


@pytest.mark.parametrize("target", TARGETS)
def test_a_run_equals_that_with_a_deep_copy_as_teacher(tmp_path: Path, target: Target) -> None:
    ours, _ = run_toy(tmp_path / "ours", LwF(lam=0.5, target=target), training=SGD)
    plain, _ = run_toy(tmp_path / "plain", PlainLwF(0.5, target), training=SGD)
    finetune, _ = run_toy(tmp_path / "finetune", Method(), training=SGD)
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, weights(plain)[name], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(ours.net[0].weight, finetune.net[0].weight, atol=1e-3)


@pytest.mark.parametrize("target", TARGETS)
def test_with_a_head_for_each_task_every_old_head_is_distilled(tmp_path: Path, target: Target) -> None:
    ours, _ = run_multi_head(tmp_path / "ours", LwF(lam=0.5, target=target), training=SGD)
    plain, _ = run_multi_head(tmp_path / "plain", PlainLwF(0.5, target), training=SGD)
    finetune, _ = run_multi_head(tmp_path / "finetune", Method(), training=SGD)
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, weights(plain)[name], rtol=1e-4, atol=1e-5)
    moved = [(p - q).abs().max() for p, q in zip(ours.parameters(), finetune.parameters(), strict=True)]
    assert min(moved) > 1e-4, "trunk and heads, old ones too"


@pytest.mark.parametrize("target", TARGETS)
def test_heads_add_up_and_each_is_relative_to_itself(target: Target) -> None:
    """A head whose outputs are a thousand times as large does not outweigh the others."""
    generator = torch.Generator().manual_seed(0)
    new, old = ([torch.randn(6, width, generator=generator) for width in (2, 5)] for _ in range(2))
    alone = [distance_by_loops(n, o, target, 2.0) for n, o in zip(new, old, strict=True)]
    torch.testing.assert_close(answers_distance(new, old, target, 2.0), sum(alone))
    if target != "logits":
        torch.testing.assert_close(
            answers_distance([new[0], 1e3 * new[1]], [old[0], 1e3 * old[1]], target, 2.0), sum(alone)
        )


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("training", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_lam_0_is_finetune_bit_for_bit(tmp_path: Path, target: Target, training: Training) -> None:
    plain, _ = run_toy(tmp_path / "plain", Method(), training=training)
    method = LwF(lam=0, target=target)
    assert_same(plain, run_toy(tmp_path / "lwf", method, training=training)[0])
    assert method.memory_bytes() == 0


def test_the_larger_lam_the_less_the_outputs_move(tmp_path: Path) -> None:
    first, second = toy_tasks()[:2]
    old = run_toy(tmp_path / "first", Method(), tasks=[first], training=SGD)[0].eval()
    inputs = torch.randn(200, 6, generator=torch.Generator().manual_seed(1))
    moved = []
    for lam in (0.0, 0.1, 0.3, 1.0):
        learner, _ = run_toy(tmp_path / str(lam), LwF(lam=lam), tasks=[first, second], training=SGD)
        moved.append(nn.functional.mse_loss(learner.eval()(inputs), old(inputs)).item())
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.2 * moved[0]


class NormLearner(ToyLearner):
    """A learner whose running statistics change in training, and whose first layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.net[0].requires_grad_(False)
        self.net[1] = nn.BatchNorm1d(8)


def test_the_teacher_gives_the_old_outputs_and_changes_nothing() -> None:
    learner, teacher = NormLearner(), Teacher()
    inputs = torch.randn(10, 6, generator=torch.Generator().manual_seed(1))
    learner(inputs)  # changes the running statistics
    teacher.snapshot(learner)
    old = copy.deepcopy(learner).eval()
    with torch.no_grad():
        for p in learner.net[1:].parameters():
            p.add_(1.0)
    learner(5 + 3 * inputs)
    learner.net[3].eval()  # modes may differ
    before = {name: t.clone() for name, t in learner.state_dict().items()}
    modes, state = [m.training for m in learner.modules()], torch.get_rng_state()
    representation, (out,) = teacher(learner, inputs)
    assert not representation.requires_grad
    assert not out.requires_grad
    torch.testing.assert_close(representation, old.represent(inputs).detach())
    torch.testing.assert_close(out, old(inputs).detach())
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in learner.modules()] == modes
    assert all(torch.equal(t, before[name]) for name, t in learner.state_dict().items())


def test_only_what_training_changes_is_stored() -> None:
    teacher, learner = Teacher(), NormLearner()
    teacher.snapshot(learner)
    assert set(teacher.weights) == set(learner.state_dict()) - {"net.0.weight", "net.0.bias"}


def test_memory_is_one_copy_whatever_the_number_of_tasks(tmp_path: Path) -> None:
    kept: list[int] = []

    class Watched(LwF):
        def after_task(self, task: Task) -> None:
            super().after_task(task)
            kept.append(self.memory_bytes())

    learner, _ = run_toy(tmp_path, Watched(), tasks=toy_tasks(10), training=SGD)
    copy_bytes = sum(p.numel() * p.element_size() for p in learner.parameters())
    assert LwF.properties.constant_memory
    assert kept == [0] + 9 * [copy_bytes]


def test_there_is_a_teacher_before_a_weight_is_chosen(tmp_path: Path) -> None:
    method = LwF(lam="auto")
    method.start(ToyLearner(), lambda items: iter(()))
    task = toy_tasks()[0]
    for _ in range(2):
        method.before_task(task)
        batch = Batch(torch.ones(2, 6), torch.ones(2, 3), np.arange(2))
        assert method.extra_loss(batch, torch.ones(2, 8), torch.ones(2, 3)) == 0.0
        method.after_task(task)
    method.lam = 1.0  # as the choice would set it
    assert method.extra_loss(batch, torch.ones(2, 8), torch.ones(2, 3)) > 0


def test_only_a_softmax_needs_classes() -> None:
    assert [LwF(target=target).properties.problem_agnostic for target in TARGETS] == [True, True, False]
    assert LwF.properties.problem_agnostic


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_mistakes(temperature: float) -> None:
    with pytest.raises(UserError, match=f"temperature is {temperature}.*finite number above 0"):
        LwF(temperature=temperature)
    with pytest.raises(UserError, match="lam is -1"):
        LwF(lam=-1)
