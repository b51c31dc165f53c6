"""Fused optimizers against plain ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from toy import ToyLearner

from tripletcl.continual import Training
from tripletcl.continual.optimization import build_optimizer, set_lr

SETTINGS = [
    Training(momentum=0.9, weight_decay=0.01),
    Training(momentum=0.0),
    Training(optimizer="adamw", weight_decay=0.01),
]


@pytest.mark.parametrize("training", SETTINGS)
def test_fused_equals_plain(training: Training) -> None:
    """Also if a parameter gets its first gradient later than others, or one with another memory layout."""
    learners = [ToyLearner(), ToyLearner()]
    optimizers = [
        build_optimizer(learner, training, fused) for learner, fused in zip(learners, (True, False), strict=True)
    ]
    generator = torch.Generator().manual_seed(0)
    for step in range(6):
        for optimizer in optimizers:
            optimizer.zero_grad()
            set_lr(optimizer, 0.1 / (1 + step))
        for number, (left, right) in enumerate(zip(*(learner.parameters() for learner in learners), strict=True)):
            if number == 0 and step in (0, 1, 4):
                continue
            gradient = torch.randn(left.shape, generator=generator)
            left.grad = gradient.t().contiguous().t() if gradient.dim() == 2 else gradient.clone()
            right.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    for left, right in zip(*(learner.parameters() for learner in learners), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_states_of_plain_and_fused_optimizers_have_the_same_entries(tmp_path: Path, optimizer: str) -> None:
    """So that a checkpoint of one can be restored by the other."""
    learner = ToyLearner()
    entries = []
    for fused in (True, False):
        built = build_optimizer(learner, replace(Training(), optimizer=optimizer), fused)
        for p in learner.parameters():
            p.grad = torch.ones_like(p)
        built.step()
        entries.append({key: value.shape for key, value in built.state[next(learner.parameters())].items()})
    assert entries[0] == entries[1]
