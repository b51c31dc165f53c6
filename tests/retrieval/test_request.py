"""Requests as typed, and the photos that fit them, against a slow and obvious calculation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from colour_embedder import COLOURS, ColourEmbedder
from torch import Tensor

from tripletcl.data.facts import Fact
from tripletcl.errors import UserError
from tripletcl.retrieval import Calibration, FactIndex, Query, Request, Term, answer, notes_on, parse_request
from tripletcl.retrieval.calibration import Isotonic, Logistic

FACTS = [
    Fact("dog", "running"),
    Fact("dog", "running in", "snow"),
    Fact("person", "riding", "horse"),
    Fact("dog", "brown"),
]
CURVES = {
    "any": Logistic(4, -2),
    "S": Logistic(9, -5),
    "SP": Logistic(7, -5),
    "SPO": Logistic(12, -9),
    "O": Logistic(5, -3),
    "photo": Logistic(20, -17),
}
CALIBRATION = Calibration("colours-1", CURVES, {"any": Isotonic([0], [0])}, 1)


# Typing


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        # What is exact
        (["person", "riding", "horse"], "<person, riding, horse>"),
        (["?", "riding", "?"], "<?, riding, ?>"),
        (["two dogs", "running"], "<two dogs, running, ?>"),
        ("two dogs, running", "<two dogs, running, ?>"),
        ('"brown dog" running', "<brown dog, running, ?>"),
        ("dogs ?", "<dogs, ?, ?>"),
        (["brown dog, ?"], "<brown dog, ?, ?>"),
        # What is English
        ("dogs running", "<dog, running, ?>"),
        (["dogs running"], "<dog, running, ?>"),
        (["dogs", "running"], "<dog, running, ?>"),
        (["a brown dog"], "<dog, brown, ?>"),
        ("a person riding a brown horse", "<person, riding, brown horse>"),
        ("cyclist on a bike", "<cyclist, ?, bike>"),
        ("is a dog running?", "<dog, running, ?>"),
        # Several terms
        ("person riding horse + dog running ?", "<person, riding, horse> + <dog, running, ?>"),
        (["dog", "running", "?", "-", "?", "?", "snow"], "<dog, running, ?> - <?, ?, snow>"),
        ("- ? ? snow + dog", "- <?, ?, snow> + <dog, ?, ?>"),
        ("+ dog", "<dog, ?, ?>"),
        ("+dog +snow", "<dog, ?, ?> + <?, ?, snow>"),
        (["a dog in the snow", "-", "a person riding a horse"], "<dog, ?, snow> - <person, riding, horse>"),
        (["two dogs", "running", "+", "person"], "<two dogs, running, ?> + <person, ?, ?>"),
        ("a brown dog running - snow", "<dog, running, ?> + <dog, brown, ?> - <?, ?, snow>"),
        ('"a + b", ? - snow', "<a + b, ?, ?> - <?, ?, snow>"),
        ("hang-glider", "<hang-glider, ?, ?>"),
        # Signs as people type them
        ("dog -snow", "<dog, ?, ?> - <?, ?, snow>"),
        (["dog", "-snow"], "<dog, ?, ?> - <?, ?, snow>"),
        ("dog -snow running", "<dog, running, ?> - <?, ?, snow>"),
        ("dog running !snow", "<dog, running, ?> - <?, ?, snow>"),
        ('dog running -"brown horse" ?', "<dog, running, ?> - <brown horse, ?, ?>"),
        ("dog running \N{EN DASH} snow", "<dog, running, ?> - <?, ?, snow>"),
        ("dog running \N{MINUS SIGN}snow", "<dog, running, ?> - <?, ?, snow>"),
        ('"dog, small" running', "<dog, small, running, ?>"),
        ("\N{LEFT DOUBLE QUOTATION MARK}brown dog\N{RIGHT DOUBLE QUOTATION MARK} running", "<brown dog, running, ?>"),
    ],
)
def test_parse_request(words: str | list[str], expected: str) -> None:
    assert str(parse_request(words, FACTS)) == expected


@pytest.mark.parametrize("words", ["dogs running", "person riding a horse + dog - snow", "two dogs, running"])
def test_what_an_answer_prints_is_read_as_the_same(words: str) -> None:
    request = parse_request(words, FACTS)
    assert parse_request(str(request), FACTS) == request


def test_a_known_text_with_a_comma_is_a_unit_of_a_command_line() -> None:
    facts = [*FACTS, Fact("dog, small", "running")]
    for words in (["dog, small", "running"], ["dog, small running"], "dog, small running", '"dog, small", running'):
        assert parse_request(words, facts).terms == (Term(Query("dog, small", "running")),)


def test_a_sign_in_a_known_fact_excludes_nothing() -> None:
    facts = [Fact("dog - cat"), Fact("rock + roll", "playing")]
    assert str(parse_request("Dog - cat", facts)) == "<dog - cat, ?, ?>"
    assert str(parse_request(["rock + roll", "playing"], facts)) == "<rock + roll, playing, ?>"
    assert str(parse_request("dog - bird", facts)) == "<dog, ?, ?> - <bird, ?, ?>"


def test_messages_repeat_an_excerpt_only() -> None:
    for words in ('"' + "dog " * 400, "dog +" + " a" * 900 + " +", "dog - " + "a brown dog running " * 80):
        with pytest.raises(UserError) as refused:
            parse_request(words, FACTS)
        assert len(str(refused.value)) < 300


def test_photos_are_terms() -> None:
    request = parse_request("dog", FACTS, like=["a.jpg"], unlike=["b.jpg"])
    assert request.terms == (Term(Query("dog")), Term(Path("a.jpg")), Term(Path("b.jpg"), excluded=True))
    assert str(request) == "<dog, ?, ?> + like a.jpg - like b.jpg"
    assert str(parse_request(like=["a.jpg"])) == "like a.jpg"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "the request is empty"),
        ([], "the request is empty"),
        ("- ? ? snow", "only what photos are not to show"),
        (["-", "dog", "-", "snow"], "only what photos are not to show"),
        ("? ?", "asks for nothing"),
        ("dog + ? ? ?", "asks for nothing"),
        ("the", "asks for nothing"),
        ("dog +", r"nothing follows a \+"),
        ("dog - + snow", "nothing follows a -"),
        ("a, b, c, d", "has 4 units"),
        ('"dog', "not closed"),
        ("dog - a brown dog running", "put a minus before each"),
        ("a dog without snow", "after a minus"),
        ("dog or snow", "one thing at a time"),
        ("dog + " * 1000, "at most 2,000 are read"),
        ("dog\udcff", r"'dog\\udcff' has bytes that are no text"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_in_a_sentence(words: str | list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_request(words, FACTS)


def test_an_excluded_example_is_not_enough() -> None:
    with pytest.raises(UserError, match="only what photos are not to show"):
        parse_request(unlike=["a.jpg"])


def test_notes_name_new_words_and_those_left_out(embedder: ColourEmbedder) -> None:
    vocabulary = (("red", "green"), ("green",), ())
    request = parse_request("two dark red, ? + red green - ? ? blue", [])
    assert notes_on(Request((Term(Query("dark red", "green")),), ("two",)), embedder, vocabulary) == [
        "left out: two",
        "'dark red' was never trained as a subject: answered by the text encoder (nearest known: red, cosine 0.98)",
    ]
    (note,) = notes_on(Request(request.terms[1:]), embedder, vocabulary)
    assert note == "'blue' was never trained as an object: answered by the text encoder"
    assert notes_on(request, embedder, None) == []


# Answering


@pytest.fixture
def index(embedder: ColourEmbedder, photo: Callable[..., Path]) -> FactIndex:
    """Every photo of three colours, one of them twice."""
    for colours in itertools.product(COLOURS, repeat=3):
        photo(f"{'-'.join(colours)}.png", *colours)
    return FactIndex.build(embedder, photo("red-red-red again.png", "red", "red", "red").parent)


def cosine(one: str, other: str) -> float:
    a, b = COLOURS[one], COLOURS[other]
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def colours_of(path: Path) -> list[str]:
    return path.stem.removesuffix(" again").split("-")


def mean_cosine(path: Path, wanted: Query | Path) -> float:
    units = wanted.units if isinstance(wanted, Query) else colours_of(wanted)
    cosines = [cosine(colour, unit) for colour, unit in zip(colours_of(path), units, strict=True) if unit]
    return sum(cosines) / len(cosines)


def kind(wanted: Query | Path) -> str:
    return "".join("SPO"[i] for i in range(3) if wanted.units[i]) if isinstance(wanted, Query) else "photo"


def slow_answer(index: FactIndex, request: Request) -> dict[Path, float]:
    """Each photo's probability, one by one."""
    examples = {term.wanted for term in request.terms}
    totals = {}
    for path in index.photos:
        total = 1.0
        for term in request.terms:
            curve = CURVES.get(kind(term.wanted), CURVES["any"])
            p = 1 / (1 + math.exp(-(curve.slope * mean_cosine(path, term.wanted) + curve.offset)))
            total *= 1 - p if term.excluded else p
        if path not in examples:
            totals[path] = total
    return totals


