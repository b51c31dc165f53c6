"""Visual Genome: its free words, and VG150, its 150 most frequent objects with 50 predicates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.data.fact_sets.files import find_photo, optional_module, read_json, stream_json
from tripletcl.data.fact_sets.record import Box, FactRecord, as_extent, box_of_size, pick, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import MissingFile, read_lines, reason, require
from tripletcl.errors import UserError

PHOTOS = ("VG_100K", "VG_100K_2")
BROKEN = (1592, 1722, 4616, 4617)
"""Photos of image_data.json that VG150 has no rows of."""
SIDE = 1024
"""The long side of the photos that VG150's boxes are measured in."""

CSEGG_TASKS = (
    (31, 16, 25, 47, 19, 34, 37, 27, 39, 15),
    (20, 11, 7, 46, 33, 28, 2, 3, 17, 18),
    (48, 38, 23, 41, 6, 36, 26, 32, 42, 45),
    (30, 22, 40, 49, 43, 44, 13, 10, 4, 12),
    (29, 8, 50, 21, 1, 24, 14, 5, 9, 35),
)
"""The predicates (from 1) of the five tasks of the benchmark CSEGG (NeurIPS 2024)."""


def read_visual_genome(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read Visual Genome (Krishna and others, "Visual Genome: connecting language and vision using crowdsourced dense
    image annotations", IJCV 2017), version 1.0, 1.2 or 1.4.

    Layout, in root: `relationships.json`; `attributes.json` and `objects.json`, if they are there; `VG_100K/` and
    `VG_100K_2/` with the photos. The files are read as streams. The variant "alias" replaces words by the first of
    their line in `relationship_alias.txt` and `object_alias.txt`. There is no published split. Facts: <name, predicate,
    name>, <name, attribute>, <name>; words are free text in lower case.
    """
    words_of = _Words(*(_aliases(root, f"{kind}_alias.txt", variant) for kind in ("object", "relationship")))
    require(root / "relationships.json")
    for read in (words_of.relationships, words_of.attributes, words_of.objects):
        if (path := root / f"{read.__name__}.json").exists():
            yield from _photos(root, path, read)


Facts = Iterator[tuple[Fact, tuple[Box, ...]]]
"""Facts with their boxes."""


@dataclass(frozen=True)
class _Words:
    """Reads a photo's entries of each file; what has an empty word is left out.

    Attributes:
        object_alias: Replaces names of objects.
        relationship_alias: Replaces predicates.
    """

    object_alias: Mapping[str, str]
    relationship_alias: Mapping[str, str]

    def relationships(self, photo: Any) -> Facts:
        """<name, predicate, name>."""
        for each in photo["relationships"]:
            things = each["subject"], each["object"]
            predicate = words(each["predicate"])
            units = self._name(things[0]), self.relationship_alias.get(predicate, predicate), self._name(things[1])
            if all(units):
                yield Fact(*units), tuple(_box(thing) for thing in things)

    def attributes(self, photo: Any) -> Facts:
        """<name, attribute>."""
        for each in photo["attributes"]:
            name = self._name(each)
            for attribute in map(words, each.get("attributes") or ()):
                if name and attribute:
                    yield Fact(name, attribute), (_box(each),)

    def objects(self, photo: Any) -> Facts:
        """<name>."""
        for each in photo["objects"]:
            if name := self._name(each):
                yield Fact(name), (_box(each),)

    def _name(self, entry: Any) -> str:
        names = entry.get("names") or entry.get("object_names")
        name = words(entry["name"] if names is None else names[0])
        return self.object_alias.get(name, name)


def _photos(root: Path, path: Path, read: Callable[[Any], Facts]) -> Iterator[FactRecord]:
    for place, photo in enumerate(stream_json(path, "item"), start=1):
        with published_form(path, place):
            number = photo["image_id"] if "image_id" in photo else photo["id"]
            facts = list(read(photo))
        image = _photo(root, number)
        for fact, boxes in facts:
            yield FactRecord(image, fact, boxes=boxes)


def _photo(root: Path, number: int) -> str:
    return find_photo(root, *(f"{folder}/{number}.jpg" for folder in PHOTOS))


def _box(entry: Any) -> Box:
    return box_of_size(*(entry[key] for key in ("x", "y", "w", "h")))


def _aliases(root: Path, name: str, variant: str | None) -> dict[str, str]:
    """The first word of the line of each of the others in a file of aliases."""
    first: dict[str, str] = {}
    for line in read_lines(root / name) if variant == "alias" else ():
        canonical, *others = (words(word) for word in line.split(","))
        first.update(dict.fromkeys(others, canonical))
    return first


# ---- VG150 -----------------------------------------------------------------------------------------------------------


Names = Mapping[str, Mapping[int, str]]
"""The words of each kind (label, predicate, attribute) by their number, from 1."""

Grouped = tuple[Fact, tuple[Box, ...], str | None]
"""A fact, its boxes, and its task."""


def read_vg150(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read VG150 (Xu, Zhu, Choy and Fei-Fei, "Scene graph generation by iterative message passing", CVPR 2017), also
    with attributes, as K. Tang has published it.

    Layout, in root: `VG-SGG.h5` and `VG-SGG-dicts.json`, or `VG-SGG-with-attri.h5` and `VG-SGG-dicts-with-attri.json`;
    `image_data.json`; `VG_100K/` (and `VG_100K_2/`) with the photos. A row of the HDF5 file is a photo of
    image_data.json without four broken ones; rows of boxes and relations are ranges, their last row included; numbers
    of words count from 1. Facts: <name, predicate, name>, <name, attribute>, <name>. The variant "csegg" has relations
    only, each in the task (T1 to T5) of its predicate, as the benchmark CSEGG has published them.
    """
    path, names = _vg150_files(root)
    photos = _photo_sizes(root / "image_data.json")
    for place, split, rows in _vg150_rows(path, len(photos)):
        number, extent = photos[place]
        image = _photo(root, number)
        with published_form(path, f"photo {number}"):
            facts = [*_relations(rows, names, csegg=variant == "csegg")]
            if variant != "csegg":
                facts += _things(rows, names)
        for fact, boxes, group in facts:
            yield FactRecord(image, fact, split, boxes, group, extent=extent)


def _vg150_files(root: Path) -> tuple[Path, Names]:
    """The HDF5 file, and the words of its numbers."""
    for ending in ("", "-with-attri"):
        path = root / f"VG-SGG{ending}.h5"
        if path.exists():
            dictionary = root / f"VG-SGG-dicts{ending}.json"
            content = read_json(dictionary, dict)
            kinds = [kind for kind in ("label", "predicate", "attribute") if f"idx_to_{kind}" in content]
            with published_form(dictionary, "idx_to_label"):
                return path, {
                    kind: {int(n): words(word) for n, word in content[f"idx_to_{kind}"].items()} for kind in kinds
                }
    raise MissingFile("VG-SGG.h5 or VG-SGG-with-attri.h5")


def _photo_sizes(path: Path) -> list[tuple[int, tuple[float, float]]]:
    """The number of each photo that has a row, and its size when its long side is scaled to SIDE."""
    sizes = []
    for place, photo in enumerate(read_json(path, list), start=1):
        with published_form(path, place):
            number = photo["image_id"] if "image_id" in photo else photo["id"]
            scale = SIDE / max(photo["width"], photo["height"])
            if number not in BROKEN:
                sizes.append((number, as_extent(photo["width"] * scale, photo["height"] * scale)))
    return sizes


def _vg150_rows(path: Path, count: int) -> Iterator[tuple[int, str, dict[str, np.ndarray]]]:
    """The place of each photo, its split, and its rows of the HDF5 file; row numbers of relations are its own."""
    h5py = optional_module("h5py")
    try:
        with h5py.File(path) as file:
            data = {name: file[name][()] for name in file}
    except (OSError, KeyError, RuntimeError) as error:
        raise UserError(f"{path} is not a readable HDF5 file, or cut short: {reason(error)}") from error
    with published_form(path, "split"):
        if len(data["split"]) != count:
            raise ValueError(f"{len(data['split'])} rows, but image_data.json has {count} photos that are not broken")
        ranges = [data[f"img_to_{end}_{kind}"].tolist() for kind in ("box", "rel") for end in ("first", "last")]
    for place, (first, last, first_relation, last_relation) in enumerate(zip(*ranges, strict=True)):
        with published_form(path, f"row {place}"):
            boxes, relations = slice(first, last + 1), slice(first_relation, last_relation + 1)
            rows = {kind: data[kind][boxes] for kind in ("labels", "boxes_1024", "attributes") if kind in data}
            if first < 0:
                rows = {kind: of[:0] for kind, of in rows.items()}
            if first_relation < 0:
                relations = slice(0)
            pairs = data["relationships"][relations] - first
            if len(wrong := pairs[(pairs < 0) | (pairs >= len(rows["labels"]))]):
                raise ValueError(
                    f"a relation is of row {wrong[0] + first} of the boxes, its photo has {first} to {last}"
                )
            rows |= {"relationships": pairs, "predicates": data["predicates"][relations]}
        yield place, "test" if data["split"][place] == 2 else "train", rows


def _relations(rows: Mapping[str, np.ndarray], names: Names, csegg: bool) -> Iterator[Grouped]:
    labels, boxes = rows["labels"].ravel().tolist(), _centred(rows["boxes_1024"])
    predicates = rows["predicates"].ravel().tolist()
    for (subject, target), number in zip(rows["relationships"].tolist(), predicates, strict=True):
        units = [pick(names["label"], labels[row], "label") for row in (subject, target)]
        group = next((f"T{task}" for task, of in enumerate(CSEGG_TASKS, start=1) if number in of), None)
        fact = Fact(units[0], pick(names["predicate"], number, "predicate"), units[1])
        yield fact, (boxes[subject], boxes[target]), group if csegg else None


def _things(rows: Mapping[str, np.ndarray], names: Names) -> Iterator[Grouped]:
    """The objects of a photo and their attributes; 0 is no attribute."""
    labels, boxes = rows["labels"].ravel().tolist(), _centred(rows["boxes_1024"])
    attributes = rows["attributes"].tolist() if "attributes" in rows and "attribute" in names else [()] * len(labels)
    for label, box, numbers in zip(labels, boxes, attributes, strict=True):
        name = pick(names["label"], label, "label")
        yield Fact(name), (box,), None
        for number in filter(None, numbers):
            yield Fact(name, pick(names["attribute"], number, "attribute")), (box,), None


def _centred(boxes: np.ndarray) -> list[Box]:
    """Boxes given by their centre and size."""
    return [(x - width / 2, y - height / 2, x + width / 2, y + height / 2) for x, y, width, height in boxes.tolist()]
