"""The MAS methods over whole sequences, against a twin that loops over samples, parameters and tasks."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference_gradients import summed_statistic
from reference_sequence import TRAINING, Named, PlainSequence, Term, assert_near, latest_anchor
from torch import Tensor
from toy import ToyLearner, ToySource, assert_same, run_toy, toy_tasks, weights

from tripletcl.continual import Method, Task, plain_batches
from tripletcl.errors import UserError
from tripletcl.mas import MAS, MASAlpha
from tripletcl.mas.statistics import Scope
from tripletcl.methods import Combined

LAM = 3.0
FORMS = ["proximal", "gradient"]


def norm_importance(learner: ToyLearner, task: Task, number: int = 0) -> Named:
    inputs = ToySource().batch(task.importance_items, None)
    return {name: value / len(inputs) for name, value in summed_statistic(learner, inputs, abs).items()}


def vector_importance(learner: ToyLearner, task: Task, number: int = 0) -> Named:
    inputs = ToySource().batch(task.importance_items, None)
    columns = [summed_statistic(learner, inputs, abs, lambda out, d=d: out[:, d]) for d in range(3)]
    return {name: sum(column[name] for column in columns) / len(inputs) for name in columns[0]}


def local_importance(learner: ToyLearner, task: Task, number: int = 0, rectified: bool = False) -> Named:
    """Written out for the toy's two linear layers, the first of which is followed by a ReLU."""
    learner.eval()
    total = {name: torch.zeros_like(p) for name, p in learner.named_parameters()}
    for x in ToySource().batch(task.importance_items, None):
        for name, layer in (("net.0", learner.net[0]), ("net.3", learner.net[3])):
            y = layer(x).detach()
            own = torch.relu(y) if rectified and name == "net.0" else y
            total[f"{name}.weight"] += (2 * own[:, None] * x[None, :]).abs()
            total[f"{name}.bias"] += (2 * own).abs()
            x = torch.relu(y)
    return {name: value / len(task.importance_items) for name, value in total.items()}


def batch_importance(learner: ToyLearner, task: Task, number: int = 0) -> Named:
    batches = ToySource().batch(task.importance_items, None).split(TRAINING.batch_size)
    assert len(batches[-1]) < len(batches[0])
    learner.eval()
    total = {name: torch.zeros_like(p) for name, p in learner.named_parameters()}
    for batch in batches:
        learner.zero_grad()
        (learner(batch) ** 2).sum(1).mean().backward()
        for name, p in learner.named_parameters():
            total[name] += p.grad.abs() / len(batches)
    learner.zero_grad()
    return total


def over(by: str) -> Any:
    def measure(learner: ToyLearner, task: Task, number: int) -> Named:
        omega = norm_importance(learner, task)
        values = torch.cat([value.flatten() for value in omega.values()])
        return {name: value / (values.mean() if by == "mean" else values.max()) for name, value in omega.items()}

    return measure


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("settings", "measure"),
    [
        ({}, norm_importance),
        ({"engine": "loop"}, norm_importance),
        ({"output": "vector"}, vector_importance),
        ({"output": "vector", "engine": "loop"}, vector_importance),
        ({"scope": "local"}, local_importance),
        ({"scope": "rectified"}, partial(local_importance, rectified=True)),
        ({"per": "batch"}, batch_importance),
        ({"normalise": "mean"}, over("mean")),
        ({"normalise": "max"}, over("max")),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "twin",  # not its address, which changes
)
def test_sequence_equals_the_twin(tmp_path: Path, form: str, settings: dict[str, Any], measure: Any) -> None:
    lam = 0.3 if settings.get("normalise") == "mean" else LAM  # the gradient form must not diverge
    ours, _ = run_toy(tmp_path / "ours", MAS(lam=lam, penalty=form, **settings), training=TRAINING)
    plain, _ = run_toy(tmp_path / "plain", Method(), training=TRAINING)
    assert_near(ours, PlainSequence(form, measure, latest_anchor(lam)).run(), plain)


