"""The objects of COCO, and the facts of one unit that they are."""

from __future__ import annotations

from collections.abc import Container, Iterator
from pathlib import Path
from typing import NamedTuple

from tripletcl.data.fact_sets.files import stream_json
from tripletcl.data.fact_sets.record import Box, FactRecord, box_of_size, pick, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import MissingFile

YEARS = ("2017", "2014")
FOLDERS = ("annotations", "")

NAMES = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light"),
    *("fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow"),
    *("elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee"),
    *("skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard"),
    *("tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch"),
    *("potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors", "teddy bear"),
    *("hair drier", "toothbrush"),
)
"""The 80 categories in the order of their ids."""
UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)
NAME_OF_ID = dict(zip((number for number in range(1, 91) if number not in UNUSED_IDS), NAMES, strict=True))
"""The name of each of the 80 category ids, which go to 90."""


class Instance(NamedTuple):
    """An annotated object: the number of its photo, its category's name, and its box."""

    image: int
    name: str
    box: Box


def read_instances(path: Path, wanted: Container[int] | None = None) -> Iterator[tuple[int, Instance]]:
    """The objects of one of COCO's files of instances with their ids, all or those that are wanted."""
    names = {}
    for category in stream_json(path, "categories.item"):
        with published_form(path, category):
            names[category["id"]] = words(category["name"])
    for number, entry in enumerate(stream_json(path, "annotations.item"), start=1):
        with published_form(path, f"annotation {number}"):
            if wanted is None or entry["id"] in wanted:
                name = pick(names, entry["category_id"], "category_id")
                yield entry["id"], Instance(int(entry["image_id"]), name, box_of_size(*entry["bbox"]))


def read_coco(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read the objects of COCO (Lin and others, "Microsoft COCO: common objects in context", ECCV 2014) as facts of
    order 1.

    Layout, for the year 2017 or 2014 (the variants): `instances_train2017.json` and `instances_val2017.json` in root or
    root/annotations, and `train2017/`, `val2017/` with the photos. A box is x, y, width, height, counted from 0. The
    photos of val are for testing.
    """
    folder, year = _locate(root, variant)
    for split, part in (("train", f"train{year}"), ("test", f"val{year}")):
        prefix = f"COCO_{part}_" if year == "2014" else ""
        for _, instance in read_instances(folder / f"instances_{part}.json"):
            image = f"{part}/{prefix}{instance.image:012d}.jpg"
            yield FactRecord(image, Fact(instance.name), split, (instance.box,))


def _locate(root: Path, variant: str | None) -> tuple[Path, str]:
    for year in YEARS if variant is None else (variant,):
        for folder in FOLDERS:
            if (root / folder / f"instances_train{year}.json").exists():
                return root / folder, year
    raise MissingFile(f"annotations/instances_train{variant or YEARS[0]}.json")
