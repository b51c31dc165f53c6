"""Calibrated probabilities agree with a known truth, are monotone, and survive on disk."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from tripletcl.data.facts import Fact
from tripletcl.data.labels import SHOWN, UNKNOWN, PairLabels
from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import unit_blocks
from tripletcl.retrieval import fitting
from tripletcl.retrieval.calibration import Calibration, Isotonic, Logistic, pattern
from tripletcl.retrieval.fitting import (
    _fit_isotonic,
    _fit_logistic,
    _photo_pairs,
    _query_cosines,
    fact_scores,
    fit_calibration,
)

FACTS = [
    Fact(f"s{i % 3}", *[f"p{i % 4}", f"o{i % 5}"][: order - 1])
    for order in (1, 2, 3)
    for i in range({1: 3, 2: 6, 3: 20}[order])
]


def world(photos: int = 600, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Photos that show one fact of three units, and those it implies; vectors are its units' with noise."""
    rng = np.random.default_rng(seed)
    texts = {text: rng.standard_normal(16) for fact in FACTS for text in fact.units if text}
    facts = np.stack([[texts[text] if text else np.zeros(16) for text in fact.units] for fact in FACTS])
    whole = [number for number, fact in enumerate(FACTS) if fact.order == 3]
    shown_facts = rng.choice(whole, photos)
    images = facts[shown_facts] / 4 + rng.standard_normal((photos, 3, 16)) / 2
    relevant = np.array(
        [
            [all(u is None or u == v for u, v in zip(fact.units, FACTS[other].units, strict=True)) for fact in FACTS]
            for other in shown_facts
        ]
    )
    normalise = torch.nn.functional.normalize
    return normalise(torch.tensor(images).float(), dim=-1), normalise(torch.tensor(facts).float(), dim=-1), relevant


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    images, facts, relevant = world()
    return fit_calibration("model", FACTS, images, facts, csr_array(relevant))


def calibration_error(probabilities: np.ndarray, truth: np.ndarray, bins: int = 15) -> tuple[float, float]:
    """The expected calibration error, by bins of equal width (Naeini et al., AAAI 2015), and the Brier score."""
    p, y = probabilities.ravel(), truth.ravel().astype(float)
    places = np.minimum((p * bins).astype(int), bins - 1)
    error = np.abs(np.bincount(places, p - y, bins)).sum() / len(p)
    return float(error), float(((p - y) ** 2).mean())


def test_the_fits_recover_a_known_probability() -> None:
    """The truth is sampled with probability sigmoid(score), and both fits return that probability."""
    rng = np.random.default_rng(0)
    scores = rng.normal(-1, 2, 40_000)
    p = 1 / (1 + np.exp(-scores))
    truth = rng.random(len(p)) < p
    curve = _fit_logistic(scores, truth)
    assert (curve.slope, curve.offset) == (pytest.approx(1, abs=0.05), pytest.approx(0, abs=0.05))
    assert np.abs(_fit_isotonic(scores, truth).probability(scores) - p).mean() < 0.02
    assert calibration_error(p, truth)[0] < 0.01
    assert calibration_error(p, truth)[1] == pytest.approx((p * (1 - p)).mean(), abs=0.005)


def test_the_error_of_probabilities_by_hand() -> None:
    p = np.array([[0.1, 0.1], [0.9, 0.9]])
    truth = np.array([[False, True], [True, True]])
    error, brier = calibration_error(p, truth, bins=10)
    assert error == pytest.approx(0.5 * abs(0.1 - 0.5) + 0.5 * abs(0.9 - 1))
    assert brier == pytest.approx((0.01 + 0.81 + 0.01 + 0.01) / 4)
    assert calibration_error(truth.astype(float), truth) == (0, 0)


def test_probabilities_are_monotone_and_within_bounds(fitted: Calibration) -> None:
    scores = np.linspace(-3, 12, 1001)
    for curve in fitted.facts.values():
        p = curve.probability(scores)
        assert (np.diff(p) >= 0).all()
        assert p.min() >= 0
        assert p.max() <= 1
    assert all(curve.slope > 0 for curve in fitted.queries.values())


def test_each_kind_of_query_has_its_curve(fitted: Calibration) -> None:
    assert set(fitted.queries) == {"any", "photo", "S", "P", "O", "SP", "SO", "PO", "SPO"}
    assert set(fitted.facts) == {"any", "S", "SP", "SPO"}


def test_a_fit_generalises_to_other_photos(fitted: Calibration) -> None:
    images, facts, relevant = world(seed=0)
    assert fitted.photos == len(images)
    first = fit_calibration("model", FACTS, images[:300], facts, csr_array(relevant[:300]))
    scores = fact_scores(unit_blocks(images[300:]), FACTS, facts, None)
    p = np.stack([first.facts[pattern(fact.units)].probability(scores[:, n]) for n, fact in enumerate(FACTS)], axis=1)
    error, brier = calibration_error(p, relevant[300:])
    share = relevant.mean()
    assert error < 0.01
    assert brier < 0.5 * share * (1 - share)  # to say the base rate of everything would cost this without the half


def test_closed_scores_are_used() -> None:
    images, facts, relevant = world()
    with_closed = fit_calibration("model", FACTS, images, facts, csr_array(relevant), torch.tensor(relevant * 4.0))
    scores = fact_scores(unit_blocks(images), FACTS, facts, torch.tensor(relevant * 4.0))
    assert scores[relevant].min() > 2 > scores[~relevant].max()
    for number, fact in enumerate(FACTS):
        p = with_closed.facts[pattern(fact.units)].probability(scores[:, number])
        assert np.array_equal(p > 0.5, relevant[:, number])
    plain = fit_calibration("model", FACTS, images, facts, csr_array(relevant))
    assert with_closed.queries == plain.queries  # an index has no closed scores