SHARES = {
    "sum": lambda t, n: 1.0,
    "running_mean": lambda t, n: 1 / n,
    "ema": lambda t, n: (0.3 if t else 1.0) * 0.7 ** (n - 1 - t),
}
"""The weight of task t (from 0) in the importance after n tasks."""


@pytest.mark.parametrize("accumulate", SHARES)
def test_accumulation_equals_the_weighted_sum(tmp_path: Path, accumulate: str) -> None:
    def terms(omegas: list[Named], thetas: list[Named]) -> list[Term]:
        return [(LAM * SHARES[accumulate](t, len(omegas)), omega, thetas[-1]) for t, omega in enumerate(omegas)]

    tasks = toy_tasks(4)
    method = MAS(lam=LAM, accumulate=accumulate, decay=0.7)
    ours, _ = run_toy(tmp_path / "ours", method, training=TRAINING, tasks=tasks)
    plain, _ = run_toy(tmp_path / "plain", Method(), training=TRAINING, tasks=tasks)
    twin = PlainSequence("proximal", norm_importance, terms)
    assert_near(ours, twin.run(tasks), plain)
    for name, omega in method.penalty.omega.items():
        expected = sum(SHARES[accumulate](t, 4) * twin.omegas[t][name] for t in range(4))
        torch.testing.assert_close(omega, expected, rtol=1e-3, atol=1e-4)


