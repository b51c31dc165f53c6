"""Common behaviour of all methods with a quadratic penalty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from reference_sequence import TRAINING
from torch import nn
from toy import assert_same, run_toy, toy_tasks

from tripletcl.continual import Method, Task, Training
from tripletcl.mas import MAS, MASAlpha
from tripletcl.methods import METHODS
from tripletcl.methods.ewc import EWC
from tripletcl.methods.si import SI

FORMS = ["proximal", "gradient"]
VARIANTS = {
    "mas": MAS,
    "mas-local": lambda **settings: MAS(scope="local", **settings),
    "mas-vector": lambda **settings: MAS(output="vector", **settings),
    "mas-batch": lambda **settings: MAS(per="batch", accumulate="ema", normalise="max", **settings),
    "mas_alpha": MASAlpha,
    "ewc": EWC,
    "ewc-separate": lambda **settings: EWC(form="separate", **settings),
    "ewc-loss": lambda **settings: EWC(fisher="loss", **settings),
    "si": SI,
}
OPTIMIZERS = {
    "sgd": TRAINING,
    "adamw": Training(epochs=2, batch_size=16, lr=0.01, optimizer="adamw", weight_decay=0.1),
}


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, nn.Module]:
    root = tmp_path_factory.mktemp("plain")
    tasks = toy_tasks()[:2]
    return {key: run_toy(root / key, Method(), training=used, tasks=tasks)[0] for key, used in OPTIMIZERS.items()}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("penalty", FORMS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_lam_0_is_finetune_bit_for_bit(
    tmp_path: Path, fine_tuned: dict[str, nn.Module], variant: str, penalty: str, optimizer: str
) -> None:
    method = VARIANTS[variant](lam=0.0, penalty=penalty)
    learner, _ = run_toy(tmp_path / "run", method, training=OPTIMIZERS[optimizer], tasks=toy_tasks()[:2])
    assert_same(learner, fine_tuned[optimizer])


@pytest.mark.parametrize("variant", VARIANTS)
def test_memory_does_not_grow_with_tasks(tmp_path: Path, variant: str) -> None:
    method, kept = VARIANTS[variant](), []
    after_task = method.after_task

    def measured(task: Task) -> None:
        after_task(task)
        kept.append(method.memory_bytes())

    method.after_task = measured
    learner, _ = run_toy(tmp_path / "run", method, tasks=toy_tasks(10), training=Training(epochs=1, lr=0.01))
    assert kept == [2 * sum(p.numel() * p.element_size() for p in learner.parameters())] * 10


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_larger_lam_moves_less(tmp_path: Path, variant: str) -> None:
    tasks, moved = toy_tasks(2), []
    first, _ = run_toy(tmp_path / "first", Method(), tasks=tasks[:1], training=TRAINING)
    for lam in (0.0, 10.0, 1e9):
        learner, _ = run_toy(tmp_path / str(lam), VARIANTS[variant](lam=lam), tasks=tasks, training=TRAINING)
        pairs = zip(learner.parameters(), first.parameters(), strict=True)
        moved.append(sum((p - q).square().sum().item() for p, q in pairs))
    assert moved == sorted(moved, reverse=True)
    assert np.isfinite(moved[-1])
    assert moved[-1] < 0.1 * moved[0]


def test_names_are_the_keys() -> None:
    assert all(METHODS[name].name == name for name in ("mas", "mas_alpha", "ewc", "si"))
