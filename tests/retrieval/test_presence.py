"""A word that no photo shows, or that the model does not know, is said to be so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tripletcl.data.facts import Fact
from tripletcl.retrieval import FactIndex, Filter, parse_request
from tripletcl.retrieval.presence import FAMILIAR, FIRST, SEEN, absent

KNOWN = {"dog": 0, "cat": 1, "fish": 2}


class ThreeThings:
    """Knows three things: a photo's vector says with which probability it shows each. "horse" was taught."""

    def encode_units(self, texts: list[str], unit: int | None = None) -> Tensor:
        return torch.eye(4)[[KNOWN.get(text, 3) for text in texts]]

    def fingerprint(self) -> str:
        return "three"

    def nearest_of_base(self, text: str, unit: int | None = None) -> list[str]:
        return [text]

    def familiarity(self, text: str, unit: int | None = None) -> float | None:
        return None if text == "horse" else FAMILIAR + (0.01 if text in KNOWN else -0.01)

    def seen_by_base(self, text: str, vectors: Tensor, unit: int | None = None) -> Tensor:
        assert len(vectors) <= FIRST
        return vectors[:, KNOWN[text]]


@pytest.fixture
def index() -> FactIndex:
    shown = torch.zeros(20, 3, 4)
    shown[:, :, 3] = 1
    shown[0, 0] = torch.tensor([SEEN + 0.05, SEEN - 0.01, 0, (1 - (SEEN + 0.05) ** 2 - (SEEN - 0.01) ** 2) ** 0.5])
    built = FactIndex(ThreeThings())  # type: ignore[arg-type]
    built.add([Path(f"/photos/{'a' if number else 'b'}/{number}.jpg") for number in range(20)], shown)
    return built


def said(index: FactIndex, words: str, where: Filter | None = None) -> list[str]:
    assert index.embedder is not None
    known = [Fact("elephant"), Fact("Person", "riding", "horse")]
    return absent(parse_request(words), index, index.embedder, where, known)


def test_only_what_no_photo_shows_and_what_is_not_known_is_said(index: FactIndex) -> None:
    assert said(index, "dog") == []  # a single photo shows it
    assert said(index, "horse") == []  # taught: its scores do not tell
    assert said(index, "cat") == ["nothing here shows 'cat'; the closest photos follow"]
    assert said(index, "grass") == ["'grass' is nothing that this model knows: teach it by a few photos"]
    assert said(index, "eliphant") == ["'eliphant' is nothing that this model knows: did you mean 'elephant'?"]
    assert said(index, "perzon") == ["'perzon' is nothing that this model knows: did you mean 'Person'?"]
    assert [sentence.split("'")[1] for sentence in said(index, "dog + cat - fish")] == ["cat"]


def test_a_word_is_looked_for_in_its_own_unit_and_among_the_photos_that_a_filter_keeps(index: FactIndex) -> None:
    assert said(index, "?, ?, dog") == ["nothing here shows 'dog'; the closest photos follow"]
    assert said(index, "dog", Filter(folder="a")) == ["nothing here shows 'dog'; the closest photos follow"]
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
