from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import ToyLearner, ToySource, assert_same, run_toy, toy_tasks, weights

from tripletcl.continual import Method, RunFolder, SequenceRunner, Task, Training, sequence
from tripletcl.continual.device import compute_on
from tripletcl.continual.optimization import build_optimizer, learning_rate
from tripletcl.continual.task import epoch_batches
from tripletcl.errors import UserError
from tripletcl.methods import METHODS
from tripletcl.testing import resumes

SETTINGS = {
    "sgd": Training(epochs=3, batch_size=16, lr=0.05, checkpoint_minutes=0),
    "adamw": Training(epochs=3, batch_size=16, lr=0.01, optimizer="adamw", weight_decay=0.1, checkpoint_minutes=0),
}


@pytest.mark.parametrize("optimizer", SETTINGS)
@pytest.mark.parametrize("name", METHODS)
def test_an_interrupted_run_equals_an_uninterrupted_one(tmp_path: Path, name: str, optimizer: str) -> None:
    def method() -> Method:  # four thousand random features would take seconds
        return METHODS[name](**({"features": 100} if name == "analytic" else {}))

    assert resumes(method, tmp_path, SETTINGS[optimizer])


def test_a_damaged_checkpoint_costs_time_but_no_number(tmp_path: Path) -> None:
    whole, _ = run_toy(tmp_path / "whole", METHODS["mas"]())
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path / "cut", METHODS["mas"](), stop_after=14)
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    newest.write_bytes(newest.read_bytes()[:-100])
    cut, _ = run_toy(tmp_path / "cut", METHODS["mas"]())
    assert_same(whole, cut)


@pytest.mark.parametrize("form", ["proximal", "gradient"])
@pytest.mark.parametrize("optimizer", SETTINGS)
def test_lam_0_is_finetune_bit_for_bit(tmp_path: Path, form: str, optimizer: str) -> None:
    plain, _ = run_toy(tmp_path / "plain", Method(), training=SETTINGS[optimizer])
    mas, _ = run_toy(tmp_path / "mas", METHODS["mas"](lam=0.0, penalty=form), training=SETTINGS[optimizer])
    assert_same(plain, mas)


def test_a_larger_lam_changes_less(tmp_path: Path) -> None:
    first = weights(run_toy(tmp_path / "first", Method(), tasks=toy_tasks()[:1])[0])
    moved = []
    for lam in (0.0, 0.1, 10.0, 1e9):
        learner, _ = run_toy(tmp_path / str(lam), METHODS["mas"](lam=lam), tasks=toy_tasks()[:2])
        moved.append(sum((p - first[n]).square().sum().item() for n, p in weights(learner).items()))
    assert moved == sorted(moved, reverse=True)
    assert np.isfinite(moved[-1])
    assert moved[-1] < 0.1 * moved[0]


def test_frozen_does_not_change_after_the_first_task(tmp_path: Path) -> None:
    after_one, _ = run_toy(tmp_path / "one", Method(), tasks=toy_tasks()[:1])
    frozen, _ = run_toy(tmp_path / "all", METHODS["frozen"]())
    assert_same(after_one, frozen)


def test_memory_does_not_grow_with_tasks(tmp_path: Path) -> None:
    kept: list[int] = []
    method = METHODS["mas"]()
    after_task = method.after_task

    def measured(task: Task) -> None:
        after_task(task)
        kept.append(method.memory_bytes())

    method.after_task = measured  # type: ignore[method-assign]
    learner, _ = run_toy(tmp_path / "run", method, tasks=toy_tasks(10))
    parameter_bytes = sum(p.numel() * p.element_size() for p in learner.parameters())
    assert len(kept) == 10
    assert set(kept) == {2 * parameter_bytes}


