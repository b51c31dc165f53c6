"""A word that no photo shows, or that the model does not know, is said to be so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tripletcl.data.facts import Fact
from tripletcl.retrieval import FactIndex, Filter, parse_request
from tripletcl.retrieval.presence import FAMILIAR, FIRST, LEAST, SCORED, SEEN, SHARES, Presence, presences

KNOWN = {"dog": 0, "cat": 1, "fish": 2}
AT_LEAST = float(np.interp(LEAST, SHARES, SEEN))
"""The evidence of a word below which nothing shows it."""
LEVEL = 0.5
"""The mean score of the photos that taught "horse"."""


class ThreeThings:
    """Knows three things: a photo's vector says with which evidence it shows each. "horse" was taught: axis 3."""

    near: tuple[Fact, ...] = ()
    cosine: float | None = 0.7

    def encode_units(self, texts: list[str], unit: int | None = None) -> Tensor:
        return torch.eye(5)[[KNOWN.get(text, 4) for text in texts]]

    def fingerprint(self) -> str:
        return "three"

    def encode_queries(self, queries: Sequence[Sequence[str | None]]) -> None:
        return None

    def also_asked(self, units: Sequence[str | None]) -> tuple[list[Fact], float | None]:
        return list(self.near), self.cosine

    def encode_levelled(self, units: Sequence[str | None]) -> np.ndarray:
        if "horse" not in units and not self.near:
            return np.zeros(0)
        vector = np.zeros((1, 3, 5), np.float32)
        vector[0, 0, 3] = 1 / LEVEL
        return vector

    def nearest_of_base(self, text: str, unit: int | None = None) -> list[str]:
        return [text]

    def familiarity(self, text: str, unit: int | None = None) -> float | None:
        return None if text == "horse" else FAMILIAR + (0.01 if text in KNOWN else -0.01)

    def seen_by_base(self, text: str, vectors: np.ndarray, unit: int | None = None) -> np.ndarray:
        assert len(vectors) <= FIRST
        return vectors[:, KNOWN[text]]


def index_of(*seen: tuple[float, float, float, float], count: int = 20) -> FactIndex:
    """Photos, of which the first show the three things and score for "horse" as given."""
    shown = torch.zeros(count, 3, 5)
    shown[: len(seen), 0, :4] = torch.tensor(seen)
    shown[:, :, 4] = (1 - shown[:, :, :4].square().sum(2)).sqrt()
    built = FactIndex(ThreeThings())  # type: ignore[arg-type]
    built.add([Path(f"/photos/{'a' if number else 'b'}/{number}.jpg") for number in range(count)], shown)
    return built


@pytest.fixture
def index() -> FactIndex:
    return index_of((AT_LEAST + 0.05, AT_LEAST - 0.02, 0, 0.4), (0, 0, 0, 0.35))


def found(index: FactIndex, words: str, where: Filter | None = None) -> dict[str, Presence]:
    assert index.embedder is not None
    return {each.text: each for each in presences(parse_request(words), index, index.embedder, where)}


def said(index: FactIndex, words: str, where: Filter | None = None) -> list[str]:
    return [each.sentence for each in found(index, words, where).values() if each.sentence]


def test_only_what_no_photo_shows_and_what_is_not_known_is_said(index: FactIndex) -> None:
    assert said(index, "dog") == []  # a single photo shows it
    [sentence] = said(index, "cat")
    assert sentence.startswith("nothing here shows 'cat' (presence 0.0")
    assert sentence.endswith("the closest photos follow")
    assert said(index, "grass") == ["'grass' is nothing that this model knows: teach it by a few photos"]
    assert [sentence.split("'")[1] for sentence in said(index, "dog + cat - fish")] == ["cat"]


def test_the_presence_of_words_and_of_taught_facts_is_on_one_scale() -> None:
    """The share of what photos show for which there is no more evidence; two photos have to score for a fact."""
    at_least = LEVEL * float(np.interp(LEAST, SHARES, SCORED))
    shown = index_of((AT_LEAST, 0, 0, at_least + 0.01), (0, 0, 0, at_least + 0.01))
    assert found(shown, "dog")["dog"].value == pytest.approx(LEAST, abs=1e-3)
    assert found(shown, "horse")["horse"].value == pytest.approx(LEAST, abs=0.05)
    assert said(shown, "horse") == []
    assert said(index_of((0, 0, 0, 0.9)), "horse")[0].startswith("nothing here shows 'horse' (presence 0.00")
    values = [
        found(index_of((0, 0, 0, each), (0, 0, 0, each)), "horse")["horse"].value for each in (0.1, 0.2, 0.3, 0.9)
    ]
    assert values == sorted(values)  # type: ignore[type-var]
    assert (values[0], values[-1]) == (pytest.approx(0, abs=0.05), 1)


def test_words_that_ask_facts_near_them_are_present_if_one_of_these_is(index: FactIndex) -> None:
    assert isinstance(index.embedder, ThreeThings)
    index.embedder.near = (Fact("horse"),)
    assert list(found(index, "pony")) == ["pony"]
    assert said(index, "pony") == []
    nothing = index_of((0, 0, 0, 0))
    assert isinstance(nothing.embedder, ThreeThings)
    nothing.embedder.near = (Fact("horse"),)
    assert said(nothing, "cat")[0].startswith("nothing here shows 'cat'")  # neither the facts nor the word


def test_a_word_of_a_kind_that_was_taught_is_known_even_where_the_base_knows_it_not() -> None:
    nothing = index_of((0, 0, 0, 0))
    assert isinstance(nothing.embedder, ThreeThings)
    nothing.embedder.near, nothing.embedder.cosine = (Fact("horse"),), None
    assert said(nothing, "pony")[0].startswith("nothing here shows 'pony'")
    nothing.embedder.cosine = 0.7
    assert said(nothing, "pony")[0].startswith("'pony' is nothing that this model knows")


def test_a_word_is_looked_for_in_its_own_unit_and_among_the_photos_that_a_filter_keeps(index: FactIndex) -> None:
    assert said(index, "?, ?, dog")[0].startswith("nothing here shows 'dog'")
    assert said(index, "dog", Filter(folder="a"))[0].startswith("nothing here shows 'dog'")
    assert said(index, "dog", Filter(folder="b")) == []


def test_a_model_without_a_base_says_nothing() -> None:
    class Plain:
        def encode_units(self, texts: list[str], unit: int | None = None) -> Tensor:
            return torch.eye(4)[: len(texts)]

        def fingerprint(self) -> str:
            return "plain"

    built = FactIndex(Plain())  # type: ignore[arg-type]
    built.add([Path("/a.jpg")], np.ones((1, 3, 4), np.float32))
    assert said(built, "dog") == []
