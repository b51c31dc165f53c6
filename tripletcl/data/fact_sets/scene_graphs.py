"""Scene graphs on photos of COCO and Visual Genome: PSG and GQA."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tripletcl.data.fact_sets.files import below, find_photo, read_json, stream_json_pairs
from tripletcl.data.fact_sets.record import Box, FactRecord, as_box, as_extent, box_of_size, pick, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import locate

CODES = ("merged", "stuff", "other")
"""Parts of the names of PSG's backgrounds that are no words."""
IN_ORDER = "window-blind"
"""The only name of a background whose words are in their order; of "wall-brick" they are not."""
SIDES = ("to the left of", "to the right of")
"""Relations that were added to GQA automatically, and are most of all."""


def read_psg(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read PSG (Yang, Ang, Guo, Zhou, Zhang and Liu, "Panoptic scene graph generation", ECCV 2022).

    Layout, in root or root/psg: `psg.json`; in root or root/coco: `train2017/` and `val2017/` with COCO's photos. A box
    is [x1, y1, x2, y2]; a relation is [subject, object, predicate], all from 0; a photo is for testing if its image_id,
    a text, is in `test_image_ids`. Facts have order 3; "wall-brick" is "brick wall", "sky-other-merged" is "sky".
    """
    path = locate(root, "psg.json", "psg") / "psg.json"
    photos = below(root, locate(root, "train2017", "coco"))
    content = read_json(path, dict)
    with published_form(path, "test_image_ids"):
        tests = {str(number) for number in content["test_image_ids"]}
        names = [words(name) for name in content["thing_classes"]] + [_background(n) for n in content["stuff_classes"]]
        predicates = [words(name) for name in content["predicate_classes"]]
        entries = list(content["data"])
    for photo in entries:
        with published_form(path, photo.get("file_name") if isinstance(photo, dict) else photo):
            split = "test" if str(photo["image_id"]) in tests else "train"
            records = [
                FactRecord(f"{photos}{photo['file_name']}", fact, split, boxes)
                for fact, boxes in _psg_facts(photo, names, predicates)
            ]
        yield from records


def _psg_facts(photo: Any, names: list[str], predicates: list[str]) -> Iterator[tuple[Fact, tuple[Box, ...]]]:
    for subject, target, predicate in photo["relations"]:
        things = [pick(photo["annotations"], number, "relation's object") for number in (subject, target)]
        units = [pick(names, thing["category_id"], "category_id") for thing in things]
        fact = Fact(units[0], pick(predicates, predicate, "predicate"), units[1])
        yield fact, tuple(as_box(thing["bbox"]) for thing in things)


def _background(name: str) -> str:
    parts = [part for part in name.split("-") if part not in CODES]
    return words(" ".join(parts if name == IN_ORDER else reversed(parts)))


def read_gqa(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read the scene graphs of GQA (Hudson and Manning, "GQA: a new dataset for real-world visual reasoning and
    compositional question answering", CVPR 2019).

    Layout, in root or root/sceneGraphs: `train_sceneGraphs.json` and `val_sceneGraphs.json`, read as streams; in root:
    `images/NUMBER.jpg`. The photos of val are for testing. Facts: <name, relation, name>, <name, attribute>, <name>;
    the variant "plain" is without "to the left of" and "to the right of", which were added automatically, "all" is with
    them.
    """
    base = locate(root, "train_sceneGraphs.json", "sceneGraphs")
    for split, part in (("train", "train"), ("test", "val")):
        path = base / f"{part}_sceneGraphs.json"
        for number, photo in stream_json_pairs(path):
            image = find_photo(root, f"images/{number}.jpg")
            with published_form(path, number):
                extent = as_extent(photo["width"], photo["height"])
                records = [
                    FactRecord(image, fact, split, boxes, extent=extent)
                    for fact, boxes in _gqa_facts(photo["objects"], variant == "all")
                ]
            yield from records


def _gqa_facts(objects: dict[str, Any], sides: bool) -> Iterator[tuple[Fact, tuple[Box, ...]]]:
    names = {key: words(thing["name"]) for key, thing in objects.items()}
    boxes = {key: box_of_size(*(thing[side] for side in ("x", "y", "w", "h"))) for key, thing in objects.items()}
    for key, thing in objects.items():
        yield Fact(names[key]), (boxes[key],)
        for attribute in thing.get("attributes", ()):
            yield Fact(names[key], words(attribute)), (boxes[key],)
        relations = thing.get("relations", ())
        for relation in relations.values() if isinstance(relations, dict) else relations:
            if sides or relation["name"] not in SIDES:
                target = relation["object"]
                yield Fact(names[key], words(relation["name"]), names[target]), (boxes[key], boxes[target])