def long_form(omegas: list[Named], thetas: list[Named]) -> list[Term]:
    """alpha_t with alpha_t * sum(omega_t) the same for all t and sum alpha_t = LAM, by solving these equations."""
    sums = [sum(value.sum().item() for value in omega.values()) for omega in omegas]
    equations = np.zeros((len(sums), len(sums)))
    for t in range(len(sums) - 1):
        equations[t, t], equations[t, t + 1] = sums[t], -sums[t + 1]
    equations[-1] = 1
    alpha = np.linalg.solve(equations, [0.0] * (len(sums) - 1) + [LAM])
    return list(zip(alpha.tolist(), omegas, thetas, strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_alpha_in_constant_memory_equals_the_long_form(tmp_path: Path, form: str) -> None:
    tasks = toy_tasks(4)
    ours, _ = run_toy(tmp_path / "ours", MASAlpha(lam=LAM, penalty=form), training=TRAINING, tasks=tasks)
    plain, _ = run_toy(tmp_path / "plain", Method(), training=TRAINING, tasks=tasks)
    assert_near(ours, PlainSequence(form, norm_importance, long_form).run(tasks), plain)


def test_one_step_of_alpha_equals_the_long_form_after_every_task() -> None:
    """Tasks whose importances differ by factors of a hundred; gradient and proximal step far from every anchor."""
    learner, method, lr = ToyLearner().double(), MASAlpha(lam=LAM), 0.1
    source = ToySource()
    source.inputs = source.inputs.double()
    method.start(learner, lambda items: plain_batches(source, items, 16))
    omegas: list[Named] = []
    thetas: list[Named] = []
    for number, task in enumerate(toy_tasks(4)):
        source.inputs[task.items] *= 10.0 ** (number - 2)
        inputs = source.batch(task.importance_items, None)
        omegas.append({name: v / len(inputs) for name, v in summed_statistic(learner, inputs, abs).items()})
        thetas.append(weights(learner))
        method.after_task(task)
        with torch.no_grad():
            for p in learner.parameters():
                p.add_(torch.randn_like(p))
        assert_step(method, learner, long_form(omegas, thetas), lr)
    sums = [sum(v.sum().item() for v in omega.values()) for omega in omegas]
    assert max(sums) > 100 * min(sums)


def assert_step(method: MASAlpha, learner: ToyLearner, terms: list[Term], lr: float) -> None:
    def penalty() -> Tensor:
        theta = dict(learner.named_parameters())
        return sum(w * (omega[n] * (theta[n] - anchor[n]) ** 2).sum() for w, omega, anchor in terms for n in theta)

    before = weights(learner)
    expected = torch.autograd.grad(penalty(), list(learner.parameters()))
    learner.zero_grad()
    method.penalty.form = "gradient"
    method.before_step()
    for p, gradient in zip(learner.parameters(), expected, strict=True):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-6, atol=1e-12)
    method.penalty.form = "proximal"
    method.after_step(lr)  # minimises |x - theta|^2 / (2 lr) + penalty(x)
    distance = sum(((p - before[name]) ** 2).sum() for name, p in learner.named_parameters()) / (2 * lr)
    for gradient in torch.autograd.grad(distance + penalty(), list(learner.parameters())):
        assert gradient.abs().max() < 1e-9


def test_alpha_refuses_a_single_task_before_training(tmp_path: Path) -> None:
    for method in (MASAlpha(), Combined([Method(), MASAlpha()])):
        with pytest.raises(UserError, match="two tasks at least"):
            run_toy(tmp_path / "run", method, tasks=toy_tasks()[:1])
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def without_images(task: Task) -> Task:
    return replace(task, importance_items=np.empty(0, np.int64), importance_subset=True)


@pytest.mark.parametrize("accumulate", ["sum", "running_mean", "ema"])
def test_a_task_without_importance_moves_only_the_anchor(
    tmp_path: Path, accumulate: str, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = toy_tasks()
    first = MAS(accumulate=accumulate)
    run_toy(tmp_path / "one", first, training=TRAINING, tasks=tasks[:1])
    both = MAS(accumulate=accumulate)
    with caplog.at_level("INFO", "tripletcl"):
        learner, _ = run_toy(tmp_path / "two", both, training=TRAINING, tasks=[tasks[0], without_images(tasks[1])])
    assert "task 2 has no images to measure importance on" in caplog.text
    for name, theta in weights(learner).items():
        assert torch.equal(both.penalty.omega[name], first.penalty.omega[name])
        assert torch.equal(both.penalty.anchor[name], theta)


def test_a_task_without_importance_has_no_part_in_the_mean(tmp_path: Path) -> None:
    tasks = toy_tasks()
    tasks[1] = without_images(tasks[1])
    first, all_three = MAS(accumulate="running_mean"), MAS(accumulate="running_mean")
    run_toy(tmp_path / "one", first, training=TRAINING, tasks=tasks[:1])
    learner, _ = run_toy(tmp_path / "three", all_three, training=TRAINING, tasks=tasks)
    for name, last in norm_importance(learner, tasks[2]).items():
        torch.testing.assert_close(all_three.penalty.omega[name], (first.penalty.omega[name] + last) / 2)


@pytest.mark.parametrize("method", [MAS, MASAlpha])
def test_no_importance_at_all_is_fine_tuning(tmp_path: Path, method: type[Method]) -> None:
    tasks = [without_images(task) for task in toy_tasks()]
    ours, _ = run_toy(tmp_path / "ours", method(), training=TRAINING, tasks=tasks)
    plain, _ = run_toy(tmp_path / "plain", Method(), training=TRAINING, tasks=tasks)
    assert_same(ours, plain)


@pytest.mark.parametrize("scope", ["local", "rectified"])
@pytest.mark.parametrize("settings", [{"output": "vector"}, {"per": "batch"}, {"engine": "loop"}], ids=str)
def test_local_importance_refuses_settings_that_it_lacks(settings: dict[str, str], scope: Scope) -> None:
    with pytest.raises(UserError, match=r"^local importance "):
        MAS(scope=scope, **settings)
    if "per" not in settings:
        with pytest.raises(UserError, match=r"^local importance "):
            MASAlpha(scope=scope, **settings)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_decay_is_a_share(decay: float) -> None:
    with pytest.raises(UserError, match=r"decay is .* between 0 and 1"):
        MAS(decay=decay)


def test_properties() -> None:
    assert MAS.properties.adaptive
    assert not MAS.properties.consistent
    assert MASAlpha.properties.adaptive
    assert MASAlpha.properties.consistent
