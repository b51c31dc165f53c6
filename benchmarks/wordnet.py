"""Writes tripletcl/data/nouns.txt, nouns by the kinds of things that they name, from the files of WordNet 3.0.

    python benchmarks/wordnet.py FOLDER

FOLDER holds data.noun, index.noun and cntlist.rev, as Debian's package wordnet-base has them in /usr/share/wordnet.
Needs the package wordfreq, which is no dependency of tripletcl.

A noun has a place by its first sense, if WordNet has no other or has counted this one in a text: "scooter" may be many
things, so it has none. Names and rare nouns are left out, and so is all that photos cannot show. Of a noun of several
words the frequency is not known: it is common if WordNet has counted it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from wordfreq import zipf_frequency

from tripletcl.data import nouns

SHOWN = {4: "act", 5: "animal", 6: "artifact", 8: "body", 13: "food", 17: "object", 18: "person", 20: "plant"}
"""WordNet's groups of nouns that photos can show."""
TOPS, ROOTS = 3, ("person", "animal", "plant", "food")
"""The group of the most general nouns, and those of them that are kept."""
COMMON = 3.0
"""The least frequency of a noun: once in a million words, on Zipf's scale."""
NOTICE = """\
# Kinds of things: nouns of one meaning, and after a colon the first noun of each broader meaning.
# Made by benchmarks/wordnet.py from WordNet 3.0, of which it is a part and a modification.
#
# WordNet Release 3.0. This software and database is being provided to you, the LICENSEE, by Princeton University under
# the following license. By obtaining, using and/or copying this software and database, you agree that you have read,
# understood, and will comply with these terms and conditions.: Permission to use, copy, modify and distribute this
# software and database and its documentation for any purpose and without fee or royalty is hereby granted, provided
# that you agree to comply with the following copyright notice and statements, including the disclaimer, and that the
# same appear on ALL copies of the software, database and documentation, including modifications that you make for
# internal use or for distribution. WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. THIS
# SOFTWARE AND DATABASE IS PROVIDED "AS IS" AND PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES, EXPRESS OR
# IMPLIED. BY WAY OF EXAMPLE, BUT NOT LIMITATION, PRINCETON UNIVERSITY MAKES NO REPRESENTATIONS OR WARRANTIES OF
# MERCHANT- ABILITY OR FITNESS FOR ANY PARTICULAR PURPOSE OR THAT THE USE OF THE LICENSED SOFTWARE, DATABASE OR
# DOCUMENTATION WILL NOT INFRINGE ANY THIRD PARTY PATENTS, COPYRIGHTS, TRADEMARKS OR OTHER RIGHTS. The name of Princeton
# University or Princeton may not be used in advertising or publicity pertaining to distribution of the software and/or
# database. Title to copyright in this software, database and any associated documentation shall at all times remain
# with Princeton University and LICENSEE agrees to preserve same.
"""


class Sense(NamedTuple):
    """The meaning of a noun, and whether WordNet has counted the noun with it in a text."""

    meaning: str
    is_counted: bool


class Meaning(NamedTuple):
    """A set of nouns of one meaning (a synset), the group that it is in, and the meanings that are broader."""

    nouns: list[str]
    group: int
    broader: list[str]


def main() -> None:
    folder = Path(sys.argv[1])
    meanings, senses = read_meanings(folder / "data.noun"), read_senses(folder)
    own = {each: own_nouns(each, meaning, senses) for each, meaning in meanings.items()}
    lines = []
    for each, named in own.items():
        if named:
            parents = dict.fromkeys(own[parent][0] for parent in nearest_named(each, meanings, own))
            lines.append(", ".join(named) + (": " + ", ".join(parents) if parents else ""))
    nouns.FILE.write_text(NOTICE + "\n".join(sorted(lines)) + "\n", encoding="utf-8")
    print(f"{sum(map(len, own.values()))} nouns of {len(lines)} meanings in {nouns.FILE}")


def read_meanings(file: Path) -> dict[str, Meaning]:
    """Read data.noun: `offset group n count noun id ... pointers symbol offset part source ... | definition`."""
    meanings = {}
    for line in entries(file):
        offset, group, _, count, *rest = line.partition(" | ")[0].split()
        nouns, pointers = rest[: 2 * int(count, 16) : 2], rest[2 * int(count, 16) + 1 :]
        broader = [pointers[n + 1] for n in range(0, len(pointers), 4) if pointers[n] in ("@", "@i")]
        meanings[offset] = Meaning([noun.replace("_", " ") for noun in nouns], int(group), broader)
    return meanings


def read_senses(folder: Path) -> dict[str, Sense]:
    """Read the first sense of each noun that has no other, or whose first one was counted in a text."""
    counted = set()
    for line in entries(folder / "cntlist.rev"):
        key, sense, _ = line.split()  # noun%1:18:00::
        if sense == "1" and key.partition("%")[2].startswith("1:"):
            counted.add(key.partition("%")[0])
    senses = {}
    for line in entries(folder / "index.noun"):
        noun, _, count, *rest = line.split()
        if count == "1" or noun in counted:
            senses[noun.replace("_", " ")] = Sense(rest[-int(count)], noun in counted)
    return senses


def entries(file: Path) -> list[str]:
    return [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("  ")]


def own_nouns(offset: str, meaning: Meaning, senses: dict[str, Sense]) -> list[str]:
    """The nouns that have their place at a meaning, the most frequent one first."""
    if meaning.group not in SHOWN and not (meaning.group == TOPS and meaning.nouns[0] in ROOTS):
        return []
    own = [noun for noun in meaning.nouns if noun in senses and senses[noun].meaning == offset]
    common = [noun for noun in own if (frequency(noun) >= COMMON if noun.isalpha() else senses[noun].is_counted)]
    return sorted(common, key=lambda noun: (-frequency(noun), noun))


def frequency(noun: str) -> float:
    return zipf_frequency(noun, "en")


def nearest_named(offset: str, meanings: dict[str, Meaning], nouns: dict[str, list[str]]) -> list[str]:
    """The nearest broader meanings that have a noun, whichever way leads there."""
    found: dict[str, None] = defaultdict()
    for parent in meanings[offset].broader:
        found |= dict.fromkeys([parent] if nouns[parent] else nearest_named(parent, meanings, nouns))
    return list(found)


if __name__ == "__main__":
    main()
