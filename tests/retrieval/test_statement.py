"""The fact of a lesson as it is typed: in the words that a run knows, or asked about."""

from __future__ import annotations

import pytest

from tripletcl.data.facts import Fact
from tripletcl.errors import UserError
from tripletcl.retrieval.statement import read_fact

FACTS = [
    Fact(*fact.split(", "))
    for fact in ["dog", "dog, brown", "person, riding, horse", "person, holding, paint", "dog, playing with, dog"]
]


@pytest.mark.parametrize(
    ("typed", "fact"),
    [
        ("a person riding a horse", "<person, riding, horse>"),
        ("Persons ride horses.", "<person, riding, horse>"),
        ("person riding unicycle", "<person, riding, unicycle>"),
        ("person\u200b riding unicycle", "<person, riding, unicycle>"),
        ("a person juggling three-sided torches", "<person, juggling, three-sided torches>"),
        ("person, rides, ice cream truck", "<person, riding, ice cream truck>"),
        ("Person, eating", "<person, eating>"),
        ("horse", "<horse>"),
        ("Dogs", "<dog>"),
        ("cat", "<cat>"),
        ("brown dog", "<dog, brown>"),
        ('"ice cream"', "<ice cream>"),
        ("ice, cream", "<ice, cream>"),
        ('"dog - cat" running', "<dog - cat, running>"),
        ("person, holding, painting", "<person, holding, painting>"),
    ],
)
def test_a_fact_is_read_in_known_words(typed: str, fact: str) -> None:
    assert str(read_fact(typed, FACTS)) == fact


def test_a_fact_that_is_known_is_itself() -> None:
    facts = [*FACTS, Fact("ice cream"), Fact("dog - cat")]
    assert [read_fact(str(fact).strip("<>").replace(",", ""), facts) for fact in facts] == facts
    assert read_fact("Ice cream", facts) == Fact("ice cream")
    assert read_fact(Fact("Persons", "rides", "camel"), facts) == Fact("person", "riding", "camel")


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (
            "ice cream",
            r"in several ways: .* commas, as in 'ice, cream', or put .*, as in '\"ice cream\"'$",
        ),
        ("robot hugs robot", "can be read in several ways"),
        ("happy dog", "can be read in several ways"),
        ("a person holding a painting", "can be read in several ways"),
        ("dog - cat", "has '-', which in a query joins or excludes"),
        ("dog -cat", "has '-cat', which"),
        ("dog + cat", "has '\\+', which"),
        ("a dog and a person", "is read as <dog, .*> \\+ <person, .*>, and a lesson teaches one fact"),
        ("two dogs", "without 'two', and a lesson teaches one fact"),
        ("person ?", "has no wildcard"),
        ("person on horse", r"is read as <person, \?, horse>, which has no predicate; write its units between commas"),
        ("riding horse", "'riding horse' has no subject"),
        ("x" * 5000, "has 5,000 characters"),
    ],
)
def test_an_unclear_fact_is_asked_about(typed: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        read_fact(typed, FACTS)
    assert len(str(refused.value)) < 400
