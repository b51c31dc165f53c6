"""EWC against a twin that loops over samples, parameters and tasks, and its estimate against the exact sum."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_gradients import summed_statistic
from reference_sequence import TRAINING, Named, PlainSequence, Term, assert_near, latest_anchor
from torch import nn
from toy import ToyLearner, ToySource, run_toy, toy_tasks

from tripletcl.continual import Batch, Method, Task, plain_batches
from tripletcl.continual.task import derived_seed
from tripletcl.errors import UserError
from tripletcl.mas import every_output, importance
from tripletcl.mas.fisher import gaussian_projections
from tripletcl.methods.ewc import EWC, loss_fisher

FORMS = ["proximal", "gradient"]


def embedding_information(draws: int, seed: int) -> Any:
    """mean over samples of mean over draws of (d eps.F / d theta)^2, one autograd call each."""

    def measure(learner: ToyLearner, task: Task, number: int) -> Named:
        noise = np.random.default_rng(derived_seed(seed, number))
        learner.eval()
        total = {name: torch.zeros_like(p) for name, p in learner.named_parameters()}
        for x in ToySource().batch(task.importance_items, None):
            for _ in range(draws):
                eps = torch.from_numpy(noise.standard_normal(3)).float()
                learner.zero_grad()
                (eps * learner(x[None])[0]).sum().backward()
                for name, p in learner.named_parameters():
                    total[name] += p.grad**2 / draws / len(task.importance_items)
        learner.zero_grad()
        return total

    return measure


def loss_information(learner: ToyLearner, task: Task, number: int = 0) -> Named:
    """mean over samples of (d loss of that sample / d theta)^2."""
    learner.eval()
    total = {name: torch.zeros_like(p) for name, p in learner.named_parameters()}
    for item, target in zip(task.items, torch.from_numpy(task.targets), strict=True):
        learner.zero_grad()
        out = learner(ToySource().inputs[item][None])[0]
        ((out - target) ** 2).mean().backward()
        for name, p in learner.named_parameters():
            total[name] += p.grad**2 / len(task.items)
    learner.zero_grad()
    return total


def test_embedding_estimate_is_unbiased() -> None:
    """500 noise vectors for each of 40 samples come within some percent of the sum over all outputs."""
    learner, inputs = ToyLearner(), ToySource().inputs[:40]
    noise = gaussian_projections(np.random.default_rng(0), 500)
    estimate = importance(learner, [inputs], scalar=noise, statistic=torch.square)
    exact = importance(learner, [inputs], scalar=every_output, statistic=torch.square)
    for name, value in exact.items():
        used = value > 1e-3 * value.max()
        assert ((estimate[name] / value)[used] - 1).abs().max() < 0.1
        assert ((estimate[name] / value)[used] - 1).mean().abs() < 0.03


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("batch", [1, 3, 7, 20])
def test_estimate_does_not_depend_on_the_batches(batch: int, engine: str) -> None:
    model, inputs = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5)).double(), torch.randn(20, 6).double()
    noise = np.random.default_rng(3).standard_normal((20, 2, 5)) / math.sqrt(2)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x, eps in zip(inputs, torch.from_numpy(noise), strict=True):
        for row in eps:
            squares = summed_statistic(model, x[None], torch.square, lambda out, row=row: out @ row)
            expected = {name: expected[name] + squares[name] / 20 for name in squares}
    scalar = gaussian_projections(np.random.default_rng(3), 2)
    ours = importance(model, inputs.split(batch), scalar=scalar, statistic=torch.square, engine=engine)
    for name, value in expected.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_information_of_the_loss_does_not_depend_on_the_batches(batch: int) -> None:
    learner, task, source = ToyLearner(), toy_tasks()[1], ToySource()
    ours = loss_fisher(learner, task, lambda items: plain_batches(source, items, batch))
    for name, value in loss_information(learner, task).items():
        torch.testing.assert_close(ours[name], value)


def test_information_of_the_loss_sees_parameters_that_the_loss_uses() -> None:
    """A trained projection of the targets is part of the embedding, but not of the images' outputs."""

    class Projected(ToyLearner):
        def __init__(self) -> None:
            super().__init__()
            self.projection = nn.Linear(3, 3)

        def loss(self, out: torch.Tensor, batch: Batch) -> torch.Tensor:
            return nn.functional.mse_loss(out, self.projection(batch.targets))

    learner, task, source = Projected(), toy_tasks()[0], ToySource()
    ours = loss_fisher(learner, task, lambda items: plain_batches(source, items, 16))
    residuals = learner.projection(torch.from_numpy(task.targets)) - learner.eval()(source.batch(task.items, None))
    expected = (2 / 3 * residuals).square().mean(0)  # of the bias, by hand
    torch.testing.assert_close(ours["projection.bias"], expected.detach())


