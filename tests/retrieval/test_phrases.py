"""Phrases as typed, and their queries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tripletcl.data.facts import LONGEST_REQUEST, Fact, Query
from tripletcl.data.words import stem
from tripletcl.errors import UserError
from tripletcl.retrieval import lexicon as lexicons
from tripletcl.retrieval.lexicon import Lexicon, lexicon_of
from tripletcl.retrieval.phrases import read_phrase

FACTS = [
    Fact(*fact.split(", "))
    for fact in [
        "dog",
        "horse",
        "dog, brown",
        "dog, black and white",
        "dog, running",
        "dog, running on, beach",
        "dog, running in, snow",
        "dog, carrying, ball",
        "dog, jumping over, hurdle",
        "dog, playing with, dog",
        "person, riding, horse",
        "person, riding, bicycle",
        "person, reading, book",
        "person, drinking, drink",
        "person, taking, picture",
        "person, sitting on, bench",
        "person, playing, air hockey",
        "person, lying",
        "person, walking, dog",
        "person, swinging on, bars",
        "person, jumping over, bar",
        "horse, pulling, wagon",
    ]
]


@pytest.mark.parametrize(
    ("phrase", "queries"),
    [
        # Units in order, and their forms
        ("person riding horse", "<person, riding, horse>"),
        ("dog", "<dog, ?, ?>"),
        ("Dogs", "<dog, ?, ?>"),
        ("a person rides a horse", "<person, riding, horse>"),
        ("people rode horses", "<person, riding, horse>"),
        ("the dog ran on the beach", "<dog, running on, beach>"),
        ("dogs run in the snow", "<dog, running in, snow>"),
        ("a person lay", "<person, lying, ?>"),
        ("a person is reading the books", "<person, reading, book>"),
        ("a dog is jumping over hurdles.", "<dog, jumping over, hurdle>"),
        ("a photo of a dog running on a beach", "<dog, running on, beach>"),
        ("show me photos of dogs running on a beach", "<dog, running on, beach>"),
        ("find my pictures with dogs", "<dog, ?, ?>"),
        ("Please show me a dog", "<dog, ?, ?>"),
        ("search for dogs", "<dog, ?, ?>"),
        ("pictures", "<?, ?, picture>"),
        ("dog \N{DOG FACE}", "<dog, ?, ?>"),
        ("the dog that carried the ball", "<dog, carrying, ball>"),
        # The longest known text, and the one that is spelled so
        ("someone playing air hockey", "<?, playing, air hockey>"),
        ("a person taking pictures", "<person, taking, picture>"),
        ("person swinging on bars", "<person, swinging on, bars>"),
        ("person jumping over bars", "<person, jumping over, bars>"),
        ("drink", "<?, ?, drink>"),
        ("drinks", "<?, drinking, ?>"),
        ("a person drinks a drink", "<person, drinking, drink>"),
        # Without some units
        ("riding a horse", "<?, riding, horse>"),
        ("walking the dog", "<?, walking, dog>"),
        ("running dog", "<dog, running, ?>"),
        ("running", "<?, running, ?>"),
        ("brown", "<?, brown, ?>"),
        ("on the beach", "<?, ?, beach>"),
        ("snow", "<?, ?, snow>"),
        ("person horse", "<person, ?, horse>"),
        ("who is riding a horse?", "<?, riding, horse>"),
        # New words keep their place and their text
        ("cyclist on a bike", "<cyclist, ?, bike>"),
        ("a person riding a brown horse", "<person, riding, brown horse>"),
        ("a cat sleeping on a sofa", "<cat, sleeping on, sofa>"),
        ("a person juggles torches", "<person, juggles, torches>"),
        ("unicorns devour glitter", "<unicorns, devour, glitter>"),
        ("elephant", "<elephant, ?, ?>"),
        ("the Eiffel Tower", "<Eiffel Tower, ?, ?>"),
        ("juggling balls", "<?, juggling, ball>"),
        ("a person jumps into the snow", "<person, jumps into, snow>"),
        ("a dog runs across the snow", "<dog, running across, snow>"),
        ("a happy dog carrying a ball", "<happy dog, carrying, ball>"),
        # The other way round
        ("a ball carried by a dog", "<dog, carrying, ball>"),
        # Several facts
        ("brown dog", "<dog, brown, ?>"),
        ("the dog is brown", "<dog, brown, ?>"),
        ("a black and white dog", "<dog, black and white, ?>"),
        ("a brown dog running in the snow", "<dog, running in, snow> + <dog, brown, ?>"),
        ("a person riding a horse on the beach", "<person, riding, horse> + <?, ?, beach>"),
        ("a person riding a horse and a dog running", "<person, riding, horse> + <dog, running, ?>"),
        ("a person sitting on a bench and reading a book", "<person, sitting on, bench> + <?, reading, book>"),
        ("a dog and a dog", "<dog, ?, ?>"),
    ],
)
def test_read_phrase(phrase: str, queries: str) -> None:
    reading = read_phrase(phrase, FACTS)
    assert " + ".join(map(str, reading.queries)) == queries
    assert reading.left_out == ()


@pytest.mark.parametrize(
    ("phrase", "queries", "left_out"),
    [
        ("two dogs running on the beach", "<dog, running on, beach>", ("two",)),
        ("3 horses", "<horse, ?, ?>", ("3",)),
        ("a couple of dogs", "<dog, ?, ?>", ("couple", "of")),
        ("a couple", "<couple, ?, ?>", ()),
        ("a man in a red shirt riding a bike", "<man, riding, bike>", ("in", "red", "shirt")),
    ],
)
def test_words_left_out_are_reported(phrase: str, queries: str, left_out: tuple[str, ...]) -> None:
    reading = read_phrase(phrase, FACTS)
    assert (" + ".join(map(str, reading.queries)), reading.left_out) == (queries, left_out)


@pytest.mark.parametrize("fact", FACTS, ids=str)
def test_every_fact_is_read_as_itself(fact: Fact) -> None:
    subject, predicate, object_ = (unit or "" for unit in fact.units)
    for phrase in (f"{subject} {predicate} {object_}", f"the {subject} is {predicate} the {object_}"):
        (query,) = read_phrase(phrase, FACTS).queries
        assert query.units == fact.units


@pytest.mark.parametrize(
    ("phrase", "query"),
    [
        ("horse rider", "<?, riding, horse>"),
        ("a beach runner", "<?, running on, beach>"),
        ("snow runner", "<?, running in, snow>"),
        ("a runner", "<?, running, ?>"),
        ("ball carrier", "<?, carrying, ball>"),
        ("unicycle rider", "<?, riding, unicycle>"),  # a new thing, a known predicate
        ("a surfer", "<surfer, ?, ?>"),  # nothing known is done
        ("a rider on the beach", "<rider, ?, beach>"),
    ],
)
def test_a_noun_for_who_does_what_is_known_is_its_predicate(phrase: str, query: str) -> None:
    assert [str(each) for each in read_phrase(phrase, FACTS).queries] == [query]


def test_a_new_word_is_never_replaced_by_a_known_one() -> None:
    for word in ("cat", "puppy", "pony", "blue", "cyclist"):
        assert word in read_phrase(f"a {word} carrying a ball", FACTS).queries[0].units


def test_without_facts_up_to_three_words_are_the_units() -> None:
    assert str(read_phrase("robot hugs robot").queries[0]) == "<robot, hugs, robot>"
    assert str(read_phrase("a robot hugging a tall tree").queries[0]) == "<robot, hugging, tall tree>"


@pytest.mark.parametrize("phrase", ["", "the", "a photo of", "my photos", "show me", "two", "there is someone", "."])
def test_a_phrase_that_asks_for_nothing(phrase: str) -> None:
    with pytest.raises(UserError, match="asks for nothing"):
        read_phrase(phrase, FACTS)


ODD_FACTS = [
    Fact(*fact.split(" | "))
    for fact in [
        "person | not wearing | helmet",
        "person | riding | four wheeler",
        "person | wearing | hat",
        "digit 7",
        "digit 3",
        "sky | is | blue",
        "dog, small | running",
        "truck or bus | parked",
        "person | with no | shoes",
        "rock and roll | playing",
    ]
]


@pytest.mark.parametrize(
    ("phrase", "queries"),
    [
        ("person not wearing helmet", "<person, not wearing, helmet>"),
        ("people not wearing helmets", "<person, not wearing, helmet>"),
        ("a person not wearing a hat", "<person, not wearing, hat>"),
        ("not wearing helmet", "<?, not wearing, helmet>"),
        ("person riding four wheeler", "<person, riding, four wheeler>"),
        ("a child riding two four wheelers", "<child, riding, four wheeler>"),
        ("digit 7", "<digit 7, ?, ?>"),
        ("a photo of digit 7 and digit 3", "<digit 7, ?, ?> + <digit 3, ?, ?>"),
        ("sky is blue", "<sky, is, blue>"),
        ("The sky is blue.", "<sky, is, blue>"),
        ("dog, small running", "<dog, small, running, ?>"),
        ("truck or bus parked", "<truck or bus, parked, ?>"),
        ("a truck or bus riding a hat", "<truck or bus, riding, hat>"),
        ("a person with no shoes", "<person, with no, shoes>"),
        ("rock and roll", "<rock and roll, ?, ?>"),
    ],
)
def test_known_facts_are_found_whatever_their_words(phrase: str, queries: str) -> None:
    assert " + ".join(map(str, read_phrase(phrase, ODD_FACTS).queries)) == queries


@pytest.mark.parametrize("fact", ODD_FACTS, ids=str)
def test_every_odd_fact_is_read_as_itself(fact: Fact) -> None:
    (query,) = read_phrase(" ".join(unit for unit in fact.units if unit), ODD_FACTS).queries
    assert query.units == fact.units


@pytest.mark.parametrize("phrase", ["dog or horse", "either a dog or a horse", "a person riding a horse or a bicycle"])
def test_alternatives_are_refused_with_advice(phrase: str) -> None:
    with pytest.raises(UserError, match="search for one thing at a time"):
        read_phrase(phrase, FACTS)


def test_a_phrase_is_read_in_linear_time() -> None:
    phrase = "dog and " * (LONGEST_REQUEST // 8)
    started = time.process_time()
    for _ in range(5):
        read_phrase(phrase, FACTS)
        read_phrase(phrase.replace("and", "the"), FACTS)
        read_phrase(phrase.replace("and", "in"), FACTS)
    assert time.process_time() - started < 2.5


def test_a_phrase_of_the_longest_length_is_read() -> None:
    phrase = "dogs " * (LONGEST_REQUEST // 5)
    assert len(read_phrase(phrase, FACTS).queries) == 1


def test_a_long_phrase_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError, match=r"15,000,000 characters, and at most 2,000") as refused:
        read_phrase("dog" * 5_000_000, FACTS)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "phrase",
    [
        "a dog without a ball",
        "no dogs",
        "a dog that isn't running",
        "a dog that isn\N{RIGHT SINGLE QUOTATION MARK}t running",
        "nobody riding a horse",
        "nothing on the beach",
        "neither dog nor horse",
    ],
)
def test_negations_are_refused_with_advice(phrase: str) -> None:
    with pytest.raises(UserError, match="after a minus"):
        read_phrase(phrase, FACTS)


@pytest.mark.parametrize(
    "forms",
    [
        "run runs running ran",
        "ride rides riding rode ridden",
        "lie lies lying lay lain",
        "carry carries carrying carried",
        "swim swims swimming swam swum",
        "hit hits hitting",
        "ski skis skiing skied",
        "dog dogs",
        "person people persons",
        "child children",
        "bus buses",
        "leaf leaves",
        "shot shots",
        "glass glasses",
    ],
)
def test_forms_of_one_word_share_a_stem(forms: str) -> None:
    assert len({stem(form) for form in forms.split()}) == 1


def test_different_words_have_different_stems() -> None:
    words = [
        "dog",
        "cat",
        "horse",
        "house",
        "bird",
        "board",
        "boat",
        "bar",
        "bear",
        "car",
        "cart",
        "bike",
        "ride",
        "read",
    ]
    assert len({stem(word) for word in words}) == len(words)


def test_visitors_who_ask_at_once_make_a_lexicon_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Lexicon] = []

    class Slow(Lexicon):
        def __init__(self, facts: Sequence[Fact]) -> None:
            made.append(self)
            time.sleep(0.02)
            super().__init__(facts)

    monkeypatch.setattr(lexicons, "Lexicon", Slow)
    monkeypatch.setattr(lexicons, "_latest", ())
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: lexicon_of(tuple(FACTS)), range(8)))
    assert len(made) == 1
    assert all(each is made[0] for each in found)


def test_attributes_are_known_predicates_without_an_object_and_no_verbs() -> None:
    lexicon = Lexicon(FACTS)
    assert lexicon.attribute(["brown"]) == "brown"
    assert lexicon.attribute(["black", "and", "white"]) == "black and white"
    assert [lexicon.attribute([word]) for word in ("running", "lay", "riding", "purple")] == [None] * 4


def test_threads_stem_words_at_the_same_time() -> None:
    words = ["riding", "horses", "running", "children"] * 500
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(stem, words)) == [stem(word) for word in words]


@pytest.mark.parametrize("phrase", ["two dogs playing together", "dogs playing outdoors", "the dogs are just playing"])
def test_how_something_is_done_is_no_object(phrase: str) -> None:
    facts = [Fact("dog", "playing"), Fact("person", "playing", "guitar")]
    assert read_phrase(phrase, facts).queries == (Query("dog", "playing"),)


def test_a_known_text_keeps_its_manner() -> None:
    assert read_phrase("two dogs playing together", [Fact("dog", "playing together")]).queries == (
        Query("dog", "playing together"),
    )
