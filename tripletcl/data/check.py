"""Check a table of facts and its images, and report every problem."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tripletcl.data.fact_table import SPLITS
from tripletcl.data.folding import Fold
from tripletcl.data.images import clamp, decode_image, map_in_threads, photo_digest, photo_size, read_photo, try_decode
from tripletcl.data.labels import SHOWN
from tripletcl.data.missing import by_other_form, describe_form
from tripletcl.data.tables import Row, Scan, describe_placeholders, scan_table
from tripletcl.errors import UserError

DECODED_SIZE = 32
"""The side of the decoded images; a JPEG is read to its end all the same."""

Kind = Literal[
    "bad row",
    "duplicate row",
    "missing file",
    "undecodable image",
    "box outside the photo",
    "no training image",
    "no test image",
    "image in both splits",
    "content in both splits",
    "suspicious word",
    "words alike",
]


@dataclass(frozen=True)
class Problem:
    """One problem, and the numbers of the rows that it concerns."""

    kind: Kind
    rows: tuple[int, ...]
    message: str


@dataclass(frozen=True)
class CheckReport:
    """The content of a table, and its problems.

    Attributes:
        path: The file.
        root: The folder that the image paths are relative to.
        counted_in: The unit of row numbers: "line" of a text file (the header is line 1), "row" of a Parquet file.
        rows: The number of valid rows, duplicates included.
        bad_rows: The number of the others; no other count includes them.
        images: The number of distinct images.
        facts: The number of distinct facts.
        facts_by_order: The number of facts with 1, 2 and 3 units.
        splits: For "train" and "test", the number of rows, images and facts.
        rows_per_image: The min, mean and max number of rows of an image.
        problems: In order of kind and row.
        folds: The texts of units that are read as another one.
    """

    path: Path
    root: Path
    counted_in: str
    rows: int
    bad_rows: int
    images: int
    facts: int
    facts_by_order: dict[int, int]
    splits: dict[str, dict[str, int]]
    rows_per_image: dict[str, float]
    problems: list[Problem]
    folds: list[Fold]

    @property
    def ok(self) -> bool:
        """True if there are no problems."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """All fields in types of JSON."""
        return asdict(self) | {"path": str(self.path), "root": str(self.root), "ok": self.ok}


def check_table(
    path: str | Path,
    root: str | Path | None = None,
    task_column: str | None = None,
    alike: Callable[[Sequence[str]], list[list[str]]] | None = None,
) -> CheckReport:
    """Read every row and decode every image of a table, and collect all problems.

    Args:
        path: A file as `tripletcl.data.read_table` reads it.
        root: The folder that the image paths are relative to; None is the file's own folder.
        task_column: A column with the task of each row's fact, which is then checked too.
        alike: Returns the groups of words that a text encoder cannot distinguish (`tripletcl.embedding.text`).

    Raises:
        UserError: The file as a whole cannot be used: it is missing, unreadable or empty, or lacks a column.
    """
    scan = scan_table(path, root, task_column, absolute=True)
    by_image = _group((row.image, row) for row in scan.rows)
    by_fact = _group((row.fact, row) for row in scan.rows)
    return CheckReport(
        path=scan.path,
        root=scan.root,
        counted_in=scan.counted_in,
        rows=len(scan.rows),
        bad_rows=len(scan.bad),
        images=len(by_image),
        facts=len(by_fact),
        facts_by_order={order: sum(fact.order == order for fact in by_fact) for order in (1, 2, 3)},
        splits={split: _counts(row for row in scan.rows if row.split == split) for split in SPLITS},
        rows_per_image=_spread([len(rows) for rows in by_image.values()]),
        problems=[
            *_row_problems(scan),
            *_fact_problems(by_fact),
            *_word_problems(scan, alike),
            *_image_problems(scan, by_image),
            *_box_problems(scan, by_image),
        ],
        folds=scan.folds,
    )


def _row_problems(scan: Scan) -> Iterator[Problem]:
    for bad in scan.bad:
        yield Problem("bad row", (bad.number,), bad.reason)
    same = _group(((row.image, row.box, row.fact, row.split, row.label), row) for row in scan.rows)
    for (image, box, fact, split, _), rows in same.items():
        if len(rows) > 1:
            where = f"{image!r} in {list(box)}" if box else repr(image)
            yield Problem("duplicate row", _numbers(rows), f"{where} shows {fact} ({split}) {len(rows)} times")


def _fact_problems(by_fact: dict[Any, list[Row]]) -> Iterator[Problem]:
    kinds: dict[str, Kind] = {"train": "no training image", "test": "no test image"}
    for split, kind in kinds.items():
        for fact, rows in by_fact.items():
            if all(row.split != split or row.label != SHOWN for row in rows):
                yield Problem(kind, _numbers(rows), f"{fact} has {kind}")


def _word_problems(scan: Scan, alike: Callable[[Sequence[str]], list[list[str]]] | None) -> Iterator[Problem]:
    by_word = _group((text, row) for row in scan.rows for text in dict.fromkeys(row.fact.units) if text is not None)
    for text, count in scan.placeholders.items():
        yield Problem("suspicious word", _numbers(by_word.get(text, [])), describe_placeholders({text: count}))
    for words in [] if alike is None else alike(list(by_word)):
        rows = list({row.number: row for word in words for row in by_word[word]}.values())
        names = ", ".join(map(repr, words))
        yield Problem("words alike", _numbers(rows), f"the text encoder cannot tell {len(words)} words apart: {names}")


def _image_problems(scan: Scan, by_image: dict[str, list[Row]]) -> Iterator[Problem]:
    by_content: dict[str, list[str]] = defaultdict(list)
    unusable: list[Problem] = []
    missing: list[str] = []
    inspected = map_in_threads(partial(_inspect, scan.root), list(by_image), "decoding images")
    for image, (digest, kind, reason) in zip(by_image, inspected, strict=True):
        if digest is None and kind == "missing file" and not (scan.root / image).exists():
            missing.append(image)
        elif kind is not None:
            unusable.append(Problem(kind, _numbers(by_image[image]), reason))
        if digest is not None:
            by_content[digest].append(image)
    unusable += _missing_files(scan.root, missing, by_image)
    yield from sorted(unusable, key=lambda problem: (problem.kind, problem.rows))
    for image, rows in by_image.items():
        if _in_both(rows):
            yield Problem("image in both splits", _numbers(rows), f"{image!r} is in train and in test")
    for images in by_content.values():
        rows = [row for image in images for row in by_image[image]]
        if len(images) > 1 and _in_both(rows):
            names = ", ".join(f"{image!r} ({by_image[image][0].split})" for image in images)
            yield Problem("content in both splits", _numbers(rows), f"the same image under several names: {names}")


def _box_problems(scan: Scan, by_image: dict[str, list[Row]]) -> Iterator[Problem]:
    for image, rows in by_image.items():
        boxes = _group((row.box, row) for row in rows if row.box is not None)
        try:
            size = photo_size(scan.root / image) if boxes else (0, 0)
        except UserError:  # reported as undecodable or missing
            continue
        for box, of_box in boxes.items():
            if (within := clamp(box, size)) != box:
                where = "outside" if within is None else "partly outside"
                message = f"box {list(box)} is {where} {image!r}, which has {size[0]} x {size[1]} pixels"
                yield Problem("box outside the photo", _numbers(of_box), message)


def _missing_files(root: Path, images: list[str], by_image: dict[str, list[Row]]) -> Iterator[Problem]:
    """One problem for each missing file; one for all whose path has another form than the file's name."""
    for form, same in by_other_form(root, images).items():
        for group in [[image] for image in same] if form is None else [same]:
            message = f"{group[0]!r} does not exist in {root}" if form is None else describe_form(group, form)
            yield Problem("missing file", _numbers([row for image in group for row in by_image[image]]), message)


