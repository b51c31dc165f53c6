"""Importance is exact in float32 under any setting of torch, and leaves the settings as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from reference_gradients import summed_statistic
from test_rules import images, perturb
from torch import Tensor, nn

from tripletcl.mas import per_sample_statistic
from tripletcl.mas.float32 import exact_float32


def network() -> nn.Module:
    """A network with every kind of rule: dense, depthwise (with and without a stride), norms, linear over positions."""
    torch.manual_seed(0)
    return perturb(
        nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 32, 3, stride=2, padding=1, groups=32),
            nn.GroupNorm(4, 32),
            nn.Conv2d(32, 32, 3, padding=1, groups=32),
            nn.ReLU(),
            nn.Conv2d(32, 48, 1),
            nn.Flatten(2),
            nn.Linear(16, 40),
            nn.LayerNorm(40),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * 40, 10),
        )
    )


@pytest.fixture
def settings() -> Iterator[Callable[[], list[str]]]:
    """Reads how torch rounds; the settings are restored after the test."""
    backends = torch.backends
    if not hasattr(backends.cudnn, "conv"):
        pytest.skip("before 2.9 torch had no setting for a single operation")
    operations = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    before = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    yield lambda: [operation.fp32_precision for operation in operations]
    torch.set_float32_matmul_precision(before[0])
    backends.cudnn.allow_tf32 = before[1]
    backends.mkldnn.conv.fp32_precision = "none"


def distance(omega: dict[str, Tensor], twin: dict[str, Tensor]) -> float:
    """The largest difference, relative to its parameter's largest entry."""
    assert omega.keys() == twin.keys()
    return max(float((omega[name] - twin[name]).abs().max() / twin[name].max()) for name in twin)


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_close_to_one_sample_at_a_time_in_float64(engine: str) -> None:
    twin = summed_statistic(network().double(), images(6, 3, 8, 8).double(), abs)
    omega = per_sample_statistic(network().float(), images(6, 3, 8, 8).float(), engine=engine)  # type: ignore[arg-type]
    assert all(value.dtype == torch.float32 for value in omega.values())
    assert distance(omega, twin) < 1e-5


def test_exact_under_settings_and_an_autocast_that_would_round(settings: Callable[[], list[str]]) -> None:
    model, inputs = network().float(), images(6, 3, 8, 8).float()
    plain = per_sample_statistic(model, inputs)
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    with torch.autocast("cpu", torch.bfloat16):
        under = per_sample_statistic(model, inputs)
    assert all(torch.equal(under[name], plain[name]) for name in plain)


@pytest.mark.parametrize("outside", ["highest", "high", "medium", "newer", "whole backend"])
def test_settings_hold_inside_and_are_as_before_outside(outside: str, settings: Callable[[], list[str]]) -> None:
    if outside == "newer":  # values that the older settings cannot express, and refuse to be asked for
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.conv.fp32_precision = "ieee"
    elif outside == "whole backend":
        torch.backends.mkldnn.fp32_precision = "bf16"
    else:
        torch.set_float32_matmul_precision(outside)
    before, inside = settings(), []
    model = nn.Linear(3, 2)
    model.register_forward_hook(lambda *_: inside.append((settings(), torch.get_float32_matmul_precision())))
    per_sample_statistic(model, torch.randn(2, 3))
    assert inside
    assert all(read == (["ieee"] * 4, "highest") for read in inside)
    assert settings() == before
    with pytest.raises(ZeroDivisionError), exact_float32():
        raise ZeroDivisionError
    assert settings() == before
    if outside == "whole backend":  # it is still inherited
        torch.backends.mkldnn.fp32_precision = "none"
        assert settings()[3] == "none"
