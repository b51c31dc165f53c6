"""Taught facts are asked by their own scores; other words also ask the facts that are near them."""

from __future__ import annotations

import numpy as np
import pytest

from tripletcl.data.facts import Fact
from tripletcl.embedding.asked_facts import KIND, NEAR, RIDGE, TaughtFacts, query_vector, taught_vectors
from tripletcl.embedding.text_base import IMAGE_SHARE

FACTS = (Fact("person", "playing", "guitar"), Fact("person", "playing", "air hockey"), Fact("dog"))
WORDS = {"person playing guitar": 0, "person playing air hockey": 1, "dog": 2}


def encode(texts: list[str]) -> np.ndarray:
    """Texts of facts are axes; a "doggo" is near a dog, "music" is near nothing."""
    rows = {"doggo": [0, 0, 0.8, 0.6], "music": [0.5, 0.5, 0.5, 0.5]}
    return np.array([rows.get(text) or [float(n == WORDS.get(text)) for n in range(4)] for text in texts])


def unit_rows(*shape: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def targets() -> np.ndarray:
    """`[F, 3, D]`."""
    person, playing, guitar, hockey, dog = unit_rows(5, 16)
    none = np.zeros(16)
    return np.array([[person, playing, guitar], [person, playing, hockey], [dog, none, none]])


@pytest.fixture(scope="module")
def taught() -> TaughtFacts:
    return TaughtFacts(FACTS, targets(), encode)


class Names:
    """What a base knows by name."""

    def __init__(self, *nouns: str, cosine: float = 0.0) -> None:
        self.nouns, self.cosine = nouns, cosine

    def has(self, noun: str) -> bool:
        return noun in self.nouns

    def familiarity(self, encoded: np.ndarray) -> float:
        return self.cosine


NOTHING = Names()


def test_a_fact_is_asked_by_its_own_score_not_by_the_units_that_it_shares(taught: TaughtFacts) -> None:
    rows = targets().reshape(3, -1)
    dual = np.linalg.inv(rows @ rows.T + RIDGE * np.eye(3)) @ rows  # the same by the products of facts
    np.testing.assert_allclose(taught.readers, dual, atol=1e-9)
    asked = taught.asked(FACTS[0].units, NOTHING)
    assert asked is not None
    assert asked.is_named
    hockey = rows[1]  # a photo that shows air hockey
    guitar = 0.35 * rows[0] + 0.2 * rows[1]  # one that shows a guitar, less clearly
    block = taught.block(asked).flatten()
    assert guitar @ rows[0] < hockey @ rows[0]  # by cosines the wrong one is first
    assert guitar @ block > 0.25 > 0.1 > abs(hockey @ block)


def test_a_query_asks_every_fact_that_has_its_units(taught: TaughtFacts) -> None:
    asked = taught.asked((None, "Playing", None), NOTHING)
    assert asked is not None
    assert asked.weights.tolist() == [1, 1, 0]
    assert (asked.share, asked.cosine) == (1, None)


def test_things_are_asked_by_their_kinds(taught: TaughtFacts) -> None:
    """A puppy is a dog, which was taught; of animals a dog was taught; a kid that plays a guitar is a person."""
    asked = {
        ("puppy", None, None): [0, 0, 1],
        ("Animals", None, None): [0, 0, 1],
        ("kid", None, "guitar"): [1, 0, 0],
        ("boy", "playing", None): [1, 1, 0],
    }
    for units, weights in asked.items():
        found = taught.asked(units, NOTHING)
        assert found is not None
        assert (found.weights.tolist(), found.share, found.cosine, found.is_named) == (weights, KIND, None, False)


def test_no_kind_is_asked_beside_own_units_nor_by_a_predicate_nor_where_no_fact_has_all(taught: TaughtFacts) -> None:
    both = TaughtFacts((Fact("dog"), Fact("puppy")), np.array([targets()[2], targets()[2]]), encode)
    asked = both.asked(("dog", None, None), NOTHING)
    assert asked is not None
    assert (asked.weights.tolist(), asked.is_named) == ([1, 0], True)
    for units in ((None, "animal", None), ("kid", None, "dog"), ("cat", None, None)):
        found = taught.asked(units, Names(cosine=1.0))
        assert found is None


def test_a_word_by_which_the_base_calls_something_is_left_to_the_base(taught: TaughtFacts) -> None:
    assert taught.asked(("puppy", None, None), Names("puppy", cosine=1.0)) is None
    assert taught.asked(("kid", "playing", None), Names("kid", cosine=1.0)) is not None  # alone only


def test_other_words_ask_the_facts_near_them_unless_the_base_knows_them_better(taught: TaughtFacts) -> None:
    asked = taught.asked(("doggo", None, None), NOTHING)
    assert asked is not None
    assert not asked.is_named
    assert asked.weights.argmax() == 2
    assert asked.weights.sum() == pytest.approx(1)
    assert asked.share == pytest.approx((0.8 - NEAR) / (1 - NEAR))
    assert taught.asked(("doggo", None, None), Names(cosine=0.81)) is None
    assert taught.asked(("music", None, None), NOTHING) is None


def test_the_vector_of_a_query_goes_from_cosines_to_scores(taught: TaughtFacts) -> None:
    """Without a taught fact the product with a photo is the sum of the cosines; with one it is the score, a unit."""
    rng = np.random.default_rng(1)
    own, photo_own = np.abs(unit_rows(3, 4)), np.abs(unit_rows(3, 4))[::-1]
    own[2] = 0  # two units
    block, photo_taught = rng.normal(size=(3, 16)), rng.normal(size=(3, 16))
    photo = np.concatenate(
        [IMAGE_SHARE**0.5 * photo_own, (1 - IMAGE_SHARE) ** 0.5 * photo_taught, rng.random((3, 1))], axis=1
    )
    cosines, score = IMAGE_SHARE**0.5 * (photo_own * own).sum(), (photo_taught * block).sum()
    by_base, by_fact, between = ((photo * query_vector(own, block, share)).sum() for share in (0.0, 1.0, 0.5))
    assert by_base == pytest.approx(cosines)
    assert by_fact == pytest.approx(2 * score + cosines / 6)
    assert between == pytest.approx((cosines + 6 * 0.5 * 2 * score) / 3.5)
    assert (photo * taught_vectors(block.reshape(1, -1), 4)[0]).sum() == pytest.approx(score)