def test_a_part_of_the_closed_scores_is_computed_when_it_is_needed() -> None:
    images, facts, relevant = world()
    closed = torch.tensor(relevant * 4.0)
    given = fit_calibration("model", FACTS, images, facts, csr_array(relevant), closed)
    computed = fit_calibration("model", FACTS, images, facts, csr_array(relevant), lambda i, f: closed[i][:, f])
    assert computed == given


def test_pairs_that_are_not_known_are_no_negatives() -> None:
    images, facts, relevant = world()
    hidden = relevant.copy()
    hidden[300:] = False  # nothing is known of the second half
    rows, columns = np.indices(relevant.shape)
    rows_of = np.stack([rows[(rows >= 300) | hidden], columns[(rows >= 300) | hidden]], axis=1)
    values = np.where(hidden, SHOWN, UNKNOWN)[(rows >= 300) | hidden].astype(np.int8)
    labels = PairLabels(rows_of, values, relevant.shape)
    half = fit_calibration("model", FACTS, images[:300], facts, csr_array(relevant[:300]))
    found = fit_calibration("model", FACTS, images, facts, csr_array(hidden), labels=labels)
    assert found.facts == half.facts
    assert {kind: curve for kind, curve in found.queries.items() if kind != "photo"} == {
        kind: curve for kind, curve in half.queries.items() if kind != "photo"
    }
    as_negatives = fit_calibration("model", FACTS, images, facts, csr_array(hidden))
    p, correct, wrong = (each.queries["any"].logit(np.array([0.5])) for each in (found, half, as_negatives))
    assert p == correct > wrong


def test_the_other_facts_of_a_photo_that_shows_one_need_not_be_known() -> None:
    """A photo that shows <s0, p0> shows <s0>, whether <s0, p1> is known or not; of another photo <s0> is not known."""
    facts = [Fact("s0", "p0"), Fact("s0", "p1")]
    labels = PairLabels(np.array([[0, 0], [0, 1], [1, 1], [2, 0]]), np.array([3, 2, 2, 2], np.int8), (3, 2))
    relevant = csr_array(np.array([[True, False], [False, False], [False, False]]))
    vectors = torch.nn.functional.normalize(torch.rand(5, 3, 4, generator=torch.Generator().manual_seed(0)), dim=-1)
    unknown = partial(labels.unknown, np.arange(3))
    images, generator = unit_blocks(vectors[:3]), np.random.default_rng(0)
    _, kinds, truth, known = _query_cosines(facts, images, vectors[3:], relevant.tocsc(), unknown, generator, None)
    shown = {kind: (truth[:, n].tolist(), known[:, n].tolist()) for n, kind in enumerate(kinds) if kind == "S"}
    assert shown == {"S": ([True, False, False], [True, False, False])}


def test_a_photo_that_shows_nothing_is_no_example() -> None:
    images, _, relevant = world(photos=60)
    relevant[20:] = False
    cosines, same = _photo_pairs(unit_blocks(images), csr_array(relevant).tocsc(), None, np.random.default_rng(0))
    assert len(cosines) == 20 * 59
    assert 0 < same.mean() < 0.5


def test_a_fit_of_many_pairs_is_that_of_a_sample(fitted: Calibration, monkeypatch: pytest.MonkeyPatch) -> None:
    images, facts, relevant = world()
    seen: list[int] = []

    def counted(scores: np.ndarray, truth: np.ndarray) -> Logistic:
        seen.append(len(scores))
        return _fit_logistic(scores, truth)

    most = 15 * len(images)
    monkeypatch.setattr(fitting, "MOST_PAIRS", most)
    monkeypatch.setattr(fitting, "_fit_logistic", counted)
    monkeypatch.setattr(fitting, "EXAMPLES", 10)
    sampled = fit_calibration("model", FACTS, images, facts, csr_array(relevant))
    assert max(seen) == most < len(FACTS) * len(images)
    scores = np.linspace(-0.2, 0.8, 50)
    p, of_all = (1 / (1 + np.exp(-each.queries["any"].logit(scores))) for each in (sampled, fitted))
    assert np.abs(p - of_all).max() < 0.1


def test_a_kind_with_few_true_pairs_shares_the_curve_of_all() -> None:
    images, facts, relevant = world(photos=60)
    assert "SPO" in fit_calibration("model", FACTS, images, facts, csr_array(relevant)).facts
    assert "SPO" not in fit_calibration("model", FACTS, images[:40], facts, csr_array(relevant[:40])).facts


def test_photos_without_information_are_refused() -> None:
    images, facts, relevant = world(photos=8)
    for nothing in (np.zeros_like(relevant), np.ones_like(relevant)):
        with pytest.raises(UserError, match="cannot be calibrated"):
            fit_calibration("model", FACTS, images, facts, csr_array(nothing))
    with pytest.raises(UserError, match="cannot be calibrated"):
        fit_calibration("model", [], images, facts[:0], csr_array(relevant[:, :0]))


def test_it_is_saved_and_loaded_for_its_own_model_only(fitted: Calibration, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    fitted.save(path)
    assert Calibration.load(path, "model") == fitted
    assert Calibration.load(path, "another") is None
    assert Calibration.load(tmp_path / "missing.json", "model") is None
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))
    assert Calibration.load(path, "model") is None
    path.write_text('{"format"')
    assert Calibration.load(path, "model") is None


def test_curves() -> None:
    assert Logistic(2, -1).logit(np.array([0.5, 1])).tolist() == [0, 1]
    assert Isotonic([0, 1], [0.2, 0.4]).probability(np.array([-1, 0.5, 2])).tolist() == pytest.approx([0.2, 0.3, 0.4])
