"""The benchmarks of lifelong fact learning, mid-scale (6DS) and large-scale, by the authors of the method."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from tripletcl.data.fact_sets.files import below, find_photo, read_csv
from tripletcl.data.fact_sets.record import FactRecord, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import MissingFile, locate, require

COLUMNS = ("image_links", "SPO", "id", "w_s", "w_p", "w_o")
SEPARATORS = (",", ";", "-", " ")
"""Of the words in the column SPO, which is read only where a task has no list of its facts."""


def read_lfl(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read the CSV files of Elhoseiny, Babiloni, Aljundi, Rohrbach, Paluri and Tuytelaars, "Exploring the challenges
    towards lifelong fact learning" (ACCV 2018).

    Layout, in root, root/mid_scale or root/large_scale: `images/`; and in `splits/Ntasks_random` or
    `splits/Ntasks_semantic` (the variants), for each task n `Bn_train.csv` and `Bn_test.csv` (image_links, SPO, id,
    w_s, w_p, w_o; a row is an image and a fact) and `Bn_facts.csv` (id, S, P, O). A link may stand in single quotes,
    and may say .jpg where the file is a .png. The task of a fact is "Bn". Facts have orders 1, 2 and 3; images are
    whole.
    """
    base = locate(root, "splits", "mid_scale", "large_scale")
    require(base / "images")
    folders = sorted((base / "splits").glob(f"*tasks_{variant}"))
    if len(folders) != 1:
        raise MissingFile(f"one folder splits/Ntasks_{variant}")
    files = {path: re.fullmatch(r"B(\d+)_train\.csv", path.name) for path in folders[0].iterdir()}
    numbers = sorted(int(match[1]) for match in files.values() if match)
    if not numbers:
        raise MissingFile(f"{folders[0]}/B1_train.csv")
    images = f"{below(root, base)}images"
    for number in numbers:
        path = folders[0] / f"B{number}_facts.csv"
        facts = _facts(path) if path.exists() else None
        for split in ("train", "test"):
            rows = _rows(folders[0] / f"B{number}_{split}.csv", facts)
            for link, fact in rows:
                yield FactRecord(find_photo(root, f"{images}/{link}"), fact, split, group=f"B{number}")


def _facts(path: Path) -> dict[int, Fact]:
    """The facts of a task by their id."""
    cells = read_csv(path, ("id", "S", "P", "O"))
    facts = {}
    for row, (number, *units) in enumerate(zip(*cells.values(), strict=True), start=1):
        with published_form(path, row):
            facts[int(number)] = Fact(*(words(unit) or None for unit in units))  # type: ignore[arg-type]
    return facts


def _rows(path: Path, facts: Mapping[int, Fact] | None) -> Iterator[tuple[str, Fact]]:
    """The image and the fact of each row of a task's file."""
    cells = read_csv(path, COLUMNS)
    for row, (link, text, number, *given) in enumerate(zip(*cells.values(), strict=True), start=1):
        with published_form(path, row):
            order = sum(int(flag) for flag in given)
            if facts is None:
                fact = _split_words(text, order)
            elif (fact := facts.get(int(number))) is None:  # type: ignore[assignment]
                raise ValueError(f"its id is {number}, which the list of the task's facts does not have")
            if fact.order != order:
                raise ValueError(f"w_s, w_p, w_o say {order} units, but fact {number} is {fact}")
        yield link.strip("'").strip(), fact


def _split_words(text: str, order: int) -> Fact:
    """The fact of a text in the column SPO, if one kind of separator makes as many parts as the fact has units."""
    bare = text.strip("<>,;- ")
    separators = [separator for separator in SEPARATORS if separator in bare]
    units = [words(unit) for unit in bare.split(separators[0] if separators else None)]
    if len(separators) > 1 or len(units) != order:
        raise ValueError(f"its SPO is {text!r}, which is not {order} words, and the task has no list of its facts")
    return Fact(*units)
