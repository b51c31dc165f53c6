"""Description of photos by facts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import save_checkpoint

from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, build_embedder
from tripletcl.errors import UserError
from tripletcl.retrieval import Calibration, ShownFact, describe, describe_photos
from tripletcl.retrieval.calibration import Isotonic


def random_facts() -> tuple[list[Fact], torch.Tensor, torch.Tensor]:
    facts = [Fact(f"s{i}", *["p", "o"][: i % 3]) for i in range(12)]
    present = torch.tensor([[unit is not None for unit in fact.units] for fact in facts])
    vectors = torch.randn(12, 3, 5, generator=torch.Generator().manual_seed(0))
    return facts, torch.nn.functional.normalize(vectors, dim=-1) * present[..., None], present


def test_ranked_by_the_mean_cosine_of_the_units_a_fact_has() -> None:
    facts, vectors, present = random_facts()
    images = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    for image, ranked in zip(images, describe(images, facts, vectors, present, k=12), strict=True):
        expected = [
            sum(float(image[u] @ vector[u]) / math.sqrt(float(image[u] @ image[u])) for u in range(3)) / fact.order
            for fact, vector in zip(facts, vectors, strict=True)
        ]
        assert [fact.score for fact in ranked] == pytest.approx(sorted(expected, reverse=True), abs=1e-6)
        assert {fact.fact: fact.score for fact in ranked} == pytest.approx(
            dict(zip(facts, expected, strict=True)), abs=1e-6
        )


def test_k_cuts_and_ties_stay_in_the_order_of_the_facts() -> None:
    facts = [Fact("cat"), Fact("dog"), Fact("hound")]
    vectors, present = torch.zeros(3, 3, 2), torch.tensor([[True, False, False]] * 3)
    vectors[:, 0] = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    image = torch.tensor([[[1.0, 0.0]] * 3])
    assert describe(image, facts, vectors, present, k=2) == [
        [ShownFact(Fact("dog"), 1.0), ShownFact(Fact("hound"), 1.0)]
    ]
    assert len(describe(image, facts, vectors, present, k=10)[0]) == 3
    with pytest.raises(UserError, match="k must be at least 1, not 0"):
        describe(image, facts, vectors, present, k=0)


def test_closed_scores_are_added_and_probabilities_rank() -> None:
    facts, vectors, present = random_facts()
    images = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(1))
    plain = describe(images, facts, vectors, present, k=12)
    closed = torch.randn(4, 12, generator=torch.Generator().manual_seed(2))
    curves = {"any": Isotonic([-3, 3], [0, 0.5]), "SP": Isotonic([-3, 0, 3], [0, 0.9, 0.9])}
    described = describe(images, facts, vectors, present, 12, closed, Calibration("model", {}, curves, 1))
    for row, (before, after) in enumerate(zip(plain, described, strict=True)):
        cosines = {fact.fact: fact.score for fact in before}
        scores = {fact: cosines[fact] + float(closed[row, number]) for number, fact in enumerate(facts)}
        assert {fact.fact: fact.score for fact in after} == pytest.approx(scores, abs=1e-6)
        for fact in after:
            wide = fact.score / 12 + 0.25
            expected = min(0.9, 0.3 * fact.score + 0.9) if fact.fact.order == 2 else wide
            assert fact.probability == pytest.approx(expected, abs=1e-6)
        keys = [(fact.probability, fact.score) for fact in after]
        assert keys == sorted(keys, reverse=True), "by probability, ties by score"


def test_a_model_with_a_base_scores_facts_relative_to_the_photos_that_taught_them(tmp_path: Path) -> None:
    save_checkpoint("clip", tmp_path)
    spec = EmbedderSpec(pair=str(tmp_path), base="pair", image_size=40, freeze_until="all")
    embedder, facts, levels = build_embedder(spec, seed=0).eval(), [Fact("dog"), Fact("cat", "running")], [0.5, 0.25]
    photos = list(np.random.default_rng(0).integers(0, 255, (4, 3, 40, 40), np.uint8))
    embedder.install_analytic(16, 0, "both")
    embedder.set_readout(torch.rand(16, 2, generator=torch.Generator().manual_seed(0)) / 10, facts, levels)
    own = embedder.image.analytic.scores(embedder.represent_images(photos))  # type: ignore[union-attr]
    for scores, ranked in zip(own.tolist(), describe_photos(embedder, photos), strict=True):
        expected = {fact: score / level for fact, score, level in zip(facts, scores, levels, strict=True)}
        assert {entry.fact: entry.score for entry in ranked} == pytest.approx(expected, rel=1e-5)
        assert ranked[0].score >= ranked[1].score
        assert all(entry.probability is None for entry in ranked)