def _inspect(root: Path, image: str) -> tuple[str | None, Kind | None, str]:
    """A file's digest (None if it cannot be read), and the kind of its problem (or None) with the reason."""
    try:
        raw = read_photo(root / image)
    except FileNotFoundError:
        return None, "missing file", f"{image!r} does not exist in {root}"
    except OSError as error:
        return None, "missing file", f"{image!r} cannot be read: {error.strerror or error}"
    decoded = try_decode(raw, partial(decode_image, size=DECODED_SIZE, name=image), name=image)
    if isinstance(decoded, str):
        return photo_digest(raw), "undecodable image", f"{image!r}: {decoded}"
    return photo_digest(raw), None, ""


def _group(pairs: Iterable[tuple[Any, Row]]) -> dict[Any, list[Row]]:
    groups: dict[Any, list[Row]] = {}
    for key, row in pairs:
        groups.setdefault(key, []).append(row)
    return groups


def _in_both(rows: list[Row]) -> bool:
    return {row.split for row in rows} == set(SPLITS)


def _numbers(rows: list[Row]) -> tuple[int, ...]:
    return tuple(sorted(row.number for row in rows))


def _counts(rows: Iterable[Row]) -> dict[str, int]:
    rows = list(rows)
    return {"rows": len(rows), "images": len({row.image for row in rows}), "facts": len({row.fact for row in rows})}


def _spread(counts: list[int]) -> dict[str, float]:
    if not counts:
        return {"min": 0, "mean": 0.0, "max": 0}
    return {"min": min(counts), "mean": sum(counts) / len(counts), "max": max(counts)}
