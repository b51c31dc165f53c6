"""Losses equal their slow twins; an absent unit costs nothing, moves nothing and breaks nothing."""

from __future__ import annotations

import pytest
import reference_embedding as slow
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tripletcl.embedding import contrastive, wildcard_cosine, wildcard_l2, wildcard_l2_root

TWINS = {
    wildcard_l2: slow.squared_distance,
    wildcard_l2_root: slow.distance,
    wildcard_cosine: slow.cosine_distance,
}
U, D = 3, 4


def draw(seed: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outputs, targets = torch.randn(2, batch, U, D, generator=generator)
    present = torch.rand(batch, U, generator=generator) < 0.6
    return outputs.requires_grad_(), targets, present


@pytest.mark.parametrize("loss", TWINS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 5))
def test_wildcard_losses_equal_one_distance_at_a_time(loss, seed: int, batch: int) -> None:
    outputs, targets, present = draw(seed, batch)
    value = loss(outputs, targets, present)
    assert value.shape == ()
    assert value.item() == pytest.approx(slow.wildcard(outputs, targets, present, TWINS[loss]), rel=1e-5, abs=1e-6)
    value.backward()
    assert not outputs.grad[~present].any()
    assert outputs.grad[present].any(dim=-1).all()


@pytest.mark.parametrize("loss", TWINS)
def test_absent_units_may_have_any_values(loss) -> None:
    outputs, targets, present = draw(0, 4)
    assert 0 < present.sum() < present.numel()
    expected = loss(outputs, targets, present)
    wild = torch.where(present[..., None], outputs, torch.nan).detach().requires_grad_()
    value = loss(wild, torch.where(present[..., None], targets, torch.inf), present)
    assert torch.equal(value, expected)
    value.backward()
    assert wild.grad.isfinite().all()
    assert not wild.grad[~present].any()


def test_the_root_has_zero_gradient_at_zero_distance() -> None:
    outputs, targets, present = draw(1, 3)
    present[:] = True
    same = torch.where(torch.arange(3)[:, None, None] == 0, targets, outputs).detach().requires_grad_()
    wildcard_l2_root(same, targets, present).backward()
    assert not same.grad[0].any()
    assert torch.allclose(same.grad[1:].norm(dim=-1), torch.full((2, 3), 1 / 3))


@pytest.mark.parametrize("loss", TWINS)
def test_shapes_that_would_broadcast_are_refused(loss) -> None:
    outputs, targets, present = draw(0, 3)
    for bad in (present[:, :1], present[:, 0], present.T[:, :, None]):
        with pytest.raises(ValueError, match="present"):
            loss(outputs, targets, bad)
    with pytest.raises(ValueError, match="targets"):
        loss(outputs, targets[:1], present)


def choices(seed: int, batch: int, sizes: tuple[int, ...]) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
    """Outputs, target ids (absent where there is no vocabulary), vocabularies, and exclusions that hit targets too."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(batch, U, D, generator=generator)
    ids = torch.stack([torch.randint(-1, max(size, 1), (batch,), generator=generator) for size in sizes], dim=1)
    ids[:, torch.tensor(sizes) == 0] = -1
    vectors = [torch.randn(size, D, generator=generator) for size in sizes]
    exclude = [torch.rand(batch, size, generator=generator) < 0.4 for size in sizes]
    return outputs.requires_grad_(), ids, vectors, exclude


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    batch=st.integers(1, 5),
    sizes=st.tuples(*[st.integers(0, 5)] * 3),
    excluding=st.booleans(),
    temperature=st.sampled_from([0.05, 1.0]),
)
def test_contrastive_equals_one_softmax_at_a_time(
    seed: int, batch: int, sizes: tuple[int, ...], excluding: bool, temperature: float
) -> None:
    outputs, ids, vectors, exclude = choices(seed, batch, sizes)
    excluded = exclude if excluding else None
    value = contrastive(outputs, ids, vectors, temperature, excluded)
    assert value.shape == ()
    assert value.item() == pytest.approx(
        slow.contrastive(outputs, ids, vectors, temperature, excluded), rel=1e-4, abs=1e-5
    )
    value.backward()
    assert outputs.grad.isfinite().all()
    assert not outputs.grad[ids < 0].any()


def test_contrastive_of_absent_units_only_is_exactly_zero() -> None:
    for sizes in ((4, 4, 4), (0, 0, 0), (3, 0, 1)):
        outputs, ids, vectors, exclude = choices(0, 4, sizes)
        value = contrastive(outputs, torch.full_like(ids, -1), vectors, 0.05, [torch.ones_like(e) for e in exclude])
        assert value.item() == 0.0
        with pytest.warns(UserWarning, match="Anomaly"), torch.autograd.detect_anomaly():  # no NaN on the way either
            value.backward()
        assert torch.equal(outputs.grad, torch.zeros_like(outputs))


def test_the_target_is_never_excluded_and_other_true_vectors_are_not_negatives() -> None:
    outputs = torch.zeros(1, 3, D)
    outputs[0, 0, 0] = 1.0
    outputs.requires_grad_()
    ids = torch.tensor([[0, -1, -1]])
    empty = torch.zeros(0, D)
    vectors = [torch.eye(D)[:3], empty, empty]
    nothing = torch.zeros(1, 0, dtype=torch.bool)
    everything = [torch.ones(1, 3, dtype=torch.bool), nothing, nothing]
    single = contrastive(outputs, ids, vectors, 0.5, everything)
    assert single.item() == 0.0  # a softmax over the target only
    one_other = contrastive(outputs, ids, vectors, 0.5, [torch.tensor([[True, True, False]]), nothing, nothing])
    assert one_other.item() == pytest.approx(torch.log1p(torch.exp(torch.tensor(-2.0))).item())
    assert one_other < contrastive(outputs, ids, vectors, 0.5)


def test_exclusions_are_not_changed_and_the_temperature_can_be_trained() -> None:
    outputs, ids, vectors, exclude = choices(3, 5, (4, 3, 2))
    before = [e.clone() for e in exclude]
    log_temperature = torch.tensor(-2.0, requires_grad=True)
    contrastive(outputs, ids, vectors, log_temperature.exp(), exclude).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, exclude, strict=True))
    assert log_temperature.grad.abs() > 0


def test_contrastive_ignores_lengths() -> None:
    outputs, ids, vectors, _ = choices(5, 4, (4, 3, 2))
    assert torch.allclose(
        contrastive(outputs, ids, vectors, 0.1), contrastive(3 * outputs, ids, [7 * v for v in vectors], 0.1)
    )


def test_contrastive_shapes_are_checked() -> None:
    outputs, ids, vectors, exclude = choices(0, 4, (4, 3, 2))
    ids[:] = 0
    with pytest.raises(ValueError, match="target_ids of shape"):
        contrastive(outputs, ids[:, :1], vectors, 0.1)
    with pytest.raises(ValueError, match=r"vectors\[1\]"):
        contrastive(outputs, ids, [vectors[0], vectors[1][:, :2], vectors[2]], 0.1)
    with pytest.raises(ValueError, match=r"exclude\[0\]"):
        contrastive(outputs, ids, vectors, 0.1, [exclude[1], *exclude[1:]])
    with pytest.raises(ValueError, match=r"vectors\[2\] is empty"):
        contrastive(outputs, ids, [*vectors[:2], torch.zeros(0, D)], 0.1)
