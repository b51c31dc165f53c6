"""The mean over all samples, whatever the batches."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from reference_gradients import summed_statistic
from test_rules import assert_equal, images, perturb
from torch import Tensor, nn

from tripletcl.errors import UserError
from tripletcl.mas.importance import importance


@pytest.fixture
def model() -> nn.Module:
    return perturb(
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(36, 5))
    )


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("f", [abs, torch.square])
@pytest.mark.parametrize("batch", [1, 3, 7, 10])
def test_mean_does_not_depend_on_the_batches(
    model: nn.Module, batch: int, f: Callable[[Tensor], Tensor], engine: str
) -> None:
    inputs = images(10, 3, 5, 5)  # 3 and 7 leave a smaller last batch
    model.train()
    ours = importance(model, inputs.split(batch), statistic=f, engine=engine)
    reference = {name: value / 10 for name, value in summed_statistic(model, inputs, f).items()}
    assert_equal(ours, reference, 1e-12)
    assert model.training


def test_scalar_and_forward_are_passed_on(model: nn.Module) -> None:
    inputs = images(4, 3, 5, 5)
    first = importance(model, [inputs], forward=lambda x: model(2 * x), scalar=lambda out: out[:, 0])
    reference = summed_statistic(model, 2 * inputs, abs, lambda out: out[:, 0])
    reference = {name: value / 4 for name, value in reference.items()}
    assert first["4.weight"][1:].abs().max() == 0
    assert torch.allclose(first["0.weight"], reference["0.weight"], rtol=1e-12)


def test_progress_counts_samples(model: nn.Module) -> None:
    counts: list[int] = []
    importance(model, images(7, 3, 5, 5).split(3), progress=counts.append)
    assert counts == [3, 3, 1]


def test_empty_batch_counts_nothing(model: nn.Module) -> None:
    inputs = images(3, 3, 5, 5)
    ours = importance(model, [inputs[:0], inputs, inputs[:0]])
    assert_equal(ours, importance(model, [inputs]), 1e-15)


def test_mistakes(model: nn.Module) -> None:
    inputs = images(3, 3, 5, 5)
    with pytest.raises(UserError, match="at least one sample"):
        importance(model, [])
    with pytest.raises(UserError, match="at least one sample"):
        importance(model, [inputs[:0]])
    with pytest.raises(UserError, match=r"tensors \[B, \.\.\.\], not tuple"):
        importance(model, [(inputs, torch.zeros(3))])  # type: ignore[list-item]
    inputs[1, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match=r"importance of 0\.weight is NaN or infinite"):
        importance(model, [inputs])
