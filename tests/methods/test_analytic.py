from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import ToyLearner, ToySource, assert_same, run_toy, toy_tasks

from tripletcl.continual import Task
from tripletcl.embedding.readout import AnalyticReadout
from tripletcl.errors import UserError
from tripletcl.methods import Analytic


def plain_ridge(learner: ToyLearner, tasks: list[Task], ridge: float) -> Tensor:
    """The definition, on everything at once: W = argmin sum_n |phi_n W - y_n|^2 + ridge |W|^2, by least squares."""
    source, rows, targets = ToySource(), [], []
    for number, task in enumerate(tasks):
        for item in task.items:
            with torch.no_grad():
                x = learner.represent(source.batch(np.array([item]), None))
            parts = x - x.mean()
            phi = (
                torch.relu(parts / parts.norm() @ learner.analytic.projection)[0] * (2 / learner.analytic.width) ** 0.5
            )
            rows.append(phi.double())
            targets.append(torch.eye(len(tasks), dtype=torch.float64)[number])
    phi, y = torch.stack(rows), torch.stack(targets)
    width = phi.shape[1]
    stacked = torch.cat([phi, ridge**0.5 * torch.eye(width, dtype=torch.float64)])
    return torch.linalg.lstsq(stacked, torch.cat([y, torch.zeros(width, y.shape[1], dtype=torch.float64)])).solution


