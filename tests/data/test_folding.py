"""Spellings and forms of one unit are one text; different things stay apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from tripletcl.data import Fact, read_table
from tripletcl.data.folding import Fold, describe_folds, fold_facts
from tripletcl.data.words import same_number, singular, spelling, visible_text
from tripletcl.errors import UserError


def facts(*texts: str) -> list[Fact]:
    return [Fact(*text.split(", ")) for text in texts]


def folded(written: list[Fact], known: list[Fact] = ()) -> list[str]:
    readings, _ = fold_facts(dict.fromkeys(written, 1), known)
    return [str(readings.get(fact, fact)) for fact in written]


@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("Person", "person"),
        ("person.", "person"),
        ("a dog", "dog"),
        ("The  Dog!", "dog"),
        ("caf\u00e9", "cafe\u0301"),
        ("dog\u200b", "dog"),
        ("\ufeffdog", "dog"),
        ("so\u00adfa", "sofa"),
        ("\u201cdog\u201d", "dog"),
    ],
)
def test_spellings_of_one_text(text: str, other: str) -> None:
    assert folded(facts(text), facts(other)) == [f"<{Fact(other).subject}>"]
    assert spelling(visible_text(text)) == spelling(visible_text(other))


@pytest.mark.parametrize(("text", "other"), [("letter a", "letter"), ("a", "the"), ("ice-cream", "cream"), ("A", "B")])
def test_other_texts_stay_apart(text: str, other: str) -> None:
    assert folded(facts(text), facts(other)) == [f"<{text}>"]


def test_joiners_stay_where_scripts_and_emoji_need_them() -> None:
    for text in ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f680"):
        assert visible_text(text) == text


@pytest.mark.parametrize(
    ("plural", "noun"),
    [
        ("dogs", "dog"),
        ("people", "person"),
        ("children", "child"),
        ("boxes", "box"),
        ("ponies", "pony"),
        ("buses", "bus"),
    ],
)
def test_number_of_nouns(plural: str, noun: str) -> None:
    assert singular(plural) == singular(noun) == noun
    assert same_number([plural], [noun])


@pytest.mark.parametrize("noun", ["glasses", "grass", "bus", "tennis", "gas", "shorts"])
def test_nouns_that_are_no_plural(noun: str) -> None:
    assert singular(noun) == noun


def test_forms_of_known_units_are_the_known_ones() -> None:
    known = facts("person, riding, horse", "person, drinking, drink", "person, holding, paint")
    written = facts("Persons, rides, horses", "people, riding, unicycle", "person, holding, painting", "drink")
    expected = ["<person, riding, horse>", "<person, riding, unicycle>", "<person, holding, painting>", "<drink>"]
    assert folded(written, known) == expected


def test_own_forms_are_one_only_if_a_fact_is_in_both() -> None:
    apart = facts("person, swinging on, bars", "person, jumping over, bar", "person, wearing, glasses")
    assert folded(apart) == list(map(str, apart))
    once = facts("person, riding, horse", "persons, ride, horse", "persons, walking", "person, riding, bull")
    assert folded(once) == ["<person, riding, horse>"] * 2 + ["<person, walking>", "<person, riding, bull>"]
    assert folded(facts("man, has, glass", "man, has, glasses")) == ["<man, has, glass>", "<man, has, glasses>"]


def test_the_most_frequent_spelling_stays_and_folding_again_changes_nothing() -> None:
    rows = dict(zip(facts("TV, on", "tv, on", "a Dog", "Dog", "dog", "dogs"), [1, 5, 1, 2, 9, 1], strict=True))
    readings, folds = fold_facts(rows)
    assert [str(readings.get(fact, fact)) for fact in rows] == ["<tv, on>"] * 2 + ["<dog>"] * 4
    assert folds[0] == Fold("subject", "TV", "tv", 1)
    assert describe_folds(folds).startswith(
        "4 spellings or forms of units are read as another: 'TV' as 'tv' (1 rows), "
    )
    assert fold_facts({readings.get(fact, fact): 1 for fact in rows}) == ({}, [])


def test_an_unclear_text_is_asked_about() -> None:
    known = facts("Dog", "dog")
    assert folded(known, known) == ["<Dog>", "<dog>"]
    with pytest.raises(UserError, match=r"the subject 'DOG' is a form of several known ones: write 'Dog' or 'dog'"):
        folded(facts("DOG"), known)


def test_real_facts_are_not_folded(data_root: Path) -> None:
    path = data_root / "facts" / "facts.csv"
    assert read_table(path).facts == read_table(path, fold=False).facts
