"""Synaptic Intelligence against a twin that loops over steps and parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from reference_sequence import TRAINING, PlainSequence, assert_near, latest_anchor
from toy import ToyLearner, run_toy, toy_tasks

from tripletcl.continual import Method
from tripletcl.errors import UserError
from tripletcl.mas import MAS
from tripletcl.methods import Combined
from tripletcl.methods.si import SI

FORMS = ["proximal", "gradient"]
LAM = 10.0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("xi", [0.1, 0.003])
def test_sequence_equals_the_twin(tmp_path: Path, form: str, xi: float) -> None:
    method = SI(lam=LAM, xi=xi, penalty=form)
    ours, _ = run_toy(tmp_path / "ours", method, training=TRAINING)
    plain, _ = run_toy(tmp_path / "plain", Method(), training=TRAINING)
    twin = PlainSequence(form, None, latest_anchor(LAM), xi)
    assert_near(ours, twin.run(), plain)
    for name, omega in method.penalty.omega.items():
        torch.testing.assert_close(omega, sum(task[name] for task in twin.omegas), rtol=1e-3, atol=1e-5)
        assert (omega >= 0).all()


def test_the_path_integral_is_the_decrease_of_the_loss() -> None:
    """Small steps on a quadratic loss: the parameters' w add up to its decrease."""
    learner, method = ToyLearner(), SI(lam=0.0)
    method.start(learner, lambda items: iter(()))
    method.before_task(toy_tasks()[0])

    def loss() -> torch.Tensor:
        return sum(((p - 1) ** 2).sum() for p in learner.parameters())

    before, optimizer = loss().item(), torch.optim.SGD(learner.parameters(), lr=1e-3)
    for _ in range(300):
        optimizer.zero_grad()
        loss().backward()
        method.before_step()
        optimizer.step()
        method.after_step(1e-3)
    work = sum(value.sum().item() for value in method.path.work.values())
    assert work == pytest.approx(before - loss().item(), rel=3e-3)


def test_a_parameter_without_gradient_and_an_overflow_add_nothing() -> None:
    learner, method = ToyLearner(), SI()
    method.start(learner, lambda items: iter(()))
    method.before_task(toy_tasks()[0])
    learner.net[0].weight.grad = torch.full_like(learner.net[0].weight, torch.inf)  # the scaler skips such a step
    method.before_step()
    method.after_step(0.1)
    method.after_task(toy_tasks()[0])
    assert all((omega == 0).all() for omega in method.penalty.omega.values())


def test_only_trained_parameters_are_important() -> None:
    learner, method = ToyLearner(), SI()
    learner.net[0].requires_grad_(False)
    method.start(learner, lambda items: iter(()))
    method.before_task(toy_tasks()[0])
    assert set(method.path.work) == {"net.3.weight", "net.3.bias"}
    learner.requires_grad_(False)
    method.before_task(toy_tasks()[1])
    method.before_step()
    method.after_step(0.1)
    method.after_task(toy_tasks()[1])
    assert not method.penalty.active


def test_importance_cannot_be_restricted_to_some_facts(tmp_path: Path) -> None:
    tasks = [replace(task, importance_subset=True) for task in toy_tasks()]
    for method in (SI(), Combined([SI(), MAS()])):
        with pytest.raises(UserError, match="si measures importance while it learns"):
            run_toy(tmp_path / "run", method, tasks=tasks)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize("xi", [0.0, -1.0, float("inf"), float("nan")])
def test_xi_is_above_zero(xi: float) -> None:
    with pytest.raises(UserError, match="xi is"):
        SI(xi=xi)


def test_properties() -> None:
    assert not SI.properties.on_pretrained
    assert not SI.properties.unlabeled
    assert not SI.properties.adaptive
    assert SI.properties.constant_memory