REQUESTS = [
    "red green ? + ? ? blue",
    "red + ? green ? + ? ? dark, ?",
    "red green blue - ? ? blue",
    "- red + ? green blue",
    "? red ? + ? ? green - blue ? blue - green red ?",
]


@pytest.mark.parametrize("typed", [request for request in REQUESTS if "dark" not in request])
@pytest.mark.parametrize("k", [1, 7, 1000])
def test_several_terms_are_ranked_by_the_product_of_probabilities(index: FactIndex, typed: str, k: int) -> None:
    request = parse_request(typed)
    expected = slow_answer(index, request)
    hits = answer(index, request, k, CALIBRATION)
    best = sorted(expected, key=lambda path: (-np.float32(expected[path]), path))[:k]
    assert [hit.score for hit in hits] == pytest.approx([expected[path] for path in best], rel=1e-5)
    assert [hit.score for hit in hits] == pytest.approx([expected[hit.path] for hit in hits], rel=1e-5)
    assert len({hit.path for hit in hits}) == len(best)


def test_an_example_is_a_term_and_is_not_found_itself(index: FactIndex) -> None:
    example = next(path for path in index.photos if path.stem == "red-green-blue")
    for request in (
        parse_request("? ? red", like=[example]),
        parse_request("red", unlike=[example]),
        parse_request("? green ? - ? ? green", like=[example]),
    ):
        expected = slow_answer(index, request)
        hits = answer(index, request, 9, CALIBRATION)
        assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:9], rel=1e-5)
        assert example not in {hit.path for hit in hits}


