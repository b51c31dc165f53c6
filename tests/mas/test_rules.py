"""Every layer type's rule against autograd on one sample at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm.layers
import torch
from reference_gradients import summed_statistic
from torch import Tensor, nn

from tripletcl.mas import products, rules
from tripletcl.mas.statistics import Statistics, per_sample_statistic

Shape = tuple[int, ...]

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")

CONV_1D = [
    (nn.Conv1d(3, 4, 3), (3, 9)),
    (nn.Conv1d(3, 4, 1), (3, 9)),
    (nn.Conv1d(4, 6, 4, stride=2, padding=1, groups=2, padding_mode="circular"), (4, 11)),
    (nn.Conv1d(4, 4, 2, padding="same", groups=4), (4, 8)),
]
CONV_2D = [
    (nn.Conv2d(3, 5, 3), (3, 7, 7)),
    (nn.Conv2d(3, 5, 3, padding=1, bias=False), (3, 8, 6)),
    (nn.Conv2d(3, 5, (3, 2), stride=(2, 3), padding=(0, 1), dilation=(1, 2)), (3, 9, 10)),
    (nn.Conv2d(3, 5, 5, stride=2, padding=2), (3, 10, 11)),  # the last column is not used
    (nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 5, 6)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4), (4, 6, 6)),  # depthwise
    (nn.Conv2d(4, 8, 5, stride=2, padding=2, groups=4, bias=False), (4, 9, 7)),  # depthwise with a multiplier
    (nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), (4, 7, 7)),
    (nn.Conv2d(3, 5, 1), (3, 4, 5)),  # pointwise
    (nn.Conv2d(3, 5, 1), (3, 1, 1)),
    (nn.Conv2d(4, 6, 1, groups=2), (4, 4, 4)),
    (nn.Conv2d(3, 5, 1, stride=2), (3, 5, 6)),
    (nn.Conv2d(3, 5, 1, padding=1), (3, 4, 4)),
    (nn.Conv2d(3, 5, 3, padding="valid"), (3, 6, 6)),
    (nn.Conv2d(3, 5, (4, 3), padding="same"), (3, 6, 7)),  # an even kernel pads one more at the end
    (nn.Conv2d(3, 5, 1, padding="same"), (3, 6, 7)),
    (nn.Conv2d(3, 5, 2, padding="same", dilation=3), (3, 7, 7)),
    (nn.Conv2d(3, 5, 3, padding=(2, 1), stride=2, padding_mode="reflect"), (3, 6, 7)),
    (nn.Conv2d(3, 5, 3, padding="same", padding_mode="replicate"), (3, 6, 7)),
    (nn.Conv2d(4, 4, 3, padding=1, groups=4, padding_mode="circular"), (4, 6, 7)),
    (nn.Conv2d(3, 5, 1, padding=1, padding_mode="reflect"), (3, 4, 4)),
    (nn.Conv3d(2, 3, 2, stride=(1, 2, 1), padding=1), (2, 4, 5, 3)),
]
CONV_SAME = [
    (timm.layers.Conv2dSame(3, 5, 3, stride=2, bias=False), (3, 7, 8)),
    (timm.layers.Conv2dSame(4, 4, 5, stride=2, groups=4), (4, 9, 6)),
    (timm.layers.Conv2dSame(3, 5, 2, dilation=2), (3, 6, 7)),
    (timm.layers.Conv2dSame(3, 5, 1), (3, 6, 7)),
]
LINEAR = [
    (nn.Linear(4, 3), (4,)),
    (nn.Linear(4, 3, bias=False), (4,)),
    (nn.Linear(4, 3), (6, 4)),
    (nn.Linear(4, 3), (2, 5, 4)),
    (nn.Linear(4, 1), (1, 4)),
]
NORM = [
    (nn.BatchNorm1d(5), (5,)),
    (nn.BatchNorm1d(5), (5, 7)),
    (nn.BatchNorm2d(5), (5, 3, 4)),
    (nn.BatchNorm3d(5), (5, 3, 2, 2)),
    (timm.layers.BatchNormAct2d(5), (5, 3, 4)),  # ReLU in place
    (timm.layers.BatchNormAct2d(5, act_layer=nn.ReLU6, inplace=False), (5, 3, 4)),
    (timm.layers.BatchNormAct2d(5, act_layer=nn.SiLU), (5, 3, 4)),
    (timm.layers.BatchNormAct2d(5, apply_act=False), (5, 3, 4)),
    (nn.GroupNorm(2, 6), (6, 3, 4)),
    (nn.GroupNorm(2, 6), (6,)),
    (timm.layers.GroupNorm(6, 3), (6, 3, 4)),
    (timm.layers.GroupNorm1(6), (6, 3, 4)),
    (timm.layers.GroupNormAct(6, 3), (6, 3, 4)),
    (nn.LayerNorm(5), (5,)),
    (nn.LayerNorm(5), (2, 3, 5)),
    (nn.LayerNorm((3, 5)), (2, 3, 5)),
    (nn.LayerNorm((3, 5), bias=False), (3, 5)),
    (timm.layers.LayerNorm(5), (4, 5)),
    (timm.layers.LayerNorm2d(5), (5, 3, 4)),
]
LAYERS = [
    pytest.param(layer, shape, id=f"{layer} {shape}") for layer, shape in CONV_1D + CONV_2D + CONV_SAME + LINEAR + NORM
]


def perturb(model: nn.Module) -> nn.Module:
    """Weights, biases and running statistics that are not at their special initial values, in float64."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.double().state_dict().items():
        noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
        if tensor.is_floating_point():
            tensor.copy_(noise + 0.5 if "var" in name else noise - 0.5)
    return model.requires_grad_(True)