def test_the_optimizer_of_a_task_is_freed_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its momentum is as large as the model: one for every task would let memory grow with the sequence."""
    optimizers: list[weakref.ref[torch.optim.Optimizer]] = []

    def recorded(*arguments: object) -> torch.optim.Optimizer:
        gc.collect()
        assert [ref for ref in optimizers if ref() is not None] == []
        optimizer = build_optimizer(*arguments)  # type: ignore[arg-type]
        optimizers.append(weakref.ref(optimizer))
        return optimizer

    monkeypatch.setattr(sequence, "build_optimizer", recorded)
    run_toy(tmp_path / "run", METHODS["mas"]())
    assert len(optimizers) == 3


def test_nan_loss_stops_and_names_the_batch(tmp_path: Path) -> None:
    tasks = toy_tasks()
    tasks[1].targets[5] = np.nan
    with pytest.raises(UserError, match=r"loss became nan in task 2, epoch 1, batch \d"):
        run_toy(tmp_path / "run", Method(), tasks=tasks)
    position, state = RunFolder(tmp_path / "run", "toy: 1\n").latest() or pytest.fail("no checkpoint is left")
    assert position.stage == 1
    assert all(torch.isfinite(p).all() for p in state["model"].values())


def test_batches_of_an_epoch_cover_every_item_once_whatever_the_start() -> None:
    task, source = toy_tasks()[0], ToySource()

    def batches(start: int) -> list[np.ndarray]:
        batches = epoch_batches(task, source, batch_size=16, seed=(0, 1, 2), start=start, device=torch.device("cpu"))
        return [batch.items for batch in batches]

    whole = batches(0)
    assert sorted(np.concatenate(whole)) == sorted(task.items)
    for left, right in zip(whole[1:], batches(1), strict=True):
        assert np.array_equal(left, right)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_learning_rate(schedule: str) -> None:
    training = Training(lr=2.0, schedule=schedule, warmup=0.25)
    assert learning_rate(training, 0.125) == pytest.approx(1.0)
    assert learning_rate(training, 0.25) == pytest.approx(2.0)
    assert learning_rate(training, 1.0) == pytest.approx(2.0 if schedule == "constant" else 0.0)


@pytest.mark.parametrize("optimizer", SETTINGS)
def test_the_trunk_has_its_own_learning_rate(tmp_path: Path, optimizer: str) -> None:
    start, moved = weights(ToyLearner()), {}
    for part in (0.0, 0.5, 1.0):
        training = replace(SETTINGS[optimizer], epochs=1, batch_size=120, weight_decay=0.0, trunk_lr=part)  # one step
        learner, _ = run_toy(tmp_path / str(part), Method(), tasks=toy_tasks(1), training=training)
        moved[part] = {name: value - start[name] for name, value in weights(learner).items()}
    assert not moved[0.0]["net.0.weight"].any()
    torch.testing.assert_close(2 * moved[0.5]["net.0.weight"], moved[1.0]["net.0.weight"])
    assert moved[1.0]["net.0.weight"].any()
    assert torch.equal(moved[0.0]["net.3.weight"], moved[1.0]["net.3.weight"])


@pytest.mark.parametrize("refused", [False, True])
def test_a_method_is_checked_once_before_the_commit_and_the_training(tmp_path: Path, refused: bool) -> None:
    calls: list[str] = []

    class Checked(Method):
        def check(self, tasks: Sequence[Task]) -> None:
            calls.append("check")
            if refused:
                raise UserError("not these tasks")

        def before_task(self, task: Task) -> None:
            calls.append(task.name)

    def finish_stage(stage: int) -> dict[str, Any]:
        calls.append(f"stage {stage}")
        return {}

    runner = SequenceRunner(
        ToyLearner(),
        toy_tasks(2),
        Checked(),
        ToySource(),
        Training(epochs=1, batch_size=60),
        compute_on("cpu"),
        RunFolder(tmp_path / "run", "toy: 1\n"),
        finish_stage,
    )
    with pytest.raises(UserError) if refused else nullcontext():
        runner.run(commit=lambda: calls.append("commit"))
    learned = ["commit", "stage 0", "task 1", "stage 1", "task 2", "stage 2"]
    assert calls == ["check", *([] if refused else learned)]
