"""Several processes train as one does: equal up to the rounding of float64, and the same bits in all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from launching import Group
from together import PAIRED, cases, flat
from torch import Tensor, distributed

from tripletcl import group

pytestmark = pytest.mark.slow  # seven processes import torch

Results = dict[str, Any]

OTHERS = ("refused", "dropout")
"""Cases that differ from those of one process."""


ROUNDING = {torch.float64: 1e-10, torch.float32: 1e-6}
"""What the order of sums may change of a tensor, relative to its largest number."""


def difference(left: Any, right: Any) -> float:
    """The largest difference of two results, relative to each tensor's largest number and in units of ROUNDING."""
    ours, theirs = dict(flat(left)), dict(flat(right))
    assert ours.keys() == theirs.keys()
    largest = 0.0
    for name, value in ours.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            same = torch.equal(value, theirs[name]) if isinstance(value, Tensor) else value == theirs[name]
            assert same or (isinstance(value, float) and value == pytest.approx(theirs[name], rel=1e-9)), name
            continue
        assert (value.dtype, value.shape) == (theirs[name].dtype, theirs[name].shape), name
        if value.numel():
            scale = theirs[name].abs().max().item() or 1.0
            largest = max(largest, (value - theirs[name]).abs().max().item() / scale / ROUNDING[value.dtype])
    return largest


def bound(name: str) -> float:
    """The analytic sums are of products in float32: 1e-5."""
    return 1e5 if name.startswith("analytic") else 1


@pytest.mark.parametrize("name", [name for name in cases() if name not in OTHERS])
def test_three_processes_compute_what_one_does(alone: Results, three: Group, name: str) -> None:
    for result in three.results:
        assert difference(result[name], alone[name]) <= bound(name)
        assert difference(result[name], three.results[0][name]) == 0


def test_two_processes_compute_what_one_does(alone: Results, two: Group) -> None:
    first, second = two.results
    assert set(PAIRED) < first.keys() == second.keys()
    for name in first.keys() - {"run"}:
        assert difference(first[name], alone[name]) <= bound(name), name
        assert difference(second[name], first[name]) == 0, name


def test_the_cases_are_at_work(alone: Results) -> None:
    """Every method leaves other weights, in float64, than fine-tuning does, and than the others."""
    names = [name for name in cases() if name.split("-")[0] in ("finetune", "mas", "ewc", "si", "lwf", "imm", "ebll")]
    weights = {name: torch.cat([v.reshape(-1) for _, v in flat(alone[name]["model"])]) for name in names}
    for name in names:
        assert weights[name].dtype == torch.float64
        others = [other for other in names if other != name]
        assert all((weights[name] - weights[other]).abs().max() > 1e-8 for other in others), name


def test_a_loss_in_means_is_refused(alone: Results, three: Group) -> None:
    assert alone["refused"]["said"] == ""
    assert all("trained by one process only" in result["refused"]["said"] for result in three.results)


def test_processes_that_draw_other_dropout_masks_stay_together(three: Group) -> None:
    for result in three.results:
        assert difference(result["dropout"], three.results[0]["dropout"]) == 0


def test_any_number_of_processes_goes_on_with_a_run(two: Group, alone: Results, three: Group) -> None:
    """Two begin it, one goes on, three end it."""
    assert [result["run"] for result in (*two.results, alone)] == [{}] * 3
    for result in three.results:
        assert difference(result["run"]["model"], alone["combined"]["model"]) <= 1
        assert difference(result["run"]["method"], alone["combined"]["method"]) <= 1


def test_a_process_alone_is_its_own_group() -> None:
    with group.joined():
        assert (group.rank(), group.size(), group.share(5)) == (0, 1, slice(0, 5))
        numbers = torch.ones(3)
        group.add_up([numbers])
        assert numbers.tolist() == [1, 1, 1]
        assert (group.agreed("a"), group.gathered("a"), group.on_first(lambda: "a")) == ("a", ["a"], "a")
        with group.parts(), group.first(), group.own_random(1):
            assert group.total(7) == 7
            assert group.mean(torch.tensor([1.0, 2.0])) == 1.5
    assert not distributed.is_initialized()
