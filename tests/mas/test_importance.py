"""The mean over all samples, whatever the batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from reference_gradients import summed_statistic
from test_rules import assert_equal, images, perturb
from torch import Tensor, nn

from tripletcl.errors import UserError
from tripletcl.mas.importance import importance
from tripletcl.mas.statistics import every_output


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


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("batch", [1, 3, 10])
@pytest.mark.parametrize("options", [{"scope": "local"}, {"scalar": every_output}], ids=["local", "vector"])
def test_variants_do_not_depend_on_the_batches(
    model: nn.Module, batch: int, engine: str, options: dict[str, Any]
) -> None:
    inputs = images(10, 3, 5, 5)
    if "scope" in options and engine == "loop":
        pytest.skip("refused, and tested elsewhere")
    assert_equal(
        importance(model, inputs.split(batch), engine=engine, **options), importance(model, [inputs], **options), 1e-12
    )


def test_per_batch_counts_every_batch_once(model: nn.Module) -> None:
    """Also the last, smaller one; the result depends on the batches and is below the exact importance."""
    inputs = images(10, 3, 5, 5)
    ours = importance(model, inputs.split(4), per="batch")
    model.eval()
    reference = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for batch in inputs.split(4):
        gradients = torch.autograd.grad((model(batch) ** 2).sum(1).mean(), list(model.parameters()))
        for name, gradient in zip(reference, gradients, strict=True):
            reference[name] += gradient.abs() / 3
    assert_equal(ours, reference, 1e-12)
    exact = importance(model, [inputs])
    assert_equal(importance(model, inputs.split(1), per="batch"), exact, 1e-12)
    whole = importance(model, [inputs], per="batch")
    assert all((whole[name] <= exact[name] + 1e-12).all() for name in exact)
    assert whole["0.weight"].sum() < 0.9 * exact["0.weight"].sum()


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
    with pytest.raises(UserError, match=r"tensors \[B, \.\.\.\] or mappings of them, not tuple"):
        importance(model, [(inputs, torch.zeros(3))])  # type: ignore[list-item]
    inputs[1, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match=r"importance of 0\.weight is NaN or infinite"):
        importance(model, [inputs])


def test_settings_that_do_not_go_together(model: nn.Module) -> None:
    inputs = images(3, 3, 5, 5)
    with pytest.raises(UserError, match="per sample or per batch, not per 'epoch'"):
        importance(model, [inputs], per="epoch")
    with pytest.raises(UserError, match="taken per sample only"):
        importance(model, [inputs], per="batch", scope="local")


def test_the_batch_axis_is_checked_once_for_each_shape(model: nn.Module) -> None:
    """By a pass of one sample, for the first shape also by its gradients; later batches take only their own pass."""
    model = nn.Sequential(*model[:3], nn.AdaptiveAvgPool2d(3), *model[3:])
    sizes = []
    model[0].register_forward_hook(lambda _, args, output: sizes.append(len(output)))
    large, small = images(5, 3, 6, 6), images(4, 3, 5, 5)
    ours = importance(model, [large[:3], large[3:], small])
    assert sizes == [1, 1, 2, 3, 2, 1, 4]
    both = [importance(model, [batch]) for batch in (large, small)]
    assert_equal(ours, {name: (5 * both[0][name] + 4 * both[1][name]) / 9 for name in ours}, 1e-12)


def test_one_infinite_entry_is_refused(model: nn.Module) -> None:
    inputs = images(3, 3, 5, 5)
    model[4].weight.data[2, 3] = torch.inf
    with pytest.raises(UserError, match="is NaN or infinite"):
        importance(model, [inputs])