def test_one_term_is_searched_like_a_query(index: FactIndex) -> None:
    for typed in ("red green ?", "? ? blue"):
        assert answer(index, parse_request(typed), 6, CALIBRATION) == index.search(typed, 6)
    example = next(path for path in index.photos if path.stem == "red-green-blue")
    first, *_ = answer(index, parse_request(like=[example]), 3)
    assert first.score == pytest.approx(2 + cosine("dark red", "red"))
    assert colours_of(first.path) == ["dark red", "green", "blue"]


def test_without_a_calibration_scores_are_standardised(index: FactIndex) -> None:
    request = parse_request("red green ? - ? ? blue")
    scores = np.array([[mean_cosine(path, term.wanted) for term in request.terms] for path in index.photos])
    z = (scores - scores.mean(0)) / scores.std(0)
    p = 1 / (1 + np.exp(-1.4 * (z - z.max(0).clip(max=4))))
    expected = dict(zip(index.photos, p[:, 0] * (1 - p[:, 1]), strict=True))
    hits = answer(index, request, 5)
    assert [hit.score for hit in hits] == pytest.approx(sorted(expected.values(), reverse=True)[:5], rel=1e-4)
    assert [colours_of(hit.path)[:2] for hit in hits[:3]] == [["red", "green"]] * 3
    assert "blue" not in {colours_of(hit.path)[2] for hit in hits[:3]}


def test_equal_photos_are_ordered_by_path_and_removed_ones_are_not_found(index: FactIndex) -> None:
    request = parse_request("red red red - ? ? blue")
    twice = [hit.path.name for hit in answer(index, request, 2, CALIBRATION)]
    assert twice == ["red-red-red again.png", "red-red-red.png"]
    index.remove([path for path in index.photos if path.name == "red-red-red again.png"])
    assert answer(index, request, 1, CALIBRATION)[0].path.name == "red-red-red.png"


def test_an_unreadable_example_no_model_and_no_photo(index: FactIndex, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        answer(index, parse_request("red", like=[tmp_path / "missing.png"]))
    with pytest.raises(UserError, match="k must be at least 1, not 0"):
        answer(index, parse_request("red - blue"), 0)
    assert answer(FactIndex(ColourEmbedder()), parse_request("red - blue")) == []
    index.embedder = None
    with pytest.raises(UserError, match="without a model"):
        answer(index, parse_request("red - blue"))


# An index that proposes candidates


class Words:
    """Texts as random directions."""

    def encode_units(self, texts: Sequence[str], unit: int | None = None) -> Tensor:
        vectors = [np.random.default_rng(list(text.encode())).standard_normal(24) for text in texts]
        return torch.nn.functional.normalize(torch.tensor(np.stack(vectors)).float(), dim=-1)

    def fingerprint(self) -> str:
        return "words"


class Approximate(FactIndex):
    """Claims to be approximate, so that `answer` asks it for candidates."""

    kind = "hnsw"


def test_candidates_of_an_approximate_index_are_scored_exactly() -> None:
    vectors = np.random.default_rng(0).standard_normal((4000, 3, 24)).astype(np.float32)
    paths = [f"{row:04}.jpg" for row in range(len(vectors))]
    flat, approximate = FactIndex(), Approximate()
    for index in (flat, approximate):
        index.add(paths, vectors)
        index.embedder = Words()
    shared = 0
    for typed in ("a b ? + ? ? c", "a b c - ? ? d", "? e ? + f ? ? - ? ? g"):
        exact = answer(flat, parse_request(typed), 10, CALIBRATION)
        near = answer(approximate, parse_request(typed), 10, CALIBRATION)
        scores = {hit.path: hit.score for hit in answer(flat, parse_request(typed), 4000, CALIBRATION)}
        assert [hit.score for hit in near] == [scores[hit.path] for hit in near]
        shared += len(set(exact) & set(near))
    assert shared >= 28
