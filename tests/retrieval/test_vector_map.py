"""The map from old vectors to new ones: the drift that it finds, the vectors that stay, and its error."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tripletcl.errors import UserError
from tripletcl.retrieval import vector_map
from tripletcl.retrieval.vector_map import RowMap, fit_kernel, learn_map, map_error

WIDTH = 6


def sample(count: int, width: int = WIDTH, seed: int = 0) -> Tensor:
    """Photos `[N, 3, D]`, each unit of length 1."""
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(count, 3, width, generator=generator, dtype=torch.float64), dim=-1)


def bend(photos: Tensor) -> Tensor:
    """A smooth drift that no matrix describes."""
    return functional.normalize(photos + photos.square().roll(1, dims=-1), dim=-1)


def exchange(photos: Tensor) -> Tensor:
    """Subject and object exchanged: each moves to where the other was."""
    return photos.flip(1)


def cluster(count: int, seed: int, spread: float = 0.01) -> tuple[Tensor, Tensor]:
    """Photos of 40 kinds in few dimensions and where they drifted to, each kind its own way."""
    kinds, targets = sample(40, width=3, seed=5), sample(40, width=3, seed=6)
    kind = torch.randint(40, (count,), generator=torch.Generator().manual_seed(seed))
    return functional.normalize(kinds[kind] + spread * sample(count, width=3, seed=seed), dim=-1), targets[kind]


@pytest.mark.parametrize("drift", [bend, exchange])
@pytest.mark.parametrize("seed", range(3))
def test_a_smooth_drift_is_found(drift: Callable[[Tensor], Tensor], seed: int) -> None:
    old, unseen = sample(400, width=3, seed=seed), sample(50, width=3, seed=9)
    learned = learn_map(old, drift(old), seed)
    assert learned.held_out_error["kernel"] < 0.1 * learned.held_out_error["identity"]
    assert map_error(learned.rows, unseen, drift(unseen)) < 0.1 * map_error(lambda rows: rows, unseen, drift(unseen))


def test_a_drift_that_differs_from_place_to_place_is_found() -> None:
    learned = learn_map(*cluster(400, seed=1))
    assert learned.held_out_error["kernel"] < 0.05 < 0.3 < learned.held_out_error["identity"]
    assert map_error(learned.rows, *cluster(50, seed=2)) < 0.05


def test_nothing_is_done_where_nothing_moved() -> None:
    old = sample(50)
    learned = learn_map(old, old.clone())
    assert torch.allclose(learned(old), old)
    assert learned.held_out_error == pytest.approx({"kernel": 0, "identity": 0})


def test_units_have_length_one_and_their_type() -> None:
    mapped = learn_map(sample(40).float(), sample(40, seed=1).float())(sample(40, seed=2).float())
    assert mapped.dtype == torch.float32
    assert torch.allclose(mapped.norm(dim=-1), torch.ones(40, 3), atol=1e-6)


def test_a_vector_that_resembles_no_photo_stays() -> None:
    old = sample(100)
    old[..., WIDTH // 2 :] = 0  # nothing is known of the other half
    strange = torch.zeros(1, 3, WIDTH, dtype=torch.float64)
    strange[..., -1] = 1
    assert map_error(learn_map(old, exchange(bend(old))).rows, strange, strange) < 0.2


# --- its error -------------------------------------------------------------------------------------------------------


def test_the_error_is_measured_on_photos_that_the_map_was_not_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = sample(50), sample(50, seed=1)
    calls: list[tuple[Tensor, Tensor]] = []

    def spy(before: Tensor, after: Tensor) -> RowMap:
        calls.append((before, after))
        return lambda rows: -rows

    monkeypatch.setattr(vector_map, "fit_kernel", spy)
    learned = learn_map(old, new, seed=3)
    (before, after), (all_before, all_after) = calls  # to measure its error; to be used
    assert len(before) == 40 == learned.photos - learned.held_out
    place = [int((old.flatten(1) == row).all(dim=1).nonzero()[0, 0]) for row in before]
    assert torch.equal(after, new.flatten(1)[place])
    held_out = sorted(set(range(50)) - set(place))
    assert learned.held_out_error["identity"] == pytest.approx(by_loops(old[held_out], new[held_out]))
    assert learned.held_out_error["kernel"] == pytest.approx(by_loops(-old[held_out], new[held_out]))
    assert torch.equal(all_before, old.flatten(1))
    assert torch.equal(all_after, new.flatten(1))


def by_loops(left: Tensor, right: Tensor) -> float:
    """The mean of 1 - cosine over photos and units."""
    pairs = [(a, b) for photo, other in zip(left, right, strict=True) for a, b in zip(photo, other, strict=True)]
    return float(np.mean([1 - float(a @ b) / float(a.norm() * b.norm()) for a, b in pairs]))


def test_the_seed_selects_what_is_held_out() -> None:
    old, new = sample(50), sample(50, seed=1)
    errors = [learn_map(old, new, seed).held_out_error["identity"] for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


def test_too_few_photos_and_other_widths_are_refused() -> None:
    with pytest.raises(UserError, match="19 photos are too few to learn a map of vectors from; it takes 20"):
        learn_map(sample(19), sample(19))
    with pytest.raises(UserError, match=r"\[3, 6\] and the new one \[3, 4\]"):
        learn_map(sample(30), sample(30, width=4))


# --- slow twins ------------------------------------------------------------------------------------------------------


def test_the_ridge_error_equals_leaving_each_photo_out(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = sample(12).flatten(1), sample(12, seed=1).flatten(1)
    similar = old @ old.T
    slow = {}
    for strength in (1e-2, 0.3):
        errors = []
        for left_out in range(12):
            others = [i for i in range(12) if i != left_out]
            penalty = strength * torch.eye(old.shape[1], dtype=torch.float64)
            weight = torch.linalg.solve(old[others].T @ old[others] + penalty, old[others].T @ new[others])
            errors.append((old[left_out] @ weight - new[left_out]).square().mean())
        slow[strength] = float(torch.stack(errors).mean())
        monkeypatch.setattr(vector_map, "STRENGTHS", (strength,))
        assert vector_map._fit_ridge(similar, new)[1] == pytest.approx(slow[strength])
    monkeypatch.setattr(vector_map, "STRENGTHS", (1e-2, 0.3))
    assert vector_map._fit_ridge(similar, new)[1] == pytest.approx(min(slow.values()))


def test_the_kernel_solves_its_equation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_map, "WIDTHS", (1.1,))
    monkeypatch.setattr(vector_map, "STRENGTHS", (0.05,))
    old, new, photos = (sample(n, seed=s).flatten(1) for n, s in ((15, 0), (15, 1), (4, 2)))

    def similarity(left: Tensor, right: Tensor) -> Tensor:
        values = [float(torch.exp(-(a - b).square().sum() / (2 * 1.1**2))) for a, b in itertools.product(left, right)]
        return torch.tensor(values, dtype=torch.float64).reshape(len(left), len(right))

    solved = torch.linalg.solve(similarity(old, old) + 0.05 * torch.eye(15, dtype=torch.float64), new - old)
    assert torch.allclose(fit_kernel(old, new)(photos), photos + similarity(photos, old) @ solved)


def test_a_map_takes_any_number_of_photos_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = sample(40), sample(40, seed=1)
    learned = learn_map(old, new)
    whole = learned(sample(30, seed=2))
    monkeypatch.setattr(vector_map, "BATCH_ROWS", 7)
    assert torch.allclose(learned(sample(30, seed=2)), whole)
    assert learned(sample(0)).shape == (0, 3, WIDTH)
