"""Maps from old vectors to new ones: each finds the drift it is made for, and the choice is made on what none saw."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tripletcl.errors import UserError
from tripletcl.retrieval import vector_maps
from tripletcl.retrieval.vector_maps import MAPS, VectorMap, apply_map, kernel, learn_map, linear, map_error, sdc

WIDTH = 6


def draw(count: int, width: int = WIDTH, seed: int = 0) -> Tensor:
    """Photos `[N, 3, D]`, each unit of length 1."""
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, 3, width, generator=generator, dtype=torch.float64), dim=-1)


def rotation(width: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q


def turned(photos: Tensor) -> Tensor:
    """Each unit rotated by itself, and then subject and object exchanged: a rotation of the whole row."""
    units = [photos[:, unit] @ rotation(WIDTH, seed=unit) for unit in range(3)]
    return torch.stack(units[::-1], dim=1)


def one_from_all(photos: Tensor) -> Tensor:
    """Every unit becomes the subject's: linear, and no rotation."""
    return photos[:, :1].expand_as(photos).contiguous()


def clusters(count: int, seed: int, spread: float = 0.01) -> tuple[Tensor, Tensor]:
    """Photos of 40 kinds in few dimensions, each kind drifting its own way, and where they drifted to."""
    kinds, targets = draw(40, width=3, seed=5), draw(40, width=3, seed=6)
    kind = torch.randint(40, (count,), generator=torch.Generator().manual_seed(seed))
    return functional.normalize(kinds[kind] + spread * draw(count, width=3, seed=seed), dim=-1), targets[kind]


@pytest.mark.parametrize("seed", range(3))
def test_a_rotation_is_found_exactly_by_the_orthogonal_map(seed: int) -> None:
    old, unseen = draw(60, seed=seed), draw(50, seed=9)
    learned = learn_map(old, turned(old), seed)
    assert learned.name == "orthogonal"
    assert learned.held_out_error["orthogonal"] < 1e-6
    assert learned.held_out_error["identity"] > 0.5
    assert learned.held_out_error["orthogonal units"] > 0.1, "no unit can find what another saw"
    assert torch.allclose(learned(unseen), turned(unseen), atol=1e-5)


def test_a_rotation_of_each_unit_is_found_unit_by_unit() -> None:
    old = draw(40)
    new = torch.stack([old[:, unit] @ rotation(WIDTH, seed=unit) for unit in range(3)], dim=1)
    units = vector_maps.orthogonal_units(old.flatten(1), new.flatten(1))
    assert torch.allclose(apply_map(units, old), new, atol=1e-5)


def test_a_linear_drift_is_found_exactly_by_the_linear_map() -> None:
    old, unseen = draw(80), draw(50, seed=9)
    learned = learn_map(old, one_from_all(old))
    assert learned.name in ("linear", "residual")
    assert learned.held_out_error["linear"] < 1e-5
    assert min(learned.held_out_error[name] for name in ("identity", "orthogonal", "sdc")) > 0.1
    assert torch.allclose(learned(unseen), one_from_all(unseen), atol=1e-3)


def test_what_moves_differently_at_every_place_is_followed_by_sdc() -> None:
    old, new = clusters(400, seed=1)
    without_kernel = {name: fit for name, fit in MAPS.items() if name != "kernel"}
    learned = learn_map(old, new, maps=without_kernel)
    assert learned.name == "sdc"
    assert learned.held_out_error["sdc"] < 0.01
    assert min(learned.held_out_error[name] for name in ("identity", "orthogonal", "linear", "residual")) > 0.1
    unseen, there = clusters(50, seed=2)
    assert map_error(learned.rows, unseen, there) < 0.01


def test_a_smooth_drift_that_no_matrix_describes_is_followed_by_the_kernel() -> None:
    def bent(photos: Tensor) -> Tensor:
        return functional.normalize(photos + photos.square().roll(1, dims=-1), dim=-1)

    old = draw(400, width=3)
    learned = learn_map(old, bent(old))
    assert learned.name == "kernel"
    assert learned.held_out_error["kernel"] < 0.2 * learned.held_out_error["linear"]


def test_nothing_is_done_where_nothing_moved() -> None:
    old = draw(50)
    learned = learn_map(old, old.clone())
    assert learned.name == "identity"
    assert torch.allclose(learned(old), old)


def test_any_map_gives_units_of_length_one() -> None:
    old, new = draw(40).float(), draw(40, seed=1).float()
    for name, fit in MAPS.items():
        mapped = apply_map(fit(old.double().flatten(1), new.double().flatten(1)), old)
        assert mapped.dtype == torch.float32, name
        assert torch.allclose(mapped.norm(dim=-1), torch.ones(40, 3), atol=1e-6), name


