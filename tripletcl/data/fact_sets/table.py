"""From the records of a set to a table of facts: one function for all sets."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from tripletcl.data.fact_sets.record import FactRecord
from tripletcl.data.fact_sets.regions import Part, pixel_box, union
from tripletcl.data.fact_sets.spec import FactSetSpec
from tripletcl.data.fact_table import FactTable
from tripletcl.data.facts import Fact
from tripletcl.data.images import Region, map_in_threads, photo_size
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN
from tripletcl.errors import UserError

log = logging.getLogger("tripletcl")

MEN, WOMEN = (
    ("boy", "boys", "gentleman", "guy", "guys", "man", "men"),
    ("girl", "girls", "ladies", "lady", "woman", "women"),
)
PEOPLE = frozenset((*MEN, *WOMEN, "adult", "child", "children", "kid", "kids", "people", "person", "persons"))
"""Words that `people: merge` replaces by "person"."""


class Row(NamedTuple):
    """A row of the table to be; `part` is None where the whole photo is its image."""

    image: str
    fact: Fact
    split: str
    part: Part | None
    label: int = SHOWN


ROW_LABELS = {True: SHOWN, False: NOT_SHOWN, None: UNKNOWN}
"""The label of a row by that of a record."""

Rows = dict[Row, str | None]
"""Distinct rows, with the group of the fact."""


def build_table(records: Iterable[FactRecord], spec: FactSetSpec) -> FactTable:
    """Make a table of facts of the records of a set, as the settings say.

    Args:
        records: What the set's reader yields.
        spec: The settings.

    Returns:
        A table whose root is that of the set. Of several labels of an image and a fact the largest counts: a photo of
        two persons shows what one of them does.

    Raises:
        UserError: A photo is missing, or is a training and a test photo; no fact has enough images; the size of a
            photo cannot be read.
    """
    left_out: Counter[str] = Counter()
    root = Path(spec.root)
    rows = _collect(records, spec, left_out)
    if not rows:
        boxes = "no boxes, which `region: union` needs" if left_out["facts without a box"] else "no facts"
        raise UserError(f"the set {spec.set!r} in {spec.root} has {boxes}{_asked(spec)}")
    _check_splits(rows, spec)
    rows = _frequent(_existing(rows, spec, root), spec, left_out)
    images = _images(rows, spec, left_out)
    if len(images) < len(rows):
        rows = _frequent({row: rows[row] for row in images}, spec, left_out)
    labels: dict[tuple[str | Region, Fact, str], int] = {}
    for row in _in_order(rows):
        key = images[row], row.fact, row.split
        labels[key] = max(row.label, labels.get(key, row.label))
    table = FactTable.from_rows(root, labels, list(labels.values()))
    log.info(
        "%s: %d facts, %d rows, %d images; left out: %s",
        *(spec.set, len(table.facts), len(table), len(table.images)),
        ", ".join(f"{count} {what}" for what, count in left_out.items()) or "nothing",
    )
    return _with_groups(table, rows)


def _collect(records: Iterable[FactRecord], spec: FactSetSpec, left_out: Counter[str]) -> Rows:
    """The rows of all labels; only what is shown implies what is said with fewer units, or of people in general."""
    rows: Rows = {}
    images: dict[str, str] = {}  # a text of each image's name for all its rows
    facts_of = cache(partial(_facts, spec=spec))
    for record in records:
        label = ROW_LABELS[record.label]
        facts = facts_of(record.fact)
        if label != SHOWN:
            facts = [fact for fact in facts if fact == record.fact]
        split = record.split or _drawn_split(record.image, spec)
        image = images.setdefault(record.image, record.image)
        for fact in facts:
            part = None
            if spec.region == "union":
                if not record.boxes:
                    left_out["facts without a box"] += 1
                    continue
                boxes = record.boxes if fact.order > 1 else record.boxes[:1]
                part = Part(union(boxes), record.extent)
            rows.setdefault(Row(image, fact, split, part, label), record.group if label == SHOWN else None)
    return rows


def _facts(fact: Fact, spec: FactSetSpec) -> list[Fact]:
    """The fact and, if orders are asked for, those that it implies."""
    units = [
        "person" if spec.people == "merge" and place != 1 and unit in PEOPLE else unit
        for place, unit in enumerate(fact.units)
    ]
    orders = (fact.order,) if spec.orders is None else sorted({*spec.orders})
    return [Fact(*units[:order]) for order in orders if order <= fact.order]  # type: ignore[arg-type]


def _drawn_split(image: str, spec: FactSetSpec) -> str:
    """Assign a photo to a split by its name and the seed alone, so that missing photos change nothing for others."""
    digest = hashlib.blake2b(f"{spec.seed}:{image}".encode(), digest_size=8).digest()
    return "test" if int.from_bytes(digest, "big") < spec.test_share * 2**64 else "train"


def _check_splits(rows: Rows, spec: FactSetSpec) -> None:
    splits: dict[str, str] = {}
    for row in rows:
        if splits.setdefault(row.image, row.split) != row.split:
            raise UserError(f"{row.image} is a training photo and a test photo of the set {spec.set!r} in {spec.root}")


def _existing(rows: Rows, spec: FactSetSpec, root: Path) -> Rows:
    """The rows whose photo exists."""
    images = dict.fromkeys(row.image for row in rows)
    missing = {image for image in images if not os.path.isfile(root / image)}  # noqa: PTH113 - many thousands
    if not missing:
        return rows
    first = next(image for image in images if image in missing)
    text = f"{len(missing)} of {len(images)} photos of the set {spec.set!r} are missing, the first {root / first}"
    if spec.missing == "refuse" or len(missing) == len(images):
        raise UserError(text if len(missing) == len(images) else f"{text}; `missing: drop` leaves them out")
    log.warning("%s; they are left out", text)
    return {row: group for row, group in rows.items() if row.image not in missing}


def _frequent(rows: Rows, spec: FactSetSpec, left_out: Counter[str]) -> Rows:
    """The rows of facts that have enough training and test images."""
    counts = Counter((row.fact, row.split) for row in rows if row.label == SHOWN)
    facts = dict.fromkeys(row.fact for row in rows if row.label == SHOWN)
    enough = {
        fact for fact in facts if counts[fact, "train"] >= spec.min_train and counts[fact, "test"] >= spec.min_test
    }
    if not enough:
        raise UserError(
            f"none of the {len(facts)} facts of the set {spec.set!r} in {spec.root} has {spec.min_train} training and "
            f"{spec.min_test} test images (min_train, min_test){_one_sided(rows)}"
        )
    if len(enough) < len(facts):
        left_out["facts with too few images"] += len(facts) - len(enough)
    return {row: group for row, group in rows.items() if row.fact in enough}


def _asked(spec: FactSetSpec) -> str:
    return "" if spec.orders is None else f" of the orders {list(spec.orders)}"


def _one_sided(rows: Rows) -> str:
    splits = {row.split for row in rows}
    if splits == {"test"}:
        return "; it has test images only: `min_train: 0` keeps its facts"
    return ""


def _images(rows: Rows, spec: FactSetSpec, left_out: Counter[str]) -> dict[Row, str | Region]:
    """The image of each row: its photo, or the region of one; rows whose box is outside their photo have none."""
    root = Path(spec.root)
    photos = list(dict.fromkeys(row.image for row in rows if row.part is not None))
    sizes = dict(zip(photos, map_in_threads(photo_size, [root / photo for photo in photos], "photos"), strict=True))
    images: dict[Row, str | Region] = {}
    outside: dict[tuple[str, Part], None] = {}
    for row in rows:
        box = None if row.part is None else pixel_box(row.part, sizes[row.image])
        if row.part is not None and box is None:
            outside[row.image, row.part] = None
        else:
            images[row] = row.image if box is None else Region(Path(row.image), box)
    if outside:
        photo, part = next(iter(outside))
        left_out["boxes outside their photo"] += len(outside)
        log.warning("%d boxes are outside their photos and left out, the first %s of %s", len(outside), part.box, photo)
    return images


def _in_order(rows: Rows) -> list[Row]:
    """The rows in the order of their groups, "B2" before "B10"."""
    return sorted(rows, key=lambda row: (len(rows[row] or ""), rows[row] or ""))


def _with_groups(table: FactTable, rows: Rows) -> FactTable:
    """The table with the task of each fact, if the set has tasks; a fact of several tasks belongs to the first."""
    groups: dict[Fact, str] = {}
    double: dict[Fact, str] = {}
    for row in _in_order(rows):
        group = rows[row]
        if row.label != SHOWN:
            continue
        if group is None:
            return table
        if groups.setdefault(row.fact, group) != group:
            double.setdefault(row.fact, group)
    if double:
        fact, group = next(iter(double.items()))
        log.warning(
            "%d facts are in several tasks and stay in the first: %s is in %s and %s",
            *(len(double), fact, groups[fact], group),
        )
    return replace(table, groups=tuple(groups[fact] for fact in table.facts))
