"""A run on a tuned processor: the same but for rounding."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from toy import run_multi_head, run_toy

from tripletcl import cpu as onednn
from tripletcl.continual import Method, Training, sequence
from tripletcl.continual.device import tuned_processor
from tripletcl.mas import MAS
from tripletcl.mas.importance import importance

TRAINING = Training(epochs=2, batch_size=16, lr=0.05, head_epochs=1)
FUNCTION = nn.functional.linear

pytestmark = pytest.mark.skipif(not onednn.AVAILABLE, reason="this torch has no oneDNN")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The toys' layers count as large; the rows of what oneDNN multiplied."""
    rows: list[int] = []
    affine = onednn._affine
    monkeypatch.setattr(onednn, "_affine", lambda x, *rest: rows.append(len(x)) or affine(x, *rest))
    monkeypatch.setattr(onednn, "FEW", 1)
    monkeypatch.setattr(onednn, "FEW_ROWS", 0)
    return rows


@pytest.mark.parametrize("run", [run_toy, run_multi_head])
@pytest.mark.parametrize("method", [Method, MAS])
def test_a_run_differs_by_rounding_only(
    run: object, method: type[Method], made: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned, _ = run(tmp_path / "tuned", method(), training=TRAINING)  # type: ignore[operator]
    assert 16 in made
    made.clear()
    monkeypatch.setattr(sequence, "tuned_processor", nullcontext)
    usual, _ = run(tmp_path / "usual", method(), training=TRAINING)  # type: ignore[operator]
    assert nn.functional.linear is FUNCTION
    for left, right in zip(tuned.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-5)


def test_a_run_that_is_taken_up_equals_an_uninterrupted_one(made: list[int], tmp_path: Path) -> None:
    whole, _ = run_toy(tmp_path / "whole", MAS())
    with pytest.raises(KeyboardInterrupt):
        run_toy(tmp_path / "cut", MAS(), stop_after=17)
    assert nn.functional.linear is FUNCTION
    resumed, _ = run_toy(tmp_path / "cut", MAS())
    for left, right in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(left, right)


def test_importance_differs_by_rounding_only(made: list[int]) -> None:
    """A layer's own products, its input's gradient, and the sums over samples; whatever the batches."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 9), nn.Tanh(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 5))
    net[2].bias.requires_grad_(False)
    x = torch.randn(23, 6)
    with tuned_processor():
        ours = importance(net, x.split(8))
    assert made
    twin = importance(net.double(), [x.double()], engine="loop")
    assert ours.keys() == twin.keys()
    for name, value in ours.items():
        torch.testing.assert_close(value.double(), twin[name], rtol=1e-5, atol=1e-6)