def test_photos_that_say_nothing_leave_a_vector_where_it_is() -> None:
    old = draw(100)
    old[..., WIDTH // 2 :] = 0  # nothing is known of the other half
    new = turned(old)
    strange = torch.zeros(1, 3, WIDTH, dtype=torch.float64)
    strange[..., -1] = 1
    stays = {name: map_error(fit(old.flatten(1), new.flatten(1)), strange, strange) for name, fit in MAPS.items()}
    assert stays["residual"] < 1e-3
    assert stays["kernel"] < 0.2
    assert stays["linear"] > 0.5, "shrunk towards zero, it forgets what it was not shown"


# --- the choice ------------------------------------------------------------------------------------------------------


def test_the_choice_never_looks_at_the_photos_held_out_before_it_is_made() -> None:
    old, new = draw(50), draw(50, seed=1)
    shown: list[tuple[Tensor, Tensor]] = []

    def spy(before: Tensor, after: Tensor) -> VectorMap:
        shown.append((before, after))
        return lambda rows: rows

    learned = learn_map(old, new, seed=3, maps={"spy": spy, "other": linear})
    (before, after), (all_before, all_after) = shown  # to choose; then, chosen or not, the winner once more
    assert len(before) == 40 == learned.photos - learned.held_out
    place = [int((old.flatten(1) == row).all(dim=1).nonzero()[0, 0]) for row in before]
    assert torch.equal(after, new.flatten(1)[place])
    held_out = sorted(set(range(50)) - set(place))
    assert learned.held_out_error["spy"] == pytest.approx(by_loops(old[held_out], new[held_out]))
    assert torch.equal(all_before, old.flatten(1)), "once chosen, a map is learned from all"
    assert torch.equal(all_after, new.flatten(1))


def by_loops(left: Tensor, right: Tensor) -> float:
    """The mean of 1 - cosine over photos and units."""
    pairs = [(a, b) for photo, other in zip(left, right, strict=True) for a, b in zip(photo, other, strict=True)]
    return float(np.mean([1 - float(a @ b) / float(a.norm() * b.norm()) for a, b in pairs]))


def test_what_is_held_out_moves_no_map_but_only_errors() -> None:
    old, new = draw(50), draw(50, seed=1)
    seen: list[Tensor] = []

    def remember(before: Tensor, after: Tensor) -> VectorMap:
        seen.append(after)
        return lambda rows: rows

    first = learn_map(old, new, maps={"it": remember})
    held_out = ~(new.flatten(1)[:, None] == seen[0][None]).all(dim=2).any(dim=1)
    assert held_out.sum() == first.held_out == 10
    elsewhere = torch.where(held_out[:, None, None], -new, new)
    second = learn_map(old, elsewhere, maps={"it": remember})
    assert torch.equal(seen[0], seen[2])
    assert first.held_out_error != second.held_out_error


def test_the_simpler_of_equal_maps_is_taken_and_a_seed_decides_what_is_held_out() -> None:
    old, new = draw(50), draw(50, seed=1)

    def same(before: Tensor, after: Tensor) -> VectorMap:
        return lambda rows: rows

    assert learn_map(old, new, maps={"a": same, "b": same}).name == "a"
    errors = [learn_map(old, new, seed, {"a": same}).held_out_error["a"] for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


def test_too_few_photos_and_other_widths_are_refused() -> None:
    with pytest.raises(UserError, match="19 photos are too few to learn a map of vectors from; it takes 20"):
        learn_map(draw(19), draw(19))
    with pytest.raises(UserError, match=r"\[3, 6\] and the new one \[3, 4\]"):
        learn_map(draw(30), draw(30, width=4))


# --- slow twins ------------------------------------------------------------------------------------------------------


def test_the_ridge_s_error_is_that_of_leaving_each_photo_out(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = draw(12).flatten(1), draw(12, seed=1).flatten(1)
    similar = old @ old.T
    slow = {}
    for strength in (1e-2, 0.3):
        errors = []
        for left_out in range(12):
            others = [i for i in range(12) if i != left_out]
            penalty = strength * float(similar.diagonal().mean()) * torch.eye(old.shape[1], dtype=torch.float64)
            weight = torch.linalg.solve(old[others].T @ old[others] + penalty, old[others].T @ new[others])
            errors.append((old[left_out] @ weight - new[left_out]).square().mean())
        slow[strength] = float(torch.stack(errors).mean())
        monkeypatch.setattr(vector_maps, "STRENGTHS", (strength,))
        assert vector_maps._ridge(similar, new)[1] == pytest.approx(slow[strength])
    monkeypatch.setattr(vector_maps, "STRENGTHS", (1e-2, 0.3))
    assert vector_maps._ridge(similar, new)[1] == pytest.approx(min(slow.values()))


def test_sdc_moves_by_the_weighted_mean_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_maps, "SDC_WIDTHS", (0.7,))
    old, new, photos = (draw(n, seed=s).flatten(1) for n, s in ((15, 0), (15, 1), (4, 2)))
    moved = sdc(old, new)(photos)
    for photo, found in zip(photos, moved, strict=True):
        weights = [float(torch.exp(-(photo - near).square().sum() / (2 * 0.7**2))) for near in old]
        drift = sum(w * (b - a) for w, a, b in zip(weights, old, new, strict=True)) / sum(weights)
        assert torch.allclose(found, photo + drift)


def test_the_kernel_solves_its_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_maps, "WIDTHS", (1.1,))
    monkeypatch.setattr(vector_maps, "STRENGTHS", (0.05,))
    old, new, photos = (draw(n, seed=s).flatten(1) for n, s in ((15, 0), (15, 1), (4, 2)))

    def similarity(left: Tensor, right: Tensor) -> Tensor:
        values = [float(torch.exp(-(a - b).square().sum() / (2 * 1.1**2))) for a, b in itertools.product(left, right)]
        return torch.tensor(values, dtype=torch.float64).reshape(len(left), len(right))

    solved = torch.linalg.solve(similarity(old, old) + 0.05 * torch.eye(15, dtype=torch.float64), new - old)
    assert torch.allclose(kernel(old, new)(photos), photos + similarity(photos, old) @ solved)


def test_a_map_takes_any_number_of_photos_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = draw(40), draw(40, seed=1)
    learned = learn_map(old, new)
    whole = learned(draw(30, seed=2))
    monkeypatch.setattr(vector_maps, "ROWS_AT_A_TIME", 7)
    assert torch.allclose(learned(draw(30, seed=2)), whole)
    assert learned(draw(0)).shape == (0, 3, WIDTH)
