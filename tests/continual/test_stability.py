"""The choice of lam for every task: the rule against a plain twin, and whole runs against runs with fixed weights."""

from __future__ import annotations

import inspect
import itertools
import logging
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import ITEMS, ToyLearner, ToySource, assert_same, run_toy, toy_tasks

from tripletcl.continual import Method, RunFolder, Stability, Task, Training
from tripletcl.errors import UserError
from tripletcl.methods import METHODS, Combined

HELD_OUT = 12
WEIGHTED = [name for name, method in METHODS.items() if "lam" in inspect.signature(method).parameters]
"""The methods with a weight to choose."""

SETTINGS = {
    "sgd": Training(epochs=2, batch_size=16, lr=0.1),
    "adamw": Training(epochs=2, batch_size=16, lr=0.02, optimizer="adamw", weight_decay=0.1),
}
RULE = Stability(drop=0.02, start=9.0, decay=0.3, attempts=4)
"""With it the toy's searches end at the first attempt, at the last one, and in between."""


def learnable_tasks() -> list[Task]:
    """Each task is a linear map of its own, and the last items of each are held out."""
    generator, inputs, tasks = np.random.default_rng(3), ToySource().inputs.numpy(), []
    for i, items in enumerate(np.array_split(np.arange(ITEMS), 3)):
        targets = inputs[items] @ generator.normal(size=(inputs.shape[1], 3)).astype(np.float32)
        train, held_out = items[:-HELD_OUT], items[-HELD_OUT:]
        task = Task(f"task {i + 1}", train, targets[:-HELD_OUT], np.array([i]), importance_items=train)
        tasks.append(replace(task, validation_items=held_out, validation_targets=targets[-HELD_OUT:]))
    return tasks


def with_lams(method: Method, lams: dict[str, float]) -> Method:
    """A method that learns each task with a fixed weight of its own."""
    before_task = method.before_task

    def weighted(task: Task) -> None:
        method.lam = lams[task.name]
        before_task(task)

    method.before_task = weighted  # type: ignore[method-assign]
    return method


def lines(run: RunFolder, kind: str) -> list[dict[str, float]]:
    return [line for line in run.metrics if line["kind"] == kind]


# --- the rule --------------------------------------------------------------------------------------------------------


def plain_rule(score: Callable[[float], float], rule: Stability) -> list[float]:
    """The weights tried by the rule of the paper; the last one is kept."""
    fine_tuning = score(0.0)
    tried, lam = [0.0], rule.start
    while True:
        tried.append(lam)
        if score(lam) >= (1 - rule.drop) * fine_tuning or len(tried) == rule.attempts + 1:
            return tried
        lam = lam * rule.decay


@pytest.mark.parametrize("seed", range(30))
def test_the_rule_against_its_plain_twin(seed: int) -> None:
    draw = random.Random(seed)
    rule = Stability(draw.choice([0.0, 0.1, 0.5]), draw.uniform(0.1, 1e3), draw.uniform(0.1, 0.9), draw.randint(1, 6))
    scores = {0.0: draw.random()}

    def score(lam: float) -> float:  # not monotonic: a larger weight may score better
        return scores.setdefault(round(lam, 9), draw.random())

    expected, weights, scored = plain_rule(score, rule), [0.0], [scores[0.0]]
    while not rule.ends(scored):
        weights.append(rule.lam(Method(), len(scored)))
        scored.append(score(weights[-1]))
    assert weights == pytest.approx(expected)


# --- whole runs ------------------------------------------------------------------------------------------------------


def plain_search(folder: Path, name: str, rule: Stability, training: Training) -> dict[str, float]:
    """The weight of each task, chosen by training the sequence from its start with every candidate."""
    tasks, lams = learnable_tasks(), {"task 1": 0.0}
    for stage, task in list(enumerate(tasks))[1:]:

        def score(lam: float, stage: int = stage, task: Task = task) -> float:
            method = with_lams(METHODS[name](), lams | {task.name: lam})
            learner, _ = run_toy(folder / f"{stage}-{lam}", method, tasks=tasks[: stage + 1], training=training)
            errors = learner.eval()(ToySource().inputs[task.validation_items]) - torch.tensor(task.validation_targets)
            return torch.exp(-errors.square().mean(dim=1)).mean().item()

        lams[task.name] = plain_rule(score, rule)[-1]
    return lams


