from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from reference_gradients import summed_statistic
from torch import Tensor, nn
from torch.func import functional_call
from toy import ToyLearner, ToySource, assert_same, run_toy, toy_tasks, weights

from tripletcl.continual import Batch, Method, Task, Training
from tripletcl.continual.task import derived_seed
from tripletcl.errors import UserError
from tripletcl.methods.imm import IMM
from tripletcl.testing import resumes

SGD = Training(epochs=3, batch_size=16, lr=0.05)
ADAMW = Training(epochs=2, batch_size=16, lr=0.01, optimizer="adamw", weight_decay=0.1)


class Watched(IMM):
    """Records each task's initial weights, its own weights and the merge, in lists over the tasks."""

    def start(self, *arguments: Any) -> None:
        super().start(*arguments)
        self.starts, self.own, self.merged, self.f, self.bytes = [], [], [], [], []

    def before_task(self, task: Task) -> None:
        super().before_task(task)
        self.starts.append(weights(self.learner))

    def after_task(self, task: Task) -> None:
        self.own.append(weights(self.learner))
        super().after_task(task)
        self.merged.append(weights(self.learner))
        self.bytes.append(self.memory_bytes())

    def _weights(self, *arguments: Any) -> dict[str, Tensor]:
        self.f.append(super()._weights(*arguments))
        return self.f[-1]


class PlainMeanIMM(Method):
    """The slow twin of mean-IMM with L2-transfer: every task's weights in a list, and the equations."""

    name = "plain"

    def __init__(self, lam: float, past: float) -> None:
        self.lam, self.past, self.own = lam, past, []

    def before_task(self, task: Task) -> None:
        if self.own:
            self.learner.load_state_dict(self.own[-1])

    def after_step(self, lr: float) -> None:
        for name, p in self.learner.named_parameters():
            if self.own:  # argmin |x - p|^2 / (2 lr) + lam |x - theta_prev|^2
                p.data = (p.data / (2 * lr) + self.lam * self.own[-1][name]) / (1 / (2 * lr) + self.lam)

    def after_task(self, task: Task) -> None:
        self.own.append(weights(self.learner))
        alphas = [self.past] * (len(self.own) - 1) + [1.0]
        for name, p in self.learner.named_parameters():
            p.data = sum(a * theta[name] for a, theta in zip(alphas, self.own, strict=True)) / sum(alphas)


@pytest.mark.parametrize("past", [1.0, 0.3])
def test_mean_is_as_with_all_weights_in_a_list(tmp_path: Path, past: float) -> None:
    ours, _ = run_toy(tmp_path / "ours", IMM(merge="mean", lam=0.5, past=past), training=SGD)
    plain, _ = run_toy(tmp_path / "plain", PlainMeanIMM(0.5, past), training=SGD)
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, weights(plain)[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("past", [1.0, 0.3])
@pytest.mark.parametrize("merge", ["mean", "mode"])
def test_merge_is_the_weighted_mean_of_all_tasks_weights(
    tmp_path: Path, merge: Literal["mean", "mode"], past: float
) -> None:
    method = Watched(merge=merge, past=past)
    run_toy(tmp_path, method, tasks=toy_tasks(4), training=SGD)
    assert_merges(method, past)
    assert all(torch.equal(method.merged[0][name], theta) for name, theta in method.own[0].items())


def assert_merges(method: Watched, past: float) -> None:
    for t, merged in enumerate(method.merged):
        alphas = [past] * t + [1.0]
        for name, value in merged.items():
            f = [a * method.f[k][name].double() for k, a in enumerate(alphas)]
            expected = sum(f[k] * method.own[k][name].double() for k in range(t + 1)) / sum(f)
            torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-6)


def test_weights_of_mode_are_the_fisher_information(tmp_path: Path) -> None:
    method = Watched(seed=5)
    run_toy(tmp_path, method, training=SGD)
    source, learner = ToySource(), ToyLearner()
    for k, task in enumerate(toy_tasks()):
        learner.load_state_dict(method.own[k])
        noise = np.random.default_rng(derived_seed(5, k))
        inputs = source.batch(task.importance_items, None)
        summed = summed_statistic(
            learner, inputs, torch.square, lambda out, noise=noise: (torch.from_numpy(noise.normal(size=3)) * out).sum()
        )
        if k == 0:
            floor = 1e-6 * sum(v.sum() for v in summed.values()) / sum(v.numel() for v in summed.values()) / len(task)
        for name, value in summed.items():
            torch.testing.assert_close(method.f[k][name], value / len(task) + floor, rtol=1e-4, atol=1e-9)