def weight_of(learner: ToyLearner, classes: list[int]) -> Tensor:
    """The readout's weight with its columns in the order of the class ids."""
    return learner.analytic.weight[:, np.argsort(classes)].double()


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_after_the_last_task_it_equals_joint_training_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    tasks = toy_tasks(4)
    method = Analytic(features=50, ridge=0.3)
    learner, _ = run_toy(tmp_path / "run", method, tasks=[tasks[i] for i in order])
    expected = plain_ridge(learner, tasks, 0.3)
    assert (weight_of(learner, method.classes) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("earlier_unknown", [False, True])
def test_a_level_is_the_mean_score_of_a_class_in_its_own_images(tmp_path: Path, earlier_unknown: bool) -> None:
    first, second = toy_tasks(2)
    tasks = [first, replace(second, earlier_unknown=earlier_unknown)]
    method = Analytic(features=50, ridge=0.3)
    learner, _ = run_toy(tmp_path / "run", method, tasks=tasks)
    with torch.no_grad():
        scores = learner.analytic.scores(learner.represent(ToySource().batch(second.items, None)))
    column = method.classes.index(int(second.classes[0]))
    assert method.levels[int(second.classes[0])] == pytest.approx(float(scores[:, column].mean()), abs=1e-4)
    again = Analytic(features=50, ridge=0.3)
    again.start(learner, method.inputs)
    again.load_state_dict(method.state_dict())
    assert again.levels == method.levels


def test_a_pretrained_trunk_is_never_trained_and_a_first_one_once(tmp_path: Path) -> None:
    start = ToyLearner().net[0].weight
    for trunk, trained in (("pretrained", False), ("first", True)):
        one, _ = run_toy(tmp_path / f"{trunk}-1", Analytic(features=5, trunk=trunk), tasks=toy_tasks()[:1])
        all_, _ = run_toy(tmp_path / trunk, Analytic(features=5, trunk=trunk))
        assert torch.equal(one.net[0].weight, all_.net[0].weight)
        assert torch.equal(start, all_.net[0].weight) != trained


def test_memory_is_the_two_sums(tmp_path: Path) -> None:
    method = Analytic(features=7)
    run_toy(tmp_path / "run", method, tasks=toy_tasks(5))
    assert method.memory_bytes() == 8 * 7 * (7 + 5)


def test_a_class_that_appears_again_keeps_its_column(tmp_path: Path) -> None:
    halves = toy_tasks(2)
    again = [Task(t.name, t.items, t.targets, np.array([4]), importance_items=t.items) for t in halves]
    method = Analytic(features=7)
    learner, _ = run_toy(tmp_path / "run", method, tasks=again)
    whole = Task("whole", np.arange(120), np.concatenate([t.targets for t in halves]), np.array([4]))
    at_once, _ = run_toy(tmp_path / "once", Analytic(features=7), tasks=[whole])
    assert method.classes == [4]
    assert torch.allclose(learner.analytic.weight, at_once.analytic.weight, atol=1e-6)


def test_pending_rows_give_the_solution_of_all_sums(tmp_path: Path) -> None:
    """Three tasks of two and three images, one of an earlier class, and a large task after them."""
    first, rest = toy_tasks(2)
    cuts = [(0, 2, 7), (2, 5, 0), (5, 7, 8), (7, 60, 9)]
    lessons = [Task("", rest.items[a:b], rest.targets[a:b], np.array([c])) for a, b, c in cuts]
    for count in range(1, 5):
        method = Analytic(features=230, ridge=0.3)
        tasks = [first, *lessons[:count]]
        learner, _ = run_toy(tmp_path / str(count), method, tasks=tasks)
        assert len(method.pending.get("phi", ())) == (0, 2, 5, 7, 0)[count]
        classes = [task.classes[0] for task in tasks]
        phi, y = [], []
        for task in tasks:
            with torch.no_grad():
                phi.append(learner.expand(learner.represent(ToySource().batch(task.items, None))).double())
            y.append(torch.eye(10, dtype=torch.float64)[[task.classes[0]] * len(task)])
        features, indicators = torch.cat(phi), torch.cat(y)
        expected = torch.linalg.solve(
            features.T @ features + 0.3 * torch.eye(230, dtype=torch.float64), features.T @ indicators
        )[:, sorted(set(classes))]
        assert (weight_of(learner, method.classes) - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_prefetched_solution_is_the_same(tmp_path: Path) -> None:
    method = Analytic(features=64)
    learner, _ = run_toy(tmp_path / "run", method, tasks=toy_tasks(3))
    state, solved = method.state_dict(), method.solution()
    again = Analytic(features=64)
    again.prefetch(state)
    again.start(learner, method.inputs)
    again.load_state_dict(state)
    assert torch.equal(again.solution(), solved)


def test_random_features_depend_on_the_seed_only_and_have_length_one_on_average() -> None:
    x = torch.randn(40, 12)
    readouts = [AnalyticReadout([8, 4], 3000, seed, (3,)) for seed in (1, 1, 2)]
    phi = [readout.expand(x) for readout in readouts]
    assert torch.equal(phi[0], phi[1])
    assert not torch.equal(phi[0], phi[2])
    assert phi[0].square().sum(1).mean().item() == pytest.approx(1, abs=0.05)
    shifted = torch.cat([x[:, :8] * 3 + 5, x[:, 8:]], dim=1)  # each part is centred and scaled separately
    assert torch.allclose(readouts[0].expand(shifted), phi[0], atol=1e-5)


def test_loading_sets_the_number_of_classes() -> None:
    solved, fresh = AnalyticReadout([4], 6, 0, (3, 2)), AnalyticReadout([4], 6, 0, (3, 2))
    solved.solve(torch.randn(6, 5, dtype=torch.float64), torch.randn(5, 3, 2))
    fresh.load_state_dict(solved.state_dict())
    x = torch.randn(2, 4)
    expected = sum(solved.scores(x)[:, k, None, None] * solved.targets[k] for k in range(5))
    assert torch.allclose(fresh(x), expected, atol=1e-6)


def test_a_resumed_run_keeps_the_random_layer_of_its_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the seed now gave another layer, as it may in another release of torch."""
    whole, _ = run_toy(tmp_path / "whole", Analytic(features=20))
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path / "run", Analytic(features=20), stop_after=3)  # after task 2, of which nothing is saved
    monkeypatch.setattr(AnalyticReadout, "sample_layer", lambda self: torch.rand(sum(self.parts), self.width))
    resumed, _ = run_toy(tmp_path / "run", Analytic(features=20))
    assert_same(resumed, whole)


@pytest.mark.parametrize("settings", [{"features": 0}, {"ridge": 0.0}, {"ridge": -1.0}])
def test_bad_settings(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match="greater than 0"):
        Analytic(**settings)


@pytest.mark.parametrize("few", [True, False])
def test_a_task_that_does_not_mention_earlier_classes_leaves_their_solution_as_it_was(
    tmp_path: Path, few: bool
) -> None:
    """Its images may show them: zeros as targets would deny it."""
    first, second, third = toy_tasks(3)
    lesson = replace(third, items=first.items[:4], targets=np.full_like(third.targets[:4], third.classes[0]))
    features = 4 * 32 if few else 50  # few: the rows are pending; else they enter the sums
    before = run_toy(tmp_path / "before", Analytic(features=features), tasks=[first, second])[0].analytic.weight
    for unknown, name in ((True, "unknown"), (False, "absent")):
        tasks = [first, second, replace(lesson, earlier_unknown=unknown)]
        after = run_toy(tmp_path / name, Analytic(features=features), tasks=tasks)[0].analytic.weight
        assert torch.allclose(after[:, :2], before, atol=1e-6) is unknown
        assert after[:, 2].abs().max() > 0.01