@pytest.mark.parametrize("optimizer", SETTINGS)
def test_a_search_ends_at_the_weights_of_the_twin(tmp_path: Path, optimizer: str) -> None:
    training = SETTINGS[optimizer]
    lams = plain_search(tmp_path, "mas", RULE, training)
    tasks = learnable_tasks()
    fixed, fixed_run = run_toy(tmp_path / "fixed", with_lams(METHODS["mas"](), lams), tasks=tasks, training=training)
    auto, auto_run = run_toy(
        tmp_path / "auto", METHODS["mas"](lam="auto"), tasks=tasks, training=training, stability=RULE
    )
    assert [line.get("lam") for line in lines(auto_run, "stage")[1:]] == [None, lams["task 2"], lams["task 3"]]
    assert_same(auto, fixed)
    figures = [[line["outputs"] for line in lines(run, "stage")] for run in (auto_run, fixed_run)]
    assert figures[0] == figures[1]
    assert all("lam" not in line for line in lines(fixed_run, "stage"))
    tries = [max(line["attempt"] for line in lines(auto_run, "attempt") if line["stage"] == stage) for stage in (1, 2)]
    assert tries == {"sgd": [3, 4], "adamw": [1, 2]}[optimizer], "searches that end first, last and in between"


@pytest.mark.parametrize("optimizer", SETTINGS)
@pytest.mark.parametrize("name", WEIGHTED)
def test_a_run_whose_first_weight_passes_equals_that_of_the_weight(tmp_path: Path, name: str, optimizer: str) -> None:
    """The attempt of fine-tuning leaves no trace, whatever the method stores."""
    training, rule = SETTINGS[optimizer], Stability(drop=1.0, start=0.7)
    tasks = learnable_tasks()
    lams = {"task 1": 0.0, "task 2": 0.7, "task 3": 0.7}
    fixed, _ = run_toy(tmp_path / "fixed", with_lams(METHODS[name](), lams), tasks=tasks, training=training)
    auto, run = run_toy(tmp_path / "auto", METHODS[name](lam="auto"), tasks=tasks, training=training, stability=rule)
    assert_same(auto, fixed)
    assert [(line["stage"], line["attempt"], line["lam"]) for line in lines(run, "attempt")] == [
        (1, 0, 0.0), (1, 1, 0.7), (2, 0, 0.0), (2, 1, 0.7)
    ]  # fmt: skip


def test_attempts_are_bounded_and_the_last_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rule = Stability(drop=0.0, start=1e6, decay=0.5, attempts=3)
    with caplog.at_level(logging.INFO, "tripletcl"):
        _, run = run_toy(tmp_path / "run", METHODS["mas"](lam="auto"), tasks=learnable_tasks(), stability=rule)
    assert [line["lam"] for line in lines(run, "attempt")] == [0.0, 1e6, 5e5, 2.5e5] * 2
    assert [line["lam"] for line in lines(run, "stage")[1:]] == [None, 2.5e5, 2.5e5]
    scores = [line["score"] for line in lines(run, "attempt")[:4]]
    assert f"task 2: mas lam 250000 is kept with score {scores[3]:.3f}" in caplog.text
    assert f"fine-tuning has {scores[0]:.3f}" in caplog.text
    assert "raise stability.attempts or lower stability.start" in caplog.text


@pytest.mark.parametrize("combined", [False, True])
def test_an_interrupted_search_equals_an_uninterrupted_one(tmp_path: Path, combined: bool) -> None:
    def run(folder: Path, stop_after: int | None = None) -> tuple[ToyLearner, RunFolder]:
        mas = METHODS["mas"](lam="auto")
        method = Combined([mas, METHODS["lwf"](lam=0.5)]) if combined else mas
        return run_toy(
            folder,
            method,
            tasks=learnable_tasks(),
            training=replace(SETTINGS["adamw"], checkpoint_minutes=0),
            stability=replace(RULE, attempts=2),
            stop_after=stop_after,
        )

    whole, whole_run = run(tmp_path / "whole")
    for attempt in itertools.count(1):
        try:
            pieces, pieces_run = run(tmp_path / "pieces", stop_after=3)
            break
        except KeyboardInterrupt:
            torch.manual_seed(attempt)
    assert attempt > 2
    assert_same(whole, pieces)
    figures = [[{**line, "seconds": 0, "time": ""} for line in run.metrics] for run in (whole_run, pieces_run)]
    assert figures[0] == figures[1]