def test_each_task_starts_from_its_predecessor_s_own_weights(tmp_path: Path) -> None:
    method = Watched()
    learner, _ = run_toy(tmp_path, method, training=SGD)
    for start, own in zip(method.starts[1:], method.own[:-1], strict=True):
        assert all(torch.equal(start[name], value) for name, value in own.items())
    assert all(torch.equal(p, method.merged[-1][name]) for name, p in learner.named_parameters())
    assert not torch.allclose(learner.net[0].weight, method.own[-1]["net.0.weight"], atol=1e-3)


@pytest.mark.parametrize("merge", ["mean", "mode"])
@pytest.mark.parametrize("training", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_zero_weights_are_finetune_bit_for_bit(
    tmp_path: Path, merge: Literal["mean", "mode"], training: Training
) -> None:
    plain, _ = run_toy(tmp_path / "plain", Method(), training=training)
    imm, _ = run_toy(tmp_path / "imm", IMM(merge=merge, lam=0, drop=0, past=0), training=training)
    assert_same(plain, imm)


def test_the_larger_lam_the_nearer_the_tasks_weights(tmp_path: Path) -> None:
    moved = []
    for lam in (0.0, 0.3, 30.0, 1e6):
        method = Watched(merge="mean", lam=lam)
        run_toy(tmp_path / str(lam), method, tasks=toy_tasks()[:2], training=SGD)
        moved.append(sum((p - method.own[0][name]).square().sum().item() for name, p in method.own[1].items()))
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 1e-6 * moved[0]


class SpareLearner(ToyLearner):
    """A learner with a trained layer on which the function does not depend, and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(2, 2)
        self.fixed = nn.Linear(2, 2).requires_grad_(False)

    def loss(self, out: Tensor, batch: Batch) -> Tensor:
        wanted = batch.targets.mean()
        return super().loss(out, batch) + sum((p - wanted).square().sum() for p in self.spare.parameters())


def test_parameters_that_matter_to_no_task_get_the_plain_mean(tmp_path: Path) -> None:
    method = Watched()
    learner, _ = run_toy(tmp_path, method, training=SGD, learner=SpareLearner())
    plain = sum(own["spare.weight"] for own in method.own) / 3
    torch.testing.assert_close(learner.spare.weight.detach(), plain)  # type: ignore[attr-defined]
    spread = max((own["spare.weight"] - plain).abs().max() for own in method.own)
    assert spread > 0.01
    floors = [f["spare.weight"] for f in method.f]
    assert all(torch.equal(floor, floors[0]) for floor in floors)
    mean = sum(f.sum() for f in method.f[0].values()) / sum(f.numel() for f in method.f[0].values())
    torch.testing.assert_close(floors[0], torch.full((2, 2), 1e-6 * mean.item()), rtol=1e-3, atol=0)


def test_a_task_without_importance_items_has_no_weight(tmp_path: Path) -> None:
    tasks = toy_tasks()
    tasks[1] = Task("task 2", tasks[1].items, tasks[1].targets, tasks[1].classes)  # no importance_items
    method = Watched()
    run_toy(tmp_path, method, tasks=tasks, training=SGD)
    assert_merges(method, past=1.0)
    for name in ("net.3.weight", "net.3.bias"):
        torch.testing.assert_close(method.merged[1][name], method.own[0][name], rtol=1e-3, atol=1e-4)


def test_frozen_parameters_do_not_change(tmp_path: Path) -> None:
    method = Watched(drop=0.3)
    learner, _ = run_toy(tmp_path, method, training=SGD, learner=SpareLearner())
    assert torch.equal(learner.fixed.weight, method.starts[0]["fixed.weight"])  # type: ignore[attr-defined]
    state = method.state_dict()
    for kept in (state["weighted"], state["weight"], state["penalty"]["anchor"]):
        assert set(kept) == {name for name, p in learner.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(("merge", "copies"), [("mean", 2), ("mode", 3)])
def test_memory_does_not_grow_with_tasks(tmp_path: Path, merge: Literal["mean", "mode"], copies: int) -> None:
    method = Watched(merge=merge)
    learner, _ = run_toy(tmp_path, method, tasks=toy_tasks(10), training=SGD)
    parameters = list(learner.parameters())
    whole, numbers = sum(4 * p.numel() for p in parameters), 4 * len(parameters)
    assert IMM.properties.constant_memory
    assert len(method.bytes) == 10
    assert set(method.bytes) == {copies * whole + numbers * (2 if merge == "mean" else 1)}


def dropping(p: float) -> tuple[IMM, ToyLearner]:
    """A method in its second task, with weights that have moved away from those of the first."""
    learner, method = ToyLearner(), IMM(merge="mean", drop=p)
    method.start(learner, lambda items: iter(()))
    method.before_task(toy_tasks()[0])
    method.after_task(toy_tasks()[0])
    method.before_task(toy_tasks()[1])
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return method, learner.eval()


def test_drop_transfer_follows_the_chain_rule_and_restores_the_weights() -> None:
    p, (method, learner) = 0.4, dropping(0.4)
    theta, old = weights(learner), method.penalty.anchor
    batch = Batch(torch.randn(5, 6), torch.randn(5, 3), np.arange(5))

    torch.manual_seed(3)
    leaves = {name: value.clone().requires_grad_() for name, value in theta.items()}
    effective = {}
    for name, value in leaves.items():
        dropped = torch.rand(value.shape) < p
        effective[name] = torch.where(dropped, old[name], (value - p * old[name]) / (1 - p))
    loss = learner.loss(functional_call(learner, effective, (batch.inputs,)), batch)
    expected = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))

    torch.manual_seed(3)
    method.before_forward()
    for name, value in learner.named_parameters():
        torch.testing.assert_close(value.detach(), effective[name].detach())
    learner.loss(learner(batch.inputs), batch).backward()
    method.before_step()
    for name, value in learner.named_parameters():
        assert torch.equal(value, theta[name])
        torch.testing.assert_close(value.grad, expected[name])


def test_drop_transfer_preserves_the_mean_and_samples_in_every_step() -> None:
    method, learner = dropping(0.3)
    theta, old = weights(learner), method.penalty.anchor
    total = {name: torch.zeros_like(value) for name, value in theta.items()}
    share = []
    for _ in range(2000):
        method.before_forward()
        for name, value in learner.named_parameters():
            total[name] += value.detach()
        share.append((learner.net[0].weight == old["net.0.weight"]).float().mean().item())
        method.before_step()
    assert np.mean(share) == pytest.approx(0.3, abs=0.01)
    assert np.std(share) > 0
    for name, value in theta.items():
        torch.testing.assert_close(total[name] / 2000, value, rtol=0, atol=0.1)


def test_the_first_task_is_learned_without_drop_transfer(tmp_path: Path) -> None:
    one = toy_tasks()[:1]
    plain, _ = run_toy(tmp_path / "plain", Method(), tasks=one, training=SGD)
    assert_same(plain, run_toy(tmp_path / "drop", IMM(drop=0.5), tasks=one, training=SGD)[0])


@pytest.mark.parametrize("merge", ["mean", "mode"])
def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path: Path, merge: Literal["mean", "mode"]) -> None:
    def make() -> IMM:
        return IMM(merge=merge, lam=0.1, drop=0.3, past=0.5)

    assert resumes(make, tmp_path)


def test_properties_depend_on_the_settings() -> None:
    assert IMM().properties == IMM.properties
    assert IMM().properties.adaptive
    assert not IMM("mean").properties.adaptive  # does not use importance_items
    assert IMM("mean").properties.consistent
    assert not IMM("mean", past=0.5).properties.consistent


def test_mistakes() -> None:
    for drop in (-0.1, 1.0, float("nan")):
        with pytest.raises(UserError, match=f"drop is {drop}.*at least 0 and below 1"):
            IMM(drop=drop)
    with pytest.raises(UserError, match="past is -1"):
        IMM(past=-1)
    with pytest.raises(UserError, match="lam is -1"):
        IMM(lam=-1)
    with pytest.raises(UserError, match="draws is 0"):
        IMM(draws=0)
