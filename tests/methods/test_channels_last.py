"""Weights with channels-last memory, as a user may have them: training is the same up to rounding."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from toy import assert_same

from tripletcl.continual import RunFolder, SequenceRunner, Task, Training
from tripletcl.continual.device import compute_on
from tripletcl.embedding.classifier import build_classifier
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.embedding.spec import ClassifierSpec
from tripletcl.methods import METHODS
from tripletcl.progress import Progress, listening

IMAGES = torch.rand(24, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ITEMS = np.arange(12)
TASKS = [
    Task("one", ITEMS, ITEMS % 2, np.array([0, 1]), importance_items=ITEMS),
    Task("two", ITEMS + 12, 2 + ITEMS % 2, np.array([2, 3]), np.array([0, 1]), importance_items=ITEMS + 12),
]


class Images:
    def batch(self, ids: np.ndarray, generator: torch.Generator | None) -> Tensor:
        return IMAGES[torch.from_numpy(ids)]


def run(folder: Path, name: str, optimizer: str, layout: torch.memory_format, stop_after: int = 99) -> ObjectLearner:
    spec = ClassifierSpec("timm/test_efficientnet", "none", image_size=32)
    classifier = build_classifier(spec, {"one": ["a", "b"], "two": ["c", "d"]}, seed=0).to(memory_format=layout)
    learner, steps = ObjectLearner(classifier), itertools.count(1)

    def stop(_: Progress) -> None:
        if next(steps) >= stop_after:
            raise KeyboardInterrupt

    runner = SequenceRunner(
        learner,
        TASKS,
        METHODS[name](),
        Images(),
        Training(epochs=1, batch_size=6, lr=0.01, optimizer=optimizer, checkpoint_minutes=0),
        compute_on("cpu"),
        RunFolder(folder, "a: 1\n"),
        lambda stage: {},
    )
    with listening(stop):
        runner.run()
    return learner


@pytest.mark.parametrize(("name", "optimizer"), [("mas", "sgd"), ("mas", "adamw"), ("si", "sgd"), ("imm", "sgd")])
def test_training_importance_penalty_and_checkpoints(tmp_path: Path, name: str, optimizer: str) -> None:
    plain = run(tmp_path / "plain", name, optimizer, torch.contiguous_format)
    ours = run(tmp_path / "ours", name, optimizer, torch.channels_last)
    assert any(not p.is_contiguous() for p in ours.parameters())
    # By norm: where a gradient is nearly zero AdamW takes a step of rounding errors.
    for key, value in ours.state_dict().items():
        other = plain.state_dict()[key].double()
        assert (value - other).norm() <= 1e-4 * other.norm() + 2e-5, key
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", name, optimizer, torch.channels_last, stop_after=3)
    assert_same(run(tmp_path / "cut", name, optimizer, torch.channels_last), ours)
