"""Words of units: their Unicode form, their spelling, and the common part of all forms of a word."""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

PUNCTUATION = ".,;:!?'\"()\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}"
"""Characters at the ends of words that mean nothing."""

INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]|(?<![^\0-\u024f])[\u200c\u200d]")
"""Characters that have no width. Joiners stay in the scripts, and between the emoji, that need them."""

IRREGULAR_VERBS = """
be am is are was were been being, beat beaten, begin began begun, bend bent, bind bound, bite bit bitten, blow blew
blown, break broke broken, bring brought, build built, burst, buy bought, catch caught, choose chose chosen, come came,
creep crept, cut, deal dealt, dig dug, dive dove dived, do does did done, draw drew drawn, drink drank drunk, drive
drove driven, eat ate eaten, fall fell fallen, feed fed, feel felt, fight fought, find found, flee fled, fling flung,
fly flew flown flies, forget forgot forgotten, freeze froze frozen, get got gotten, give gave given, go goes went gone,
grind ground, grow grew grown, hang hung, have has had having, hear heard, hide hid hidden, hit, hold held, hurt, keep
kept, kneel knelt, know knew known, lay laid, lead led, lean leant, leap leapt, leave left, lend lent, let, lie lay
lain, light lit, lose lost, make made, meet met, pay paid, put, read, ride rode ridden, ring rang rung, rise rose risen,
run ran, say said, see saw seen, sell sold, send sent, set, sew sewn, shake shook shaken, shine shone, shoot shot, show
shown, shut, sing sang sung, sink sank sunk, sit sat, sleep slept, slide slid, sling slung, speak spoke spoken, spend
spent, spin spun, spit spat, split, spread, spring sprang sprung, stand stood, steal stole stolen, stick stuck, sting
stung, stride strode, strike struck stricken, string strung, sweep swept, swim swam swum, swing swung, take took taken,
teach taught, tear tore torn, tell told, think thought, throw threw thrown, tread trod trodden, wake woke woken, wear
wore worn, weave wove woven, weep wept, win won, wind wound, wring wrung, write wrote written
"""
IRREGULAR_NOUNS = """
bus buses, calf calves, child children, die dice, elf elves, foot feet, gas gases, goose geese, half halves, hoof
hooves, knife knives, leaf leaves, life lives, loaf loaves, louse lice, man men, mouse mice, ox oxen, person people
persons, scarf scarves, shelf shelves, thief thieves, tooth teeth, wife wives, wolf wolves, woman women
"""
"""English words whose forms share no stem, the plain form first. A form of two words (`lay`) belongs to the first."""

_local = threading.local()
"""A stemmer for each thread: a stemmer works on one word at a time."""


def word_set(words: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(words.split())


ARTICLES = word_set("a an the")

PLURALS_APART = word_set("arms clothes glasses goods pants scissors shorts spectacles trunks woods")
"""Nouns that mean another thing than what would be their singular."""


PLACEHOLDERS = word_set("nan none null n/a na nil nat <na> #n/a undefined ? - --")
"""Texts that programs write for a missing value, in lower case."""


def visible_text(text: str) -> str:
    """The text in Unicode's composed form (NFC), without invisible characters."""
    return text if text.isascii() else INVISIBLE.sub("", unicodedata.normalize("NFC", text))


@lru_cache(maxsize=2**16)
def plain_text(text: str) -> str:
    """The visible text with single blanks."""
    return " ".join(visible_text(text).split())


def split_words(text: str) -> list[str]:
    """The words of a text, without punctuation at their ends; all of it if nothing else is there."""
    return [word for word in (word.strip(PUNCTUATION) for word in text.split()) if word] or text.split()


def word_forms(text: str) -> frozenset[str]:
    """The words of a text, nouns in the singular, in lower case."""
    return frozenset(map(singular, re.findall(r"\w+", text.casefold())))


def spelling(text: str) -> str:
    """The common part of all spellings of a unit: no capitals, no punctuation, no article in front."""
    first, *others = split_words(text.casefold()) or [""]
    return " ".join(others if others and first in ARTICLES else [first, *others])


# --- forms of words --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2**16)
def stem(word: str) -> str:
    """The common part of all forms of a word; only for comparison with other stems.

    It is the result of Snowball's English stemmer (Porter, "Snowball: a language for stemming algorithms", 2001) for
    the plain form of irregular words. A noun and a verb may share it (`drink`, `drinking`).
    """
    word, plain = word.casefold(), _plain_forms()
    stemmed = _stemmer().stemWord(plain.get(word, word))
    return _stemmer().stemWord(plain[stemmed]) if stemmed in plain else stemmed  # `shots` is a form of `shot`


def same_number(words: Sequence[str], others: Sequence[str]) -> bool:
    """True if two nouns differ at most in number (`dogs`, `dog`), word by word."""
    return list(map(singular, words)) == list(map(singular, others))


@lru_cache(maxsize=2**16)
def singular(word: str) -> str:
    """The singular of a noun; of a noun that is none already, the noun."""
    word = word.casefold()
    if word in _plain_nouns() or word in PLURALS_APART or word.endswith(("ss", "us", "is")) or len(word) < 4:
        return _plain_nouns().get(word, word)
    for ending, end in (("ies", "y"), ("ches", "ch"), ("shes", "sh"), ("sses", "ss"), ("xes", "x"), ("s", "")):
        if word.endswith(ending):
            return word.removesuffix(ending) + end
    return word


def _stemmer() -> Any:
    import snowballstemmer

    if not hasattr(_local, "stemmer"):
        _local.stemmer = snowballstemmer.stemmer("english")
    return _local.stemmer


@cache
def _plain_forms() -> dict[str, str]:
    return _by_form(f"{IRREGULAR_VERBS},{IRREGULAR_NOUNS}")


@cache
def _plain_nouns() -> dict[str, str]:
    return _by_form(IRREGULAR_NOUNS)


def _by_form(words: str) -> dict[str, str]:
    plain: dict[str, str] = {}
    for forms in words.split(","):
        first, *others = forms.split()
        for form in others:
            plain.setdefault(form, first)
    return plain
