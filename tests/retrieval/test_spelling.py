"""What was probably meant by words that a model does not know."""

from __future__ import annotations

import pytest

from tripletcl.data.facts import Fact
from tripletcl.retrieval import parse_request
from tripletcl.retrieval.spelling import foreign_script, known_word, suggestion

FACTS = [
    Fact("person", "riding", "horse"),
    Fact("person", "skiing on", "snow"),
    Fact("dog", "playing with", "red ball"),
    Fact("golden retriever"),
]
KNOWN = {text for fact in FACTS for text in fact.units if text} | {"house", "cat"}


def meant(words: str) -> str | None:
    return suggestion(parse_request(words, FACTS), FACTS, lambda text, unit: text in KNOWN)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("perosn, riding, hores", "person riding horse"),  # letters that changed places count once
        ("person, sking on, snwo", "person, skiing on, snwo"),  # one error in four letters is too much
        ("person, skiing onn, snow", "person, skiing on, snow"),
        ("golden retreiver", "golden retriever"),
        ("?, ridding, ?", "?, riding"),
        ("dog - ?, ?, red bal", "dog - ?, ?, red ball"),
        ("person riding house", None),  # another word that the model knows
        ("cat", None),
    ],
)
def test_a_request_is_written_again_in_known_words(typed: str, expected: str | None) -> None:
    assert meant(typed) == expected


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("hrse", "horse"),
        ("umbrela", "umbrella"),
        ("elefant", None),  # elegant is no thing that the model knows
        ("umbrella", None),
        ("perosn, ?, umbrela", "person, ?, umbrella"),  # a taught word, and one of the base
    ],
)
def test_words_that_describe_what_a_base_knows_are_meant_where_it_knows_them(typed: str, expected: str | None) -> None:
    words = ["elegant", "horse", "umbrella"]
    known = KNOWN | {"horse", "umbrella"}
    facts = FACTS[1:2]
    assert suggestion(parse_request(typed, facts), facts, lambda text, unit: text in known, words) == expected


def test_a_word_of_one_kind_is_never_taken_for_one_of_another() -> None:
    assert known_word("ridings", 1, FACTS, lambda text, unit: text in KNOWN) == "riding"
    assert known_word("ridings", 0, FACTS, lambda text, unit: text in KNOWN) is None
    assert (
        known_word("horses", 0, FACTS, lambda text, unit: text in KNOWN) == "horse"
    )  # subjects and objects are both things


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("kid, riding, pony", "person riding horse"),
        ("boys, skiing on, snow", "person, skiing on, snow"),
        ("mouse, riding, ?", None),  # a mouse is no misspelt house, nor a horse
        ("?, skiing on, show", None),
    ],
)
def test_a_noun_stands_for_the_known_one_of_its_kind_and_never_for_one_spelled_like_it(
    typed: str, expected: str | None
) -> None:
    assert meant(typed) == expected


def test_letters_of_another_script_are_said_to_be_so() -> None:
    assert "'лошадь' is in a script" in str(foreign_script(parse_request("лошадь")))
    assert foreign_script(parse_request("garçon, riding, cheval")) is None
