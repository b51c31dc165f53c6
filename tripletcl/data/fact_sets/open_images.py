"""Visual relations of Open Images."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from tripletcl.data.fact_sets.files import find_photo, read_csv
from tripletcl.data.fact_sets.record import FactRecord, as_box, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import MissingFile, reason
from tripletcl.errors import UserError

SIDES = ("XMin", "YMin", "XMax", "YMax")
COLUMNS = ("ImageID", "LabelName1", "LabelName2", *(f"{side}{box}" for box in (1, 2) for side in SIDES))
RELATIONS = ("RelationshipLabel", "RelationLabel")
"""The names of the column with the relation in two versions."""
NAME_FILES = (
    "oidv6-class-descriptions.csv",
    "class-descriptions-boxable.csv",
    "oidv6-class-descriptions-boxable.csv",
    "oidv6-attributes-description.csv",
)
RELATIVE = (1.0, 1.0)
"""Boxes are measured in shares of the photo's sides."""


def read_open_images(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read the relations of Open Images (Kuznetsova and others, "The Open Images dataset V4", IJCV 2020), V4 to V6.

    Layout, in root: `oidv6-train-annotations-vrd.csv` and the same of validation and test (or without "oidv6-"); the
    names of classes and attributes, `oidv6-class-descriptions.csv` or `class-descriptions-boxable.csv` and
    `oidv6-attributes-description.csv`; photos ID.jpg in `train/`, `validation/`, `test/` or `images/`. Without a file
    of test, validation is for testing. A box is XMin, XMax, YMin, YMax in shares of the photo. Rows of the relation
    "is" are attributes: <S, attribute>; the others are <S, relation, O>.
    """
    parts = {
        part: path for part in ("train", "validation", "test") if (path := _relations_file(root, part)) is not None
    }
    if "train" not in parts or len(parts) < 2:
        raise MissingFile("oidv6-train-annotations-vrd.csv and oidv6-test-annotations-vrd.csv")
    names, photos = _names(root), dict[str, str]()
    tested = "test" if "test" in parts else "validation"
    for part, path in parts.items():
        split = "test" if part == tested else "train"
        cells = read_csv(path, COLUMNS, optional=RELATIONS)
        relations = [cells.pop(name) for name in RELATIONS if name in cells]
        if not relations:
            raise UserError(f"{path} lacks the column {RELATIONS[0]!r}; it has {', '.join(map(repr, cells))}")
        rows = zip(*cells.values(), relations[0], strict=True)
        for number, (image, first, second, *sides, relation) in enumerate(rows, start=1):
            with published_form(path, number):
                fact = _fact(_name(names, first), relation, _name(names, second))
                boxes = as_box(map(float, sides[:4])), as_box(map(float, sides[4:]))
            if image not in photos:
                photos[image] = find_photo(root, f"{part}/{image}.jpg", f"images/{image}.jpg")
            yield FactRecord(photos[image], fact, split, boxes[: fact.order - 1], extent=RELATIVE)


def _relations_file(root: Path, part: str) -> Path | None:
    files = [root / f"{prefix}{part}-annotations-vrd.csv" for prefix in ("oidv6-", "")]
    return next((file for file in files if file.exists()), None)


def _names(root: Path) -> dict[str, str]:
    """The words of classes and attributes by their id; a first line that has no id is a header."""
    files = [root / name for name in NAME_FILES if (root / name).exists()]
    if not files:
        raise MissingFile(f"{NAME_FILES[0]} or {NAME_FILES[1]}")
    names = {}
    for file in files:
        try:
            with file.open(newline="", encoding="utf-8") as lines:
                names.update({row[0]: row[1] for row in csv.reader(lines) if len(row) > 1 and row[0].startswith("/")})
        except (OSError, csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{file} is not readable as CSV: {reason(error)}") from error
    return {number: words(name.replace("(made of)", "made of ")) for number, name in names.items()}


def _name(names: dict[str, str], number: str) -> str:
    if number not in names:
        raise ValueError(f"its class {number!r} is in no file of names")
    return names[number]


def _fact(subject: str, relation: str, target: str) -> Fact:
    return Fact(subject, target) if relation == "is" else Fact(subject, words(relation), target)