def images(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_equal(ours: dict[str, Tensor], reference: dict[str, Tensor], tolerance: float) -> None:
    """Equal to `tolerance` times the largest entry of each tensor, and neither side trivially zero."""
    assert ours.keys() == reference.keys()
    for name, expected in reference.items():
        assert expected.max() > 0, name
        assert (ours[name] - expected).abs().max() <= tolerance * expected.max(), name


def weighted(output: Tensor) -> Tensor:
    """A scalar that treats every output differently, so that no symmetry hides a mistake."""
    weights = torch.linspace(-1, 2, output[0].numel(), dtype=output.dtype)
    return ((output.flatten(1) ** 2 + output.flatten(1)) * weights).sum(1)


@pytest.mark.parametrize("f", [abs, torch.square])
@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_rule_equals_one_sample_at_a_time(layer: nn.Module, shape: Shape, f: Callable[[Tensor], Tensor]) -> None:
    perturb(layer)
    inputs = images(3, *shape)
    statistics = Statistics(layer, scalar=weighted, statistic=f)
    statistics.add(inputs)
    assert statistics.hooks is not None
    assert statistics.hooks.excluded == frozenset(), "the rule gives another gradient than autograd"
    assert_equal(statistics.sums, summed_statistic(layer, inputs, f, weighted), 1e-12)


@pytest.mark.parametrize(("layer", "shape"), LAYERS)
def test_rule_in_float32(layer: nn.Module, shape: Shape) -> None:
    reference = summed_statistic(perturb(layer), images(3, *shape), abs, weighted)
    ours = per_sample_statistic(layer.float(), images(3, *shape).float(), scalar=weighted)
    assert all(value.dtype == torch.float32 for value in ours.values())
    assert_equal(ours, reference, 1e-5)


@pytest.mark.parametrize("bytes_at_a_time", [1, 700, 5000])
@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(3, 5, 1), (3, 4, 5)),
        (nn.Conv2d(4, 4, 3, groups=4), (4, 6, 6)),
        (nn.Linear(4, 3), (6, 4)),
        (nn.BatchNorm2d(5), (5, 3, 4)),
        (nn.LayerNorm(5), (4, 5)),
    ],
    ids=str,
)
def test_chunk_size_does_not_matter(
    layer: nn.Module, shape: Shape, bytes_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    perturb(layer)
    inputs = images(7, *shape)
    whole = per_sample_statistic(layer, inputs, scalar=weighted)
    monkeypatch.setattr(products, "TILE_BYTES", bytes_at_a_time)
    assert_equal(per_sample_statistic(layer, inputs, scalar=weighted), whole, 1e-12)


def test_every_listed_type_is_tested() -> None:
    layers = [layer for layer, _ in CONV_1D + CONV_2D + CONV_SAME + LINEAR + NORM]
    assert {rules.type_name(layer) for layer in layers} == set(rules.RULES) - {rules.type_name(nn.Embedding(1, 1))}


@pytest.mark.parametrize("f", [abs, torch.square])
@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_rule_of_an_embedding(f: Callable[[Tensor], Tensor], padding: int | None, shape: Shape) -> None:
    """The uses of one id within a sample are added up before the statistic."""
    layer = nn.Embedding(5, 3, padding_idx=padding).double()
    ids = torch.randint(0, 4, (3, *shape), generator=torch.Generator().manual_seed(0))
    statistics = Statistics(layer, scalar=weighted, statistic=f)
    statistics.add(ids)
    assert statistics.hooks is not None
    assert statistics.hooks.excluded == frozenset()
    expected = summed_statistic(layer, ids, f, weighted)
    assert_equal(statistics.sums, expected, 1e-12)
    assert (expected["weight"].sum(1) > 0).tolist() == [True, True, padding is None, True, False]


def test_channels_last_input() -> None:
    model = perturb(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 1)))
    inputs = images(3, 3, 6, 6).to(memory_format=torch.channels_last)
    assert_equal(per_sample_statistic(model, inputs), summed_statistic(model, inputs, abs), 1e-12)


def test_memory_is_bounded() -> None:
    """Per-sample gradients of 64 samples would take 64 MiB here; the peak of one tensor stays at one chunk."""
    layer = nn.Linear(512, 512)
    held = []

    def measuring(x: Tensor) -> Tensor:
        held.append(x.numel() * x.element_size())
        return x.abs()

    inputs = torch.randn(64, 4, 512)
    rules.linear(layer, inputs, inputs, measuring, {"weight": torch.zeros(512, 512)})
    assert 0 < max(held) <= products.TILE_BYTES
