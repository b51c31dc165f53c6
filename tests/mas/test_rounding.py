"""The precisions of importance against one sample at a time in float64, and torch's settings around them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_gradients import summed_statistic
from test_rules import images, perturb
from torch import Tensor, nn
from toy import run_toy, toy_tasks, weights

from tripletcl.errors import UserError
from tripletcl.mas import MAS, MASAlpha, importance, per_sample_statistic, products, rules
from tripletcl.mas.precision import rounding
from tripletcl.methods import EWC, IMM

PRECISIONS = ["float32", "tf32", "bf16"]
ROUNDING = 2.0**-8
"""Half a unit in the last place of bfloat16, as a part of the number."""


def network() -> nn.Module:
    """Every kind of rule: dense, depthwise (with and without a stride), all four norms, linear over positions."""
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


@pytest.fixture(scope="module")
def exact() -> dict[str, Tensor]:
    return summed_statistic(network().double(), images(6, 3, 8, 8).double(), abs)


@pytest.fixture
def settings() -> Iterator[Callable[[], list[str]]]:
    """How torch rounds, and afterwards as before the test."""
    backends = torch.backends
    places = (backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul, backends.mkldnn.conv)
    before = torch.get_float32_matmul_precision(), backends.cudnn.allow_tf32
    yield lambda: [place.fp32_precision for place in places]
    torch.set_float32_matmul_precision(before[0])
    backends.cudnn.allow_tf32 = before[1]
    backends.mkldnn.conv.fp32_precision = "none"


def distance(found: dict[str, Tensor], twin: dict[str, Tensor]) -> float:
    """The largest difference, as a part of its parameter's largest entry."""
    assert found.keys() == twin.keys()
    return max(float((found[name] - twin[name]).abs().max() / twin[name].max()) for name in twin)


