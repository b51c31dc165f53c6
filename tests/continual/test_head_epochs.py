"""`Training.head_epochs`: the trunk is frozen at each task's start, without side effects."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_gradients import summed_statistic
from reference_sequence import Named, PlainSequence, assert_near, latest_anchor
from torch import Tensor, nn
from toy import MultiHeadToy, ToyLearner, ToySource, assert_same, multi_head_tasks, run_multi_head, run_toy

from tripletcl.config import load_config
from tripletcl.continual import Method, RunFolder, Stability, Task, Training
from tripletcl.errors import UserError
from tripletcl.mas import MAS, MASAlpha
from tripletcl.methods import METHODS
from tripletcl.methods.imm import IMM
from tripletcl.methods.si import SI

SGD = Training(epochs=4, head_epochs=2, batch_size=16, lr=0.05, weight_decay=0.1, checkpoint_minutes=0)
ADAMW = replace(SGD, lr=0.01, optimizer="adamw")
TASKS = multi_head_tasks()


class NormToy(MultiHeadToy):
    """A learner whose trunk has running statistics, which training changes, and a layer that is never trained."""

    def __init__(self) -> None:
        super().__init__(TASKS)
        self.net[2] = nn.BatchNorm1d(8)
        self.net[0].bias.requires_grad_(False)


METHODS_THAT_MOVE_WEIGHTS: dict[str, Callable[[], Method]] = {
    "finetune": Method,
    "mas": MAS,
    "mas gradient": lambda: MAS(penalty="gradient", lam=0.1),
    "mas_alpha": MASAlpha,
    "mas_alpha gradient": lambda: MASAlpha(penalty="gradient", lam=0.1),
    "ewc separate": lambda: METHODS["ewc"](form="separate"),
    "si": SI,
    "imm": lambda: IMM(lam=1.0, drop=0.3),
    "lwf": METHODS["lwf"],
    "ebll": lambda: METHODS["ebll"](epochs=2),
}


@pytest.mark.parametrize(
    ("name", "training"), [(name, SGD) for name in METHODS_THAT_MOVE_WEIGHTS] + [("finetune", ADAMW), ("imm", ADAMW)]
)
def test_the_trunk_is_frozen_bit_for_bit_and_then_trained(tmp_path: Path, name: str, training: Training) -> None:
    """Neither gradients nor weight decay nor a penalty around an old anchor change it, nor its running statistics."""
    method, learner = METHODS_THAT_MOVE_WEIGHTS[name](), NormToy()
    before_task, after_step = method.before_task, method.after_step
    states: list[list[dict[str, Tensor]]] = []

    def state() -> dict[str, Tensor]:
        return {key: value.clone() for key, value in learner.state_dict().items()}

    def before(task: Task) -> None:
        before_task(task)
        states.append([state()])

    def after(lr: float) -> None:
        after_step(lr)
        states[-1].append(state())

    method.before_task, method.after_step = before, after  # type: ignore[method-assign]
    run_multi_head(tmp_path, method, learner=learner, training=replace(training, checkpoint_minutes=60))
    assert [len(steps) for steps in states] == [1 + 4 * 3] * 3
    for head, steps in enumerate(states):
        for step, (old, new) in enumerate(itertools.pairwise(steps)):
            moved = {key for key, value in new.items() if not torch.equal(value, old[key])}
            assert {f"heads.{head}.1.weight", f"heads.{head}.1.bias"} <= moved
            trunk = {key for key in moved if key.startswith("net.")}
            assert trunk == (set() if step < 2 * 3 else {key for key in new if key.startswith("net.")} - {"net.0.bias"})
    assert [name for name, p in learner.named_parameters() if not p.requires_grad] == ["net.0.bias"]


def norm_importance(learner: ToyLearner, task: Task, number: int) -> Named:
    inputs = ToySource().batch(task.importance_items, None)
    return {name: value / len(inputs) for name, value in summed_statistic(learner, inputs, abs).items()}


@pytest.mark.parametrize("form", ["proximal", "gradient"])
@pytest.mark.parametrize(("kind", "lam", "measure"), [(MAS, 3.0, norm_importance), (SI, 30.0, None)], ids=["mas", "si"])
def test_sequence_equals_the_twin(
    tmp_path: Path, form: str, kind: Callable[..., Method], lam: float, measure: Any
) -> None:
    """The trunk's momentum and path integral start with its training; the schedule covers all epochs."""
    training = Training(epochs=3, head_epochs=1, batch_size=16, lr=0.05)
    ours, _ = run_toy(tmp_path / "ours", kind(lam=lam, penalty=form), training=training)
    plain, _ = run_toy(tmp_path / "plain", Method(), training=replace(training, head_epochs=0))
    assert_near(ours, PlainSequence(form, measure, latest_anchor(lam), training=training).run(), plain)


def test_the_optimizer_has_no_state_of_a_frozen_trunk(tmp_path: Path) -> None:
    """A checkpoint from an epoch of the heads, and the flags of a learner whose training ended there."""
    learner = ToyLearner()
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path, Method(), training=ADAMW, stop_after=3, learner=learner)
    position, state = RunFolder(tmp_path, "toy: 1\n").latest() or pytest.fail("no checkpoint is left")
    assert (0, 0) < (position.epoch, position.step) < (2, 0)
    assert state["optimizer"]["net.0.weight"] == {}
    assert set(state["optimizer"]["net.3.weight"]) == {"step", "exp_avg", "exp_avg_sq"}
    assert all(p.requires_grad for p in learner.parameters())
    assert all(module.training for module in learner.modules())


@pytest.mark.parametrize("name", ["imm", "lwf"])
def test_an_interrupted_search_equals_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    def run(folder: Path, stop_after: int | None = None) -> MultiHeadToy:
        return run_multi_head(
            folder,
            METHODS[name](lam="auto"),
            tasks=multi_head_tasks(held_out=10)[:2],
            training=replace(SGD, epochs=2, head_epochs=1),
            stability=Stability(attempts=2),
            stop_after=stop_after,
        )[0]

    whole = run(tmp_path / "whole")
    for attempt in itertools.count(1):
        try:
            pieces = run(tmp_path / "pieces", stop_after=3)
            break
        except KeyboardInterrupt:
            torch.manual_seed(attempt)
    assert attempt > 2
    assert_same(whole, pieces)


def test_head_epochs_are_less_than_epochs() -> None:
    with pytest.raises(UserError, match=r"head_epochs is 3, but it must be less than training\.epochs, which is 3"):
        Training(epochs=3, head_epochs=3)
    with pytest.raises(UserError, match=r"head_epochs is 8, but it must be less than training\.epochs, which is 4"):
        load_config("demo", ["training.epochs=4", "training.head_epochs=8"])
    assert load_config("demo", ["training.epochs=4", "training.head_epochs=3"]).training.head_epochs == 3
