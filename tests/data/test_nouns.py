"""Nouns and the kinds of things that they name."""

from __future__ import annotations

import pytest

from tripletcl.data.nouns import FILE, all_nouns, kinds_of, plain_noun


@pytest.mark.parametrize(
    ("noun", "nearer", "farther"),
    [
        ("motorbike", "motorcycle", "vehicle"),
        ("kid", "child", "person"),
        ("Kids", "child", "person"),
        ("man", "adult", "person"),
        ("sofa", "couch", "furniture"),
        ("stallion", "horse", "animal"),
        ("puppy", "dog", "animal"),
        ("swimming pools", "pool", "facility"),
    ],
)
def test_a_thing_is_of_its_own_kind_before_it_is_of_broader_ones(noun: str, nearer: str, farther: str) -> None:
    found = kinds_of(noun)
    assert found.index(nearer) < found.index(farther)


@pytest.mark.parametrize("noun", ["scooter", "bike", "paris", "riding on", "axolotl", "", "Bär", "happiness"])
def test_what_is_many_things_or_nothing_that_photos_show_is_of_no_kind(noun: str) -> None:
    assert kinds_of(noun) == ()


@pytest.mark.parametrize(("noun", "other"), [("cat", "dog"), ("truck", "car"), ("person", "child"), ("horse", "pony")])
def test_a_thing_is_no_kind_of_its_neighbour_nor_of_a_narrower_thing(noun: str, other: str) -> None:
    assert other not in kinds_of(noun)


def test_a_noun_is_known_in_any_number_and_case() -> None:
    assert [plain_noun(each) for each in ("Dogs", "ice creams", "people", "zqx")] == [
        "dog",
        "ice cream",
        "person",
        "zqx",
    ]
    assert kinds_of("People") == kinds_of("person")


def test_the_table_has_each_noun_once_and_no_circles() -> None:
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    nouns = [noun for line in lines for noun in line.partition(": ")[0].split(", ")]
    above = [noun for line in lines for noun in line.partition(": ")[2].split(", ") if noun]
    assert len(nouns) == len(set(nouns)) == len(all_nouns()) > 5000
    assert set(above) <= set(nouns)
    assert all(kinds_of(noun)[0] == noun and len(set(kinds_of(noun))) == len(kinds_of(noun)) for noun in nouns)