GAMMA = 0.5


def faded(omegas: list[Named], thetas: list[Named]) -> list[Term]:
    return [(5.0 * GAMMA ** (len(omegas) - 1 - t), omega, thetas[-1]) for t, omega in enumerate(omegas)]


def separate(omegas: list[Named], thetas: list[Named]) -> list[Term]:
    return [(5.0, omega, theta) for omega, theta in zip(omegas, thetas, strict=True)]


@pytest.mark.parametrize("penalty", FORMS)
@pytest.mark.parametrize(
    ("settings", "measure", "terms"),
    [
        ({}, embedding_information(1, 0), latest_anchor(5.0)),
        ({"draws": 3, "seed": 7, "engine": "loop"}, embedding_information(3, 7), latest_anchor(5.0)),
        ({"gamma": GAMMA}, embedding_information(1, 0), faded),
        ({"form": "separate"}, embedding_information(1, 0), separate),
        ({"fisher": "loss"}, loss_information, latest_anchor(5.0)),
        ({"fisher": "loss", "form": "separate"}, loss_information, separate),
    ],
    ids=["online", "draws", "gamma", "separate", "loss", "loss-separate"],
)
def test_sequence_equals_the_twin(
    tmp_path: Path, penalty: str, settings: dict[str, Any], measure: Any, terms: Any
) -> None:
    tasks = toy_tasks(4)
    ours, _ = run_toy(tmp_path / "ours", EWC(5.0, penalty, **settings), training=TRAINING, tasks=tasks)
    plain, _ = run_toy(tmp_path / "plain", Method(), training=TRAINING, tasks=tasks)
    assert_near(ours, PlainSequence(penalty, measure, terms).run(tasks), plain)


def test_the_forms_differ(tmp_path: Path) -> None:
    tasks = toy_tasks(4)
    online, _ = run_toy(tmp_path / "online", EWC(5.0), training=TRAINING, tasks=tasks)
    apart, _ = run_toy(tmp_path / "separate", EWC(5.0, form="separate"), training=TRAINING, tasks=tasks)
    assert (online.net[0].weight - apart.net[0].weight).abs().max() > 1e-3


def test_labels_cannot_be_restricted_to_some_facts(tmp_path: Path) -> None:
    tasks = [replace(task, importance_subset=True) for task in toy_tasks()]
    with pytest.raises(UserError, match=r"ewc with fisher loss .* cannot be restricted to some facts"):
        run_toy(tmp_path / "loss", EWC(fisher="loss"), tasks=tasks)
    run_toy(tmp_path / "embedding", EWC(), training=TRAINING, tasks=tasks)


@pytest.mark.parametrize("form", ["online", "separate"])
def test_a_task_without_images_adds_nothing(tmp_path: Path, form: str) -> None:
    tasks = toy_tasks()
    tasks[1] = replace(tasks[1], importance_items=np.empty(0, np.int64), importance_subset=True)
    first, both = EWC(form=form, gamma=1.0), EWC(form=form, gamma=1.0)
    run_toy(tmp_path / "one", first, training=TRAINING, tasks=tasks[:1])
    run_toy(tmp_path / "two", both, training=TRAINING, tasks=tasks[:2])
    for name, omega in first.penalty.omega.items():
        assert torch.equal(both.penalty.omega[name], omega)


@pytest.mark.parametrize(
    "settings", [{"gamma": -0.1}, {"gamma": 1.5}, {"gamma": 0.5, "form": "separate"}, {"draws": 0}], ids=str
)
def test_mistakes(settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"gamma|draws"):
        EWC(**settings)


def test_properties() -> None:
    assert EWC().properties.unlabeled
    assert EWC().properties.adaptive
    assert not EWC(fisher="loss").properties.unlabeled
    assert not EWC(fisher="loss").properties.adaptive
