"""Contents of the photos of a table, by `photo_digest`: computed, read from a stored table, and compared."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

from tripletcl.data.cache import ImageCache
from tripletcl.data.fact_table import FactTable
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN
from tripletcl.data.tables import CONTENT


def with_contents(table: FactTable, size: int, folder: Path) -> FactTable:
    """Return a table that knows the contents of its images; "" of one that cannot be read.

    Args:
        table: The table.
        size: The size of the images in the cache.
        folder: The folder of the cache, which knows the content of every file that has not changed since.
    """
    if table.contents is not None:
        return table
    return replace(table, contents=tuple(ImageCache.contents(table.paths, size, folder)))


def with_stored_contents(table: FactTable, path: Path) -> FactTable:
    """Return a table that knows the contents of its images as they were when a run stored it in a file, if it did."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        if CONTENT not in (rows.fieldnames or ()):
            return table
        contents = {row["image"]: row[CONTENT] for row in rows}
    return replace(table, contents=tuple(contents.get(image, "") for image in table.images))


def table_digest(path: Path) -> str | None:
    """Compute a hash of a stored table's rows by the contents of their photos; None if one of these is unknown."""
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    if CONTENT not in names or not all(row[names.index(CONTENT)] for row in rows):
        return None
    image = names.index("image")
    return hashlib.blake2b(json.dumps([row[:image] + row[image + 1 :] for row in rows]).encode()).hexdigest()


def describe_change(before: FactTable, now: FactTable) -> str | None:
    """Describe how a table differs from what it was, in words; None if it is the same, wherever its photos lie.

    A photo whose content is not known, now or then, counts as the same.
    """
    if len(before) != len(now):
        return f"it had {len(before)} rows and has {len(now)}"
    for number, (then, current) in enumerate(zip(_rows(before), _rows(now), strict=True), 1):
        if then != current:
            return f"row {number} was {then}, and is {current}"
    if before.rows[:, 0].tolist() != now.rows[:, 0].tolist():
        return "its rows name other photos"
    old, new = before.contents or ("",) * len(before.images), now.contents or ("",) * len(now.images)
    changed = [image for image, pair in enumerate(zip(old, new, strict=True)) if "" not in pair and len(set(pair)) > 1]
    if not changed:
        return None
    return f"{len(changed)} of its {len(new)} photos have another content; the first is {now.paths[changed[0]]}"


def _rows(table: FactTable) -> list[str]:
    """The rows in words, without the photos' names."""
    texts = [
        str(fact) if table.groups is None else f"{fact} in task {group}"
        for fact, group in zip(table.facts, table.groups or table.facts, strict=True)
    ]
    parts = [f" in {list(box)}" if box else "" for box in table.boxes or (None,) * len(table.images)]
    words = {SHOWN: "", NOT_SHOWN: ", not shown", UNKNOWN: ", not known"}
    rows = zip(table.rows.tolist(), table.splits, table.row_labels.tolist(), strict=True)
    return [f"{texts[fact]}{parts[image]} ({split}{words[label]})" for (image, fact), split, label in rows]
