"""Parameters that meet the samples by broadcasting, against one sample at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from test_rules import assert_equal
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.mas import every_output, per_sample_statistic, squared_norm
from tripletcl.mas.statistics import Statistics

TOKENS, WIDTH = 5, 4
Meet = Callable[["Beside", Tensor], Tensor]


class Beside(nn.Module):
    """A layer on tokens `[B, 5, 4]`, and a parameter that meets them."""

    def __init__(self, shape: tuple[int, ...], meet: Meet) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.value, self.meet = nn.Parameter(torch.randn(shape)), meet
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)
        self.register_buffer("index", torch.tensor([2, 0, 1, 2, 1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.meet(self, torch.tanh(self.first(x)))).tanh()


def windows(model: Beside, x: Tensor) -> Tensor:
    """Two windows a sample, whose attention has a table of biases, and a mask of its own for each window."""
    parts = x[:, :4].reshape(-1, 2, WIDTH)  # [2 B, 2, 4]
    mask = torch.tensor([0.0, 1.0]).repeat(len(x)).view(-1, 1, 1)
    bias = model.value[torch.tensor([[0, 1], [2, 0]])].squeeze(2).unsqueeze(0) + mask
    return F.scaled_dot_product_attention(parts, parts, parts, attn_mask=bias).reshape(len(x), 4, WIDTH)


def changed_in_place(model: Beside, x: Tensor) -> Tensor:
    x = 2 * x
    x += model.value
    return x


BROADCAST: dict[str, tuple[tuple[int, ...], Meet]] = {
    "position": ((1, TOKENS, WIDTH), lambda m, x: x + m.value),
    "position without a batch": ((TOKENS, WIDTH), lambda m, x: m.value + x),
    "token": ((1, 1, WIDTH), lambda m, x: torch.cat([m.value.expand(len(x), -1, -1), x], dim=1)),
    "scale of channels": (
        (TOKENS,),
        lambda m, x: x.unsqueeze(3).mul(m.value.reshape(1, -1, 1, 1)).squeeze(3),
    ),
    "scalar": ((), lambda m, x: x * m.value.exp()),
    "table by an index": ((3, WIDTH), lambda m, x: x - torch.sigmoid(m.value)[m.index].unsqueeze(0)),
    "biases of windows": ((3, 1), windows),
    "used twice": ((WIDTH,), lambda m, x: (x + m.value) * m.value),
    "changed in place": ((WIDTH,), changed_in_place),
}
OTHERWISE: dict[str, tuple[tuple[int, ...], Meet]] = {
    "product of matrices": ((WIDTH, WIDTH), lambda m, x: x @ m.value),
    "through a layer": ((1, 1, WIDTH), lambda m, x: x + m.first(m.value)),
    "both": ((WIDTH,), lambda m, x: x + m.value + x @ torch.diag(m.value)),
    "into the value": ((1, TOKENS, WIDTH), lambda m, x: m.value.repeat(len(x), 1, 1).add_(x)),
    "a maximum": ((WIDTH,), lambda m, x: torch.maximum(x, m.value)),
}


@pytest.mark.parametrize("scalar", [squared_norm, every_output])
@pytest.mark.parametrize("count", [1, 4, TOKENS])
@pytest.mark.parametrize("case", BROADCAST | OTHERWISE)
def test_importance_is_that_of_one_sample_at_a_time(case: str, count: int, scalar: Callable[[Tensor], Tensor]) -> None:
    """Also where the batch is as large as another axis; what meets the samples otherwise is left to the modules."""
    model = Beside(*(BROADCAST | OTHERWISE)[case]).double()
    x = torch.randn(count, TOKENS, WIDTH, dtype=torch.float64)
    statistics = Statistics(model, scalar=scalar)
    for batch in (x, x.flip(0)):
        statistics.add(batch)
    expected = per_sample_statistic(model, x, scalar=scalar, engine="loop")
    assert_equal(statistics.sums, {name: 2 * value for name, value in expected.items()}, 1e-9)
    assert statistics.hooks is not None
    assert statistics.hooks.broadcast == ({"value"} if case in BROADCAST else set())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