def test_a_damaged_checkpoint_within_a_search_changes_no_number(tmp_path: Path) -> None:
    def run(folder: Path, stop_after: int | None = None) -> ToyLearner:
        method = METHODS["mas"](lam="auto")
        return run_toy(
            folder,
            method,
            tasks=learnable_tasks()[:2],
            training=replace(SETTINGS["sgd"], checkpoint_minutes=0),
            stability=replace(RULE, attempts=2),
            stop_after=stop_after,
        )[0]

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop_after=13)
    newest = max((tmp_path / "cut" / "checkpoints").iterdir())
    assert "attempt-001" in newest.name
    newest.write_bytes(newest.read_bytes()[:-100])
    assert_same(whole, run(tmp_path / "cut"))


def test_a_weight_with_which_training_diverges_is_skipped(tmp_path: Path) -> None:
    rule = Stability(drop=1.0, start=1e30, decay=1e-30)
    method = METHODS["mas"](lam="auto", penalty="gradient")
    _, run = run_toy(tmp_path / "run", method, tasks=learnable_tasks(), stability=rule)
    assert [line["lam"] for line in lines(run, "stage")[2:]] == pytest.approx([1.0, 1.0])
    assert lines(run, "attempt")[1]["score"] < 0
    with pytest.raises(UserError, match=r"the loss became (nan|inf) in task 2"):  # and no smaller weight is left
        run_toy(
            tmp_path / "none",
            METHODS["mas"](lam="auto", penalty="gradient"),
            tasks=learnable_tasks(),
            stability=replace(rule, attempts=1),
        )


def test_too_few_held_out_items_are_an_error_before_training(tmp_path: Path) -> None:
    tasks = learnable_tasks()
    tasks[2] = replace(tasks[2], validation_items=tasks[2].validation_items[:9])
    with pytest.raises(UserError, match=r"task 3 has 9 of them; at least 10 are needed .*data\.validation"):
        run_toy(tmp_path / "few", METHODS["mas"](lam="auto"), tasks=tasks)
    with pytest.raises(UserError, match="task 2 has 0 of them"):
        run_toy(tmp_path / "none", METHODS["mas"](lam="auto"), tasks=toy_tasks())
    assert not (tmp_path / "few" / "metrics.jsonl").exists()
    run_toy(tmp_path / "fixed", METHODS["mas"](lam=1.0), tasks=toy_tasks())  # a given weight needs none


def test_a_single_task_has_nothing_to_search(tmp_path: Path) -> None:
    _, run = run_toy(tmp_path / "run", METHODS["mas"](lam="auto"), tasks=learnable_tasks()[:1])
    assert lines(run, "attempt") == []
    assert lines(run, "stage")[1]["lam"] is None


def test_held_out_items_are_scored_plain_and_never_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requested: dict[bool, set[int]] = {True: set(), False: set()}
    batch = ToySource.batch

    def recorded(self: ToySource, ids: np.ndarray, generator: torch.Generator | None) -> torch.Tensor:
        if len(ids) > 5:  # the toy evaluates its first five items
            requested[generator is not None].update(ids.tolist())
        return batch(self, ids, generator)

    tasks = [replace(task, importance_items=task.items[:8]) for task in learnable_tasks()]
    held_out = {int(item) for task in tasks for item in task.validation_items}
    monkeypatch.setattr(ToySource, "batch", recorded)
    run_toy(tmp_path / "run", METHODS["mas"](lam="auto"), tasks=tasks, stability=RULE)
    assert requested[True] == {int(item) for task in tasks for item in task.items}
    assert not requested[True] & held_out
    plain = [tasks[1].validation_items, tasks[2].validation_items, *(task.importance_items for task in tasks)]
    assert requested[False] == {int(item) for items in plain for item in items}


def test_a_method_has_its_own_start_unless_one_is_given() -> None:
    method = METHODS["lwf"]()
    assert Stability().lam(method, 1) == method.high_lam
    assert Stability(start=7.0, decay=0.1).lam(method, 3) == pytest.approx(0.07)
    assert Stability().lam(method, 0) == 0.0
