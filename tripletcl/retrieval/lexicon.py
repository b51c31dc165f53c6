"""The words that a model knows, found in any of their forms."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache
from typing import Any

from tripletcl.data.facts import UNITS, Fact

SUBJECT, PREDICATE, OBJECT = range(len(UNITS))


def word_set(words: str) -> frozenset[str]:
    """Words written one after another."""
    return frozenset(words.split())


FILLERS = word_set(
    "a an the this that these those some any another other is are was were be being been there who which he she it "
    "they i we you his her its their my our your someone somebody something anyone anybody anything"
)
"""Words that ask for nothing: "someone riding a horse" has any subject."""

IRREGULAR_FORMS = """
be am is are was were been being, beat beaten, begin began begun, bend bent, bind bound, bite bit bitten, blow blew
blown, break broke broken, bring brought, build built, burst, buy bought, catch caught, choose chose chosen, come
came, creep crept, cut, deal dealt, dig dug, dive dove dived, do does did done, draw drew drawn, drink drank drunk,
drive drove driven, eat ate eaten, fall fell fallen, feed fed, feel felt, fight fought, find found, flee fled, fling
flung, fly flew flown flies, forget forgot forgotten, freeze froze frozen, get got gotten, give gave given, go goes
went gone, grind ground, grow grew grown, hang hung, have has had having, hear heard, hide hid hidden, hit, hold held,
hurt, keep kept, kneel knelt, know knew known, lay laid, lead led, lean leant, leap leapt, leave left, lend lent, let,
lie lay lain, light lit, lose lost, make made, meet met, pay paid, put, read, ride rode ridden, ring rang rung, rise
rose risen, run ran, say said, see saw seen, sell sold, send sent, set, sew sewn, shake shook shaken, shine shone,
shoot shot, show shown, shut, sing sang sung, sink sank sunk, sit sat, sleep slept, slide slid, sling slung, speak
spoke spoken, spend spent, spin spun, spit spat, split, spread, spring sprang sprung, stand stood, steal stole stolen,
stick stuck, sting stung, stride strode, strike struck stricken, string strung, sweep swept, swim swam swum, swing
swung, take took taken, teach taught, tear tore torn, tell told, think thought, throw threw thrown, tread trod
trodden, wake woke woken, wear wore worn, weave wove woven, weep wept, win won, wind wound, wring wrung, write wrote
written, bus buses, calf calves, child children, die dice, elf elves, foot feet, gas gases, goose geese, half halves,
hoof hooves, knife knives, leaf leaves, life lives, loaf loaves, louse lice, man men, mouse mice, ox oxen, person
people persons, scarf scarves, shelf shelves, thief thieves, tooth teeth, wife wives, wolf wolves, woman women
"""
"""Verbs and nouns of English whose forms share no stem, the plain form first. A form of two words (`lay`) is taken for
the first's."""

_own = threading.local()
"""A stemmer for each thread: it works on one word at a time."""


def content(words: Sequence[str]) -> list[str]:
    """The words that ask for something."""
    return [word for word in words if word and word.casefold() not in FILLERS]


class Lexicon:
    """The units of known facts by their words, as they are spelled and by their stems.

    Args:
        facts: What a model was taught.
    """

    def __init__(self, facts: Sequence[Fact]) -> None:
        self.facts = facts
        self._spelled: list[dict[tuple[str, ...], str]] = [{} for _ in UNITS]
        self._stemmed: list[dict[tuple[str, ...], str]] = [{} for _ in UNITS]
        for unit, text in ((unit, text) for fact in facts for unit, text in enumerate(fact.units) if text):
            words = content(text.casefold().split()) or text.casefold().split()
            self._spelled[unit].setdefault(tuple(words), text)
            self._stemmed[unit].setdefault(tuple(map(stem, words)), text)
        self._longest = max((len(words) for texts in self._spelled for words in texts), default=0)
        self._with_object = {fact.predicate for fact in facts if fact.object is not None}

    def find(self, words: Sequence[str], *units: int) -> str | None:
        """The known text that these words are, in the first of the units that has it.

        Words that are spelled as any known text are no form of another: `drink` is not `drinking`.
        """
        spelled = tuple(word.casefold() for word in words)
        if any(spelled in texts for texts in self._spelled):
            return next((self._spelled[unit][spelled] for unit in units if spelled in self._spelled[unit]), None)
        stemmed = tuple(map(stem, words))
        return next((self._stemmed[unit][stemmed] for unit in units if stemmed in self._stemmed[unit]), None)

    def spans(self, words: Sequence[str], *units: int) -> list[tuple[int, int]]:
        """Where known texts stand among the words, [start, end): the longest first, then the first."""
        found = [
            (start, end)
            for start in range(len(words))
            for end in range(start + 1, min(start + self._longest, len(words)) + 1)
            if self.find(words[start:end], *units)
        ]
        return sorted(found, key=lambda span: (span[0] - span[1], span[0]))

    def places(self, words: Sequence[str], *units: int) -> set[int]:
        """The places of the words that are part of a known text."""
        return {place for start, end in self.spans(words, *units) for place in range(start, end)}

    def in_order(self, words: Sequence[str]) -> bool:
        """Is each word, as spelled, known in the unit of its place?"""
        return len(words) <= len(UNITS) and all(
            (word.casefold(),) in texts for word, texts in zip(words, self._spelled, strict=False)
        )

    def attribute(self, words: Sequence[str]) -> str | None:
        """The known predicate that these words are, if it says what something is like (`brown`), not what it does.

        Such a predicate has no object in any fact, and is no verb in -ing.
        """
        text = self.find(words, PREDICATE)
        does = text is not None and any(word.endswith("ing") for word in text.casefold().split())
        return None if does or text in self._with_object else text

    def is_noun(self, word: str) -> bool:
        """Is the word, as spelled, part of a known subject or object?"""
        word = word.casefold()
        return any(word in words for unit in (SUBJECT, OBJECT) for words in self._spelled[unit])

    def stands_before(self, predicate: Sequence[str], subject: Sequence[str]) -> bool:
        """Do these words ask for what a subject does (`running dog`), not for what is done to it (`walking a dog`)?"""
        does = (self.find(subject, SUBJECT), self.find(predicate, PREDICATE))
        done_to = (does[1], self.find(subject, OBJECT))
        return any(fact.units[:2] == does for fact in self.facts) and not any(
            fact.units[1:] == done_to for fact in self.facts
        )


# --- stems -----------------------------------------------------------------------------------------------------------


def stem(word: str) -> str:
    """What all forms of a word share; only to be compared with other stems.

    The stem of Snowball's English stemmer (Porter, "Snowball: a language for stemming algorithms", 2001), after
    irregular forms were taken back to the plain one. It may join a noun and a verb (`drink`, `drinking`).
    """
    word, plain = word.casefold(), _plain_forms()
    stemmed = _stemmer().stemWord(plain.get(word, word))
    return _stemmer().stemWord(plain[stemmed]) if stemmed in plain else stemmed  # `shots` is a form of `shot`


def _stemmer() -> Any:
    import snowballstemmer

    if not hasattr(_own, "stemmer"):
        _own.stemmer = snowballstemmer.stemmer("english")
    return _own.stemmer


@cache
def _plain_forms() -> dict[str, str]:
    plain: dict[str, str] = {}
    for forms in IRREGULAR_FORMS.split(","):
        first, *others = forms.split()
        for form in others:
            plain.setdefault(form, first)
    return plain
