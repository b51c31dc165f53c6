"""Words that are forms of one word: `rides`, `rode` and `riding`; `dogs` and `dog`."""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

_own = threading.local()
"""A stemmer for each thread: it works on one word at a time."""

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
