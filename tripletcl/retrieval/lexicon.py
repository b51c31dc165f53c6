"""The words of the facts that a model knows, found in any of their forms."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.words import ARTICLES, split_words, stem, word_set

SUBJECT, PREDICATE, OBJECT = range(len(UNITS))


FILLERS = word_set(
    "a an the this that these those some any another other is are was were be being been there who which he she it "
    "they i we you his her its their my our your someone somebody something anyone anybody anything"
)
"""Words without content: "someone riding a horse" has any subject."""

SHAPES = ((0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2))
"""The units that a phrase may name: one before several, so that the longest known text is preferred."""

KEPT = 4
"""Lexicons that are kept."""


def content_words(words: Sequence[str]) -> list[str]:
    """The words that are no fillers."""
    return [word for word in words if word and word.casefold() not in FILLERS]


class Lexicon:
    """The units of facts by their words, as spelled and by their stems.

    Args:
        facts: The facts that a model has learned.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = facts
        self._spelled: list[dict[tuple[str, ...], str]] = [{} for _ in UNITS]
        self._stemmed: list[dict[tuple[str, ...], str]] = [{} for _ in UNITS]
        self._whole: dict[tuple[str, ...], str] = {}  # texts by the stems of all their words, fillers included
        units = dict.fromkeys((unit, text) for fact in facts for unit, text in enumerate(fact.units) if text)
        for unit, text in units:
            every = split_words(text.casefold())
            words = content_words(every) or every
            self._spelled[unit].setdefault(tuple(words), text)
            self._spelled[unit].setdefault((" ".join(every),), text)
            self._stemmed[unit].setdefault(tuple(map(stem, words)), text)
            self._whole.setdefault(tuple(map(stem, every)), " ".join(every))
        self._nouns = {word for unit in (SUBJECT, OBJECT) for words in self._spelled[unit] for word in words}
        keys = chain(self._whole, *self._spelled)
        self._longest = max(map(len, keys), default=0)
        self._with_object = {fact.predicate for fact in facts if fact.object is not None}
        self._known: dict[str, tuple[str | None, ...]] = {}
        for shape in SHAPES:
            for fact in facts:
                chosen = tuple(text if unit in shape else None for unit, text in enumerate(fact.units))
                if all(chosen[unit] for unit in shape):
                    self._known.setdefault(_plain(filter(None, chosen)), chosen)

    def fact_named(self, text: str) -> tuple[str | None, ...] | None:
        """The units of a known fact that a text spells one after another, whatever their words; None if it does not."""
        return self._known.get(_plain([text]))

    def join_known(self, words: Sequence[str], special: Callable[[str], bool]) -> list[str]:
        """Replace known texts that have a special word by one word each, the longest first: `four wheeler`."""
        stems, joined, start = [stem(word) for word in words], [], 0
        while start < len(words):
            ends = range(min(start + self._longest, len(words)), start, -1)
            spans = (end for end in ends if tuple(stems[start:end]) in self._whole)
            end = next((end for end in spans if any(map(special, words[start:end]))), start)
            joined.append(self._whole[tuple(stems[start:end])] if end > start else words[start])
            start = max(end, start + 1)
        return joined

    def end_of(self, words: Sequence[str], *units: int) -> int:
        """The position where the longest known text at the end of some words begins; their number without one."""
        starts = range(max(0, len(words) - self._longest), len(words))
        return next((start for start in starts if self.find(words[start:], *units)), len(words))

    def find(self, words: Sequence[str], *units: int) -> str | None:
        """Find the known text with these words, in any form, in the first of the units that has it.

        Words that spell any known text are no form of another: `drink` is not `drinking`.
        """
        if len(words) > self._longest:
            return None
        spelled = tuple(word.casefold() for word in words)
        if any(spelled in texts for texts in self._spelled):
            return next((self._spelled[unit][spelled] for unit in units if spelled in self._spelled[unit]), None)
        stemmed = tuple(map(stem, words))
        return next((self._stemmed[unit][stemmed] for unit in units if stemmed in self._stemmed[unit]), None)

    def spans(self, words: Sequence[str], *units: int) -> list[tuple[int, int]]:
        """The positions [start, end) of known texts among the words: the longest first, then the first."""
        spans = [
            (start, end)
            for start in range(len(words))
            for end in range(start + 1, min(start + self._longest, len(words)) + 1)
            if self.find(words[start:end], *units)
        ]
        return sorted(spans, key=lambda span: (span[0] - span[1], span[0]))

    def positions(self, words: Sequence[str], *units: int) -> set[int]:
        """The positions of the words that are part of a known text."""
        return {position for start, end in self.spans(words, *units) for position in range(start, end)}

    def in_order(self, words: Sequence[str]) -> bool:
        """True if each word, as spelled, is known in the unit of its position."""
        return len(words) <= len(UNITS) and all(
            (word.casefold(),) in texts for word, texts in zip(words, self._spelled, strict=False)
        )

    def has(self, word: str) -> bool:
        """True if a word, as spelled, is a known text."""
        return any((word.casefold(),) in texts for texts in self._spelled)

    def attribute(self, words: Sequence[str]) -> str | None:
        """Find the known predicate with these words, if it describes a property (`brown`) and no action.

        Such a predicate has no object in any fact, and is no verb in -ing.
        """
        text = self.find(words, PREDICATE)
        is_verb = text is not None and any(word.endswith("ing") for word in text.casefold().split())
        return None if is_verb or text in self._with_object else text

    def is_noun(self, word: str) -> bool:
        """True if the word, as spelled, is part of a known subject or object."""
        return word.casefold() in self._nouns

    def done_by(self, agent: str, thing: str | None) -> str | None:
        """Find the known predicate of which a noun in -er names who does it: `riding` for a `rider`.

        Args:
            agent: The noun.
            thing: The known object that it is done to; one that a fact joins with the predicate decides between
                several, as "beach runner" between `running in` and `running on`.
        """
        agent = agent.casefold()
        if self.is_noun(agent) or not agent.endswith("er"):
            return None
        verbs = {f"{agent[:-2]}ing", f"{agent[:-3]}ying" if agent.endswith("ier") else ""}
        done = [fact for fact in self.facts if fact.predicate and fact.predicate.casefold().split()[0] in verbs]
        with_thing = [fact for fact in done if thing is not None and fact.object == thing]
        return next((fact.predicate for fact in [*with_thing, *done]), None)

    def is_done_by(self, predicate: Sequence[str], noun: Sequence[str]) -> bool:
        """True if a noun after a predicate is its subject (`running dog`), not its object (`walking a dog`)."""
        as_subject = (self.find(noun, SUBJECT), self.find(predicate, PREDICATE))
        as_object = (as_subject[1], self.find(noun, OBJECT))
        return any(fact.units[:2] == as_subject for fact in self.facts) and not any(
            fact.units[1:] == as_object for fact in self.facts
        )


_latest: tuple[Lexicon, ...] = ()
_making = threading.Lock()


def lexicon_of(facts: tuple[Fact, ...]) -> Lexicon:
    """The lexicon of some facts; the latest are kept, since every phrase that is typed needs one.

    The same tuple is known by its identity: to hash thousands of facts takes longer than to read a phrase.
    """
    global _latest
    if (same := next((each for each in _latest if each.facts is facts), None)) is not None:
        return same
    with _making:  # visitors who ask at once make it once
        found = next((each for each in _latest if each.facts == facts), None) or Lexicon(facts)
        if found not in _latest:
            _latest = (found, *_latest[: KEPT - 1])
        return found


def _plain(texts: Iterable[str]) -> str:
    words = " ".join(texts).casefold().split()
    return " ".join(word for word in words if word not in ARTICLES)
