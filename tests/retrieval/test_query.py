"""Queries as typed, and their vectors."""

from __future__ import annotations

import numpy as np
import pytest
from colour_embedder import ColourEmbedder

from tripletcl.data.facts import Fact, as_query
from tripletcl.errors import UserError
from tripletcl.retrieval import Query, UnknownUnit, parse_query, query_vectors, unknown_units


@pytest.mark.parametrize(
    ("words", "units"),
    [
        (["person", "riding", "horse"], ("person", "riding", "horse")),
        (["?", "riding", "?"], (None, "riding", None)),
        (["dog", "?", "?"], ("dog", None, None)),
        (["dog"], ("dog", None, None)),
        (["?", "riding"], (None, "riding", None)),
        (["black dog", "running"], ("black dog", "running", None)),
        (["black dog, running, ?"], ("black dog", "running", None)),
        (["black", "dog,", "running,", "?"], ("black dog", "running", None)),
        (["dog,,ball"], ("dog", None, "ball")),
        (["?,?,ball"], (None, None, "ball")),
        ("person riding horse", ("person", "riding", "horse")),
        ("  person   riding ", ("person", "riding", None)),
        ('"black dog" running ?', ("black dog", "running", None)),
        ("black dog, running, ?", ("black dog", "running", None)),
        ('"black dog" , chasing,"red ball"', ("black dog", "chasing", "red ball")),
        ("the dog's bowl, ?", ("the dog's bowl", None, None)),
        ('"dog, small" running', ("dog, small", "running", None)),
        ('"dog, small", running', ("dog, small", "running", None)),
        (
            "\N{LEFT DOUBLE QUOTATION MARK}black dog\N{RIGHT DOUBLE QUOTATION MARK} running",
            ("black dog", "running", None),
        ),
        ("<person> riding horse", ("<person>", "riding", "horse")),
    ],
)
def test_parse(words: str | list[str], units: tuple[str | None, ...]) -> None:
    assert parse_query(words).units == units


@pytest.mark.parametrize("words", [["a", "black", "dog", "running"], "a black dog running", "a, b, c, d"])
def test_too_many_units_explain_quotes_and_commas(words: str | list[str]) -> None:
    with pytest.raises(UserError, match=r'has 4 units.*quote or separate by commas.*"black dog" running \?, or black'):
        parse_query(words)


@pytest.mark.parametrize("words", [["?"], ["?", "?", "?"], "? ?", "?, ?", "", [], ",", " ", [""]])
def test_only_wildcards_ask_for_nothing(words: str | list[str]) -> None:
    with pytest.raises(UserError, match="asks for nothing"):
        parse_query(words)


def test_an_open_quote_is_named() -> None:
    with pytest.raises(UserError, match="quote that is not closed"):
        parse_query('"black dog running')


def test_a_query_of_any_origin_is_bounded_and_its_message_too() -> None:
    for make in (lambda text: Query(text), lambda text: parse_query(text), lambda text: parse_query([text, "?"])):
        with pytest.raises(UserError, match="at most 2,000 are read") as refused:
            make("x" * 10_000_000)
        assert len(str(refused.value)) < 200
    with pytest.raises(UserError, match="no text in this terminal's encoding"):
        Query("dog\udcff")
    with pytest.raises(UserError, match="has 300 units") as refused:
        parse_query("a " * 300)
    assert len(str(refused.value)) < 300


def test_other_types_are_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match="a query is a text, a Query or a Fact, not int"):
        as_query(5)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="the predicate of a query is a text or None, not 5"):
        Query("dog", 5)  # type: ignore[arg-type]


def test_a_query_tidies_its_units_and_shows_its_wildcards() -> None:
    query = Query(" black  dog ", "?")
    assert query == Query("black dog")
    assert str(query) == "<black dog, ?, ?>"


def test_a_fact_asks_for_the_units_it_has() -> None:
    assert as_query(Fact("person", "riding")) == Query("person", "riding")


def test_a_query_matches_the_facts_that_have_its_units() -> None:
    facts = [Fact("Person"), Fact("person", "riding"), Fact("person", "riding", "horse"), Fact("dog", "riding")]
    matched = [
        [str(fact) for fact in facts if query.matches(fact)] for query in map(parse_query, ("person", "? riding"))
    ]
    assert matched == [list(map(str, facts[:3])), list(map(str, facts[1:]))]


def test_a_wildcard_is_a_zero_block(embedder: ColourEmbedder) -> None:
    assert query_vectors([Query("red", None, "blue")], embedder).tolist() == [[1, 0, 0, 0, 0, 0, 0, 0, 1]]
    assert query_vectors([Query(predicate="green")], embedder).tolist() == [[0, 0, 0, 0, 1, 0, 0, 0, 0]]


def test_many_queries_encode_each_text_once_for_each_unit(embedder: ColourEmbedder) -> None:
    queries = [Query("red", "blue"), Query(None, "red", "blue"), Query("red")]
    vectors = query_vectors(queries, embedder)
    assert embedder.texts_read == ["red", "blue", "red", "blue"]  # a subject, two predicates, an object
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, np.concatenate([query_vectors([query], embedder) for query in queries]))
    assert len(query_vectors([], embedder)) == 0


def test_unknown_units_come_with_the_nearest_known_one_of_their_kind(embedder: ColourEmbedder) -> None:
    vocabulary = (("green", "red"), ("Dark Red",), ())
    query = Query("dark red", "dark red", "blue")
    subject, object_ = unknown_units(query, embedder, vocabulary)
    assert subject == UnknownUnit("subject", "dark red", "red", pytest.approx(200 / np.hypot(200, 40)))
    assert object_ == UnknownUnit("object", "blue", None, None)


def test_nothing_is_unknown_without_a_vocabulary_or_for_a_wildcard(embedder: ColourEmbedder) -> None:
    assert unknown_units(Query("dark red"), embedder, None) == []
    assert unknown_units(Query("red"), embedder, (("red",), ("green",), ("blue",))) == []
    assert embedder.texts_read == []