@pytest.mark.parametrize("engine", ["hooks", "loop"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_close_to_one_sample_at_a_time_in_float64(precision: Any, engine: Any, exact: dict[str, Tensor]) -> None:
    found = per_sample_statistic(network().float(), images(6, 3, 8, 8).float(), engine=engine, precision=precision)
    assert all(value.dtype == torch.float32 for value in found.values())
    assert distance(found, exact) < (0.1 if precision == "bf16" else 1e-5)  # a ReLU may open that was closed
    if precision == "bf16":
        assert distance(found, exact) > 1e-3, "nothing was rounded"
        together, twin = (torch.cat([each[name].flatten() for name in exact]) for each in (found, exact))
        assert (together - twin).abs().sum() < 0.02 * twin.sum()


def test_the_engines_round_alike() -> None:
    """What the rules round beyond autocast is little beside it."""
    model, inputs = network().float(), images(6, 3, 8, 8).float()
    hooks, loop = (per_sample_statistic(model, inputs, engine=e, precision="bf16") for e in ("hooks", "loop"))
    assert distance(hooks, loop) < 0.01


@pytest.mark.parametrize("scope", ["local", "rectified"])
def test_local_importance_as_well(scope: Any) -> None:
    model, inputs = network(), images(6, 3, 8, 8)
    whole = per_sample_statistic(model, inputs, scope=scope)
    assert distance(per_sample_statistic(model, inputs, scope=scope, precision="bf16"), whole) == 0  # of float64
    half = per_sample_statistic(model.float(), inputs.float(), scope=scope, precision="bf16")
    assert 1e-3 < distance(half, whole) < 0.02


@pytest.mark.parametrize("batch", [1, 4])
def test_bfloat16_does_not_depend_on_the_batches(batch: int) -> None:
    """But for a number that is rounded the other way."""
    model, inputs = network().float(), images(6, 3, 8, 8).float()
    whole = importance(model, [inputs], precision="bf16")
    assert distance(importance(model, inputs.split(batch), precision="bf16"), whole) < ROUNDING


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_what_is_float64_stays_float64(engine: Any, exact: dict[str, Tensor]) -> None:
    found = per_sample_statistic(network(), images(6, 3, 8, 8), engine=engine, precision="bf16")
    assert distance(found, exact) < 1e-12


def test_float32_is_exact_whatever_is_set(settings: Callable[[], list[str]]) -> None:
    """To the bit, under settings and an autocast that would round."""
    model, inputs = network().float(), images(6, 3, 8, 8).float()
    plain = per_sample_statistic(model, inputs)
    torch.set_float32_matmul_precision("medium")
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    with torch.autocast("cpu", torch.bfloat16):
        under = per_sample_statistic(model, inputs, precision="float32")
    assert all(torch.equal(under[name], plain[name]) for name in plain)
    half = per_sample_statistic(model, inputs, precision="bf16")
    torch.set_float32_matmul_precision("highest")
    assert distance(per_sample_statistic(model, inputs, precision="bf16"), half) == 0


@pytest.mark.parametrize("outside", ["highest", "high", "medium", "newer", "whole backend"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_settings_hold_inside_and_are_as_before_outside(
    precision: Any, outside: str, settings: Callable[[], list[str]]
) -> None:
    if outside == "newer":  # which the older settings cannot express, and refuse to be asked for
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        torch.backends.cudnn.conv.fp32_precision = "ieee"
    elif outside == "whole backend":
        torch.backends.mkldnn.fp32_precision = "bf16"
    else:
        torch.set_float32_matmul_precision(outside)
    before, inside = settings(), []
    model = nn.Linear(3, 2)
    model.register_forward_hook(lambda *_: inside.append(settings()))
    per_sample_statistic(model, torch.randn(2, 3), precision=precision)
    on_gpu = "ieee" if precision == "float32" else "tf32"
    assert inside
    assert all(seen == [on_gpu, on_gpu, "ieee", "ieee"] for seen in inside)
    assert settings() == before
    with pytest.raises(ZeroDivisionError), rounding(precision):
        raise ZeroDivisionError
    assert settings() == before
    if outside == "whole backend":  # it is inherited still
        torch.backends.mkldnn.fp32_precision = "none"
        assert settings()[3] == "none"


LAYERS = [
    (nn.Linear(33, 40), (33,), 1e-6),
    (nn.Linear(33, 40), (35, 33), ROUNDING),
    (nn.Conv2d(3, 40, 3, padding=1), (3, 6, 7), ROUNDING),
    (nn.Conv2d(6, 6, 5, groups=6), (6, 7, 7), 1e-6),
    (nn.Conv2d(6, 4, 3, groups=2, padding=1, padding_mode="reflect"), (6, 6, 6), 1e-6),
    (nn.BatchNorm2d(4), (4, 5, 5), 1e-6),
    (nn.GroupNorm(2, 4), (4, 5, 5), 1e-6),
    (nn.LayerNorm(9), (7, 9), 1e-6),
]


@pytest.mark.parametrize("few", [0, 10**9], ids=["one by one", "together"])
@pytest.mark.parametrize("f", [torch.abs_, torch.square_])
@pytest.mark.parametrize(("layer", "shape", "bound"), LAYERS, ids=str)
def test_sums_of_bfloat16_factors_are_those_of_float32(
    layer: nn.Module, shape: tuple[int, ...], bound: float, f: Any, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for oneDNN's products over positions, each of which is rounded once more at its end."""
    monkeypatch.setattr(products, "FEW", few)
    monkeypatch.setattr(products, "HALF_PAYS", 1)
    perturb(layer).float().eval()
    x = torch.randn(50, *shape).bfloat16()
    g = torch.randn_like(layer(x.float())).detach().bfloat16()
    sums = []
    for factors in ((x, g), (x.float(), g.float())):
        total = {name: torch.zeros_like(p.detach()) for name, p in layer.named_parameters()}
        with torch.no_grad():
            rules.RULES[rules.type_name(layer)](layer, *factors, f, total)
        sums.append(total)
    for name in sums[0]:
        allowed = (1 if f is torch.abs_ else 2) * bound * sums[1][name]
        difference = (sums[0][name] - sums[1][name]).abs()
        assert (difference <= allowed + 1e-6 * sums[1][name].max()).all(), name


def test_tf32_is_float32_on_the_cpu() -> None:
    model, inputs = network().float(), images(6, 3, 8, 8).float()
    assert distance(per_sample_statistic(model, inputs, precision="tf32"), per_sample_statistic(model, inputs)) == 0


def test_a_batch_as_a_whole() -> None:
    model, inputs = network().float(), images(6, 3, 8, 8).float()
    whole, half = (importance(model, [inputs], per="batch", precision=p) for p in ("float32", "bf16"))
    assert 1e-3 < distance(half, whole) < 0.1


@pytest.mark.parametrize("method", [MAS, MASAlpha, EWC, IMM])
def test_there_is_no_other_precision(method: Any) -> None:
    with pytest.raises(UserError, match="measured in float32, tf32 or bf16, not in 'fp16'"):
        method(precision="fp16")
    with pytest.raises(UserError, match="measured in float32, tf32 or bf16, not in 'fp16'"):
        per_sample_statistic(nn.Linear(3, 2), torch.randn(2, 3), precision="fp16")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        (partial(MAS, lam=0), "penalty.omega"),
        (partial(MAS, lam=0, scope="local"), "penalty.omega"),
        (partial(MASAlpha, lam=0), "penalty.omega"),
        (partial(EWC, lam=0), "penalty.omega"),
        (partial(EWC, lam=0, fisher="loss"), "penalty.omega"),
        (partial(IMM, lam=0), "weight"),
    ],
    ids=str,
)
def test_methods_measure_in_the_precision_they_are_given(method: Any, kept: str, tmp_path: Path) -> None:
    """Nothing but importance is rounded, so a sequence without penalty ends with the same weights."""
    tasks = toy_tasks(2 if method.func is MASAlpha else 1)  # IMM would merge, MASAlpha takes two
    ends, found = [], []
    for precision in ("float32", "bf16"):
        made = method(precision=precision)
        learner, _ = run_toy(tmp_path / precision, made, tasks=tasks)
        ends.append(weights(learner))
        found.append(torch.cat([value.flatten() for value in attrgetter(kept)(made).values()]))
    assert all(torch.equal(value, ends[1][name]) for name, value in ends[0].items())
    assert 1e-5 < (found[1] - found[0]).abs().sum() / found[0].sum() < 0.05


def test_the_model_is_as_before() -> None:
    model = network().float()
    before = copy.deepcopy(model.state_dict())
    per_sample_statistic(model, images(6, 3, 8, 8).float(), precision="bf16")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert not torch.is_autocast_enabled("cpu")
