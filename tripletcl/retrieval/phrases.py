"""Queries in plain English: "two dogs running on the beach" means <dog, running on, beach>."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tripletcl.data.facts import UNITS, Fact, Query, check_request
from tripletcl.data.words import PUNCTUATION, word_set
from tripletcl.errors import UserError, excerpt
from tripletcl.retrieval.lexicon import (
    FILLERS,
    OBJECT,
    PREDICATE,
    SUBJECT,
    Lexicon,
    content_words,
    lexicon_of,
)

OPENING = re.compile(
    r"^\W*((please\s+)?(show|find|give)(\s+me)?\s+|(search|look)\s+for\s+)?"
    r"((an?|the|some|all|my|our)\s+)*(photo|picture|image)(graph)?s?(\s+(of|showing|with)\b|\W*$)"
    r"|^\W*(please\s+)?(show|find|give)\s+me\b|^\W*(search|look)\s+for\b",
    re.IGNORECASE,
)
"""What says no more than that photos are looked for."""
COUNTS = word_set("one two three four five six seven eight nine ten several many few both")
GROUPS = word_set("group groups couple pair pairs crowd bunch lot lots number")
"""Counts if "of" follows."""
NEGATIONS = word_set("no not without except never cannot nobody none nothing nowhere neither nor lacking minus")
ALTERNATIVES = word_set("or either | ||")
MANNERS = word_set(
    "together alone apart outdoors indoors quickly slowly happily sadly fast away somewhere everywhere anywhere here "
    "there now today very really just only also"
)
"""Words of how and where that no photo is told apart by: "two dogs playing together"."""
PREPOSITIONS = word_set(
    "about above across against along among around at behind below beneath beside between by down for from in inside "
    "into near of off on onto out outside over past through to towards under up upon with"
)

Words = Sequence[str]


@dataclass(frozen=True, slots=True)
class Reading:
    """The meaning of a phrase.

    Attributes:
        queries: A photo should show all of them.
        left_out: Words that belong to no unit.
    """

    queries: tuple[Query, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Noun:
    """A subject or an object with its attribute and its phrases: `brown` dog `in the snow`."""

    text: str | None = None
    attribute: str | None = None
    phrases: tuple[tuple[str, ...], ...] = ()


def read_phrase(phrase: str, facts: Sequence[Fact] = ()) -> Reading:
    """Read a phrase by the words of the facts that a model knows.

    Known subjects, predicates and objects are found in any form (`rides`, `dogs`), the longest first, and take the
    model's spelling. A new word keeps its text, and its unit follows from its position: the subject comes before a verb
    in -ing or a preposition, the object after it. A noun for who does what is known stands for that: a horse rider is
    `<?, riding, horse>`. No word is replaced by a synonym. "and" joins two queries; so do a known thing after a
    preposition (riding a horse `on the beach`) and a known attribute (a `brown` dog running).

    Args:
        phrase: Words.
        facts: The facts that the model knows; without any, up to three words are the units in order.

    Raises:
        UserError: the phrase is too long, or has no content, a negation or an alternative.
    """
    phrase, lexicon = check_request(phrase), lexicon_of(tuple(facts))
    if known := lexicon.fact_named(_asked(phrase, lexicon).strip(PUNCTUATION)):
        return Reading((Query(*known),))
    readings = [_read_clause(clause, lexicon) for clause in _clauses(_words(phrase, lexicon), lexicon)]
    queries = dict.fromkeys(query for reading in readings for query in reading.queries)
    if not queries:
        raise UserError(
            f"the phrase {excerpt(phrase)} asks for nothing; say what a photo shows, as in 'a dog on the beach'"
        )
    return Reading(tuple(queries), tuple(word for reading in readings for word in reading.left_out))


# --- from a phrase to clauses ----------------------------------------------------------------------------------------


def _asked(phrase: str, lexicon: Lexicon) -> str:
    """The phrase without its opening; a single word that the model knows, such as `pictures`, is none."""
    word = phrase.strip(PUNCTUATION)
    return phrase if lexicon.has(word) or lexicon.find([word], SUBJECT, OBJECT) else OPENING.sub("", phrase)


def _words(phrase: str, lexicon: Lexicon) -> list[str]:
    words = [word.strip(PUNCTUATION) for word in _asked(phrase, lexicon).split()]
    words = lexicon.join_known(["and" if word == "&" else word for word in words if word], _is_special)
    for word in (word for word in words if not lexicon.has(word)):
        form = word.casefold().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        if form in NEGATIONS or form.endswith("n't"):
            raise UserError(
                f"{excerpt(word)} in {excerpt(phrase)} cannot be read; write what a photo must not show after a minus, "
                "as in dog running ? - ? ? snow"
            )
        if form in ALTERNATIVES:
            raise UserError(
                f"{excerpt(word)} in {excerpt(phrase)} cannot be read; search for one thing at a time, as in dog "
                "running, then horse running"
            )
    words = [word for word in content_words(words) if word.casefold() not in MANNERS or lexicon.has(word)]
    return [word for word in words if any(map(str.isalnum, word)) or lexicon.has(word)] or words  # "dog" and its emoji


def _is_special(word: str) -> bool:
    """True for a word that is no part of a unit unless a known text has it."""
    word = word.casefold()
    return word.isdigit() or any(word in words for words in (COUNTS, NEGATIONS, ALTERNATIVES, FILLERS, MANNERS))


def _clauses(words: Words, lexicon: Lexicon) -> Iterator[Words]:
    """Split at each "and" that is not inside a known text, such as "black and white"."""
    known = lexicon.positions(words, SUBJECT, PREDICATE, OBJECT)
    start = 0
    for position, word in enumerate(words):
        if word.casefold() == "and" and position not in known:
            yield words[start:position]
            start = position + 1
    yield words[start:]


# --- from a clause to queries ----------------------------------------------------------------------------------------


def _read_clause(words: Words, lexicon: Lexicon) -> Reading:
    words, counts = _split_counts(words, lexicon)
    if known := lexicon.fact_named(" ".join(words)):
        return Reading((Query(*known),), counts)
    if lexicon.in_order(words) or (not lexicon.facts and len(words) <= len(UNITS)):
        return Reading((Query(*words),) if words else (), counts)
    if (agent := _read_agent(words, lexicon)) is not None:
        return Reading((agent,), counts)
    before, verb, after = _split_at_verb(words, lexicon)
    subject, object_ = _read_noun(before, lexicon, SUBJECT), _read_noun(after, lexicon, OBJECT)
    predicate, attribute = _verb_text(verb, lexicon), subject.attribute
    if not predicate and not object_.text:
        predicate, attribute = attribute, None  # "a brown dog"
    units = (subject.text, predicate, object_.text)
    queries = [Query(*units)] if any(units) else []
    if attribute:
        queries.append(Query(subject.text, attribute))
    left_out = [*counts]
    for preposition, *rest in (*subject.phrases, *object_.phrases):
        if thing := lexicon.find(rest, OBJECT, SUBJECT):
            queries.append(Query(object=thing))
        else:
            left_out += [preposition, *rest]
    return Reading(tuple(queries), tuple(left_out))


def _read_agent(words: Words, lexicon: Lexicon) -> Query | None:
    """Read "horse rider" as `<?, riding, horse>`, if riding is known; None for other phrases."""
    if not words or any(word.casefold() in PREPOSITIONS for word in words):
        return None
    thing = _read_noun(words[:-1], lexicon, OBJECT).text
    predicate = lexicon.done_by(words[-1], thing)
    return None if predicate is None else Query(None, predicate, thing)


def _split_counts(words: Words, lexicon: Lexicon) -> tuple[Words, tuple[str, ...]]:
    """Separate counts from the other words: the text vectors of "two dogs" and "three dogs" rank photos alike."""
    kept: list[str] = []
    counts: list[str] = []
    position = 0
    while position < len(words):
        word, of = words[position].casefold(), words[position + 1 : position + 2] == ["of"]
        counted = (word.isdigit() or word in COUNTS or (of and word in GROUPS)) and not lexicon.has(word)
        end = position + 1 + (counted and of)
        (counts if counted else kept).extend(words[position:end])
        position = end
    return kept, tuple(counts)


def _split_at_verb(words: Words, lexicon: Lexicon) -> tuple[Words, Words, Words]:
    """The words of the subject, the verb with its prepositions, and the words of the object."""
    start, end = _find_verb(words, lexicon)
    before, verb, after = words[:start], words[start:end], words[end:]
    if not verb:
        return _split_without_verb(words, lexicon)
    if not before and lexicon.is_done_by(verb, after):
        return after, verb, before  # "a running dog"
    if len(verb) > 1 and verb[-1].casefold() == "by" and not _ends_in_ing(verb[0]):
        return after, verb[:-1], before  # "a ball carried by a dog"
    return before, verb, after


def _find_verb(words: Words, lexicon: Lexicon) -> tuple[int, int]:
    """The positions [start, end) of the verb with the prepositions after it; (0, 0) without a verb.

    A known predicate is preferred to a new verb in -ing, and one after a subject to one at the start of the clause.
    """
    known = [
        (start, end)
        for start, end in lexicon.spans(words, PREDICATE)
        if not lexicon.attribute(words[start:end]) or (start and end == len(words))  # "brown dog", but "dog is brown"
    ]
    new = [(at, at + 1) for at, word in enumerate(words) if _ends_in_ing(word) and not lexicon.is_noun(word)]
    start, end = min([*known, *new], key=lambda span: span[0] == 0, default=(0, 0))  # min returns the first of equals
    while 0 < end < len(words) and words[end].casefold() in PREPOSITIONS:
        end += 1
    return start, end


def _split_without_verb(words: Words, lexicon: Lexicon) -> tuple[Words, Words, Words]:
    """Split at a preposition, which may mean any predicate, or after a known subject."""
    nouns = lexicon.positions(words, SUBJECT, OBJECT)
    first = next((end for start, end in lexicon.spans(words, SUBJECT) if start == 0), 0)
    for at, word in enumerate(words):
        if word.casefold() in PREPOSITIONS and at not in nouns:
            if 0 < first < at and nouns.isdisjoint(range(first, at)):
                return words[:first], words[first : at + 1], words[at + 1 :]  # "a dog swims through the river"
            return words[:at], (), words[at + 1 :]  # "a cyclist on a bike"
    if 0 < first < len(words):
        rest = words[first:]
        last = next((start for start, end in lexicon.spans(rest, OBJECT) if end == len(rest)), 1)
        return words[:first], rest[:last], rest[last:]  # "person horse", "person juggles torches"
    if len(words) == len(UNITS) and not lexicon.positions(words, SUBJECT, PREDICATE, OBJECT):
        return words[:1], words[1:2], words[2:]
    if lexicon.find(words, PREDICATE) and not nouns:
        return (), words, ()  # "brown"
    is_object = lexicon.end_of(words, OBJECT) < lexicon.end_of(words, SUBJECT)
    return ((), (), words) if is_object else (words, (), ())


def _verb_text(verb: Words, lexicon: Lexicon) -> str | None:
    """The verb with its longest known beginning as known: `jumps into` is `jumping into`."""
    for end in range(len(verb), 0, -1):
        if known := lexicon.find(verb[:end], PREDICATE):
            return " ".join([known, *verb[end:]])
    return " ".join(verb) or None


def _read_noun(words: Words, lexicon: Lexicon, unit: int) -> _Noun:
    """Read a subject or an object, cut at prepositions; a known text at its end takes the known spelling."""
    units = (SUBJECT, OBJECT) if unit == SUBJECT else (OBJECT, SUBJECT)
    known_words = lexicon.positions(words, *units)
    cuts = [at for at, word in enumerate(words) if word.casefold() in PREPOSITIONS and at not in known_words]
    phrases = tuple(tuple(words[start:end]) for start, end in pairwise([*cuts, len(words)]))
    head = list(words[: cuts[0]]) if cuts else list(words)
    start = lexicon.end_of(head, *units)
    attributes = head[: min(start, len(head) - 1)] if unit == SUBJECT else []
    spans = (span for span in lexicon.spans(attributes, PREDICATE) if lexicon.attribute(attributes[slice(*span)]))
    first, last = next(spans, (0, 0))
    attribute = lexicon.attribute(head[first:last])
    noun, known = head[:first] + head[last:start], lexicon.find(head[start:], *units)
    return _Noun(" ".join([*noun, known or " ".join(head[start:])]).strip() or None, attribute, phrases)


def _ends_in_ing(word: str) -> bool:
    return word.casefold().endswith("ing") and len(word) > len("thing")
