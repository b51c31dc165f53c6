"""V-COCO: what the people in photos of COCO do, and with which objects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tripletcl.data.fact_sets.coco import Instance, read_instances
from tripletcl.data.fact_sets.files import read_json
from tripletcl.data.fact_sets.record import FactRecord, as_box, pick, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import MissingFile, locate, require

PERSON = "person"
CONVERTED = "instances_vcoco_trainval.json"
COMPANION = "instances_vcoco_all_2014.json"
PARTS = {"train": "train", "val": "train", "test": "test"}
"""The splits of the files: train and val are for training, as the field reports it."""

PHRASES = {
    ("sit", "instr"): "sit on",
    ("look", "obj"): "look at",
    ("hit", "instr"): "hit with",
    ("eat", "instr"): "eat with",
    ("jump", "instr"): "jump with",
    ("lay", ""): "lie",
    ("lay", "instr"): "lie on",
    ("cut", "instr"): "cut with",
    ("drink", "instr"): "drink with",
    ("point", "instr"): "point at",
}
"""The predicate of an action and the role of its object ("" for none), where it is not the action's name; with the
variant "raw" it is always that."""


def read_vcoco(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read V-COCO (Gupta and Malik, "Visual semantic role labeling", arXiv 1505.04474, 2015), in its original form or
    as F. Zhang has converted it.

    Layout of the original, in root, root/data/vcoco or root/vcoco: `vcoco_train.json`, `vcoco_val.json`,
    `vcoco_test.json`; next to them, in the folder above or in root `instances_vcoco_all_2014.json`, or COCO's own
    `instances_train2014.json` and `instances_val2014.json` in root or root/annotations. Of the converted form, in root:
    `instances_vcoco_trainval.json`, `instances_vcoco_test.json`, which have no action without an object. Of both:
    `train2014/` and `val2014/` with COCO's photos. `role_object_id` is column-major: all agents, then all objects of
    the first role, and so on. Facts have order 2, shown or verified not to be shown by each person, and 3. The variant
    "phrases" makes predicates such as "sit on" of action and role, "raw" takes the action's name.
    """
    phrases = {} if variant == "raw" else PHRASES
    if (root / CONVERTED).exists():
        yield from _converted(root, phrases)
    else:
        yield from _original(root, phrases)


def _predicate(action: str, role: str, phrases: dict[tuple[str, str], str]) -> str:
    return phrases.get((action, role), words(action))


def _original(root: Path, phrases: dict[tuple[str, str], str]) -> Iterator[FactRecord]:
    base = locate(root, "vcoco_train.json", "data/vcoco", "vcoco")
    files = {part: base / f"vcoco_{part}.json" for part in PARTS}
    actions = {part: read_json(require(path), list) for part, path in files.items()}
    wanted: set[int] = set()
    for part, of_part in actions.items():
        for number, action in enumerate(of_part, start=1):
            with published_form(files[part], number):
                _check_form(action)
                wanted.update(action["role_object_id"])
    instances = dict(pair for path in _companions(root, base) for pair in read_instances(path, wanted))
    for part, split in PARTS.items():
        for action in actions[part]:
            with published_form(files[part], action["action_name"]):
                yield from _people(action, part, split, instances, phrases)


def _check_form(action: Any) -> None:
    persons, roles, objects = action["ann_id"], action["role_name"], action["role_object_id"]
    if len(objects) != len(persons) * len(roles):
        raise ValueError(f"{len(persons)} persons and {len(roles)} roles, but {len(objects)} entries of role_object_id")
    if objects[: len(persons)] != persons:
        raise ValueError("role_object_id does not begin with all persons: it is not column-major")


def _companions(root: Path, base: Path) -> list[Path]:
    """The files with COCO's boxes and categories."""
    places = [base, root] if base == root else [base, base.parent, root]
    for folder in places:
        if (folder / COMPANION).exists():
            return [folder / COMPANION]
    for folder in (root, root / "annotations"):
        files = [folder / f"instances_{part}2014.json" for part in ("train", "val")]
        if all(file.exists() for file in files):
            return files
    raise MissingFile(
        f"data/{COMPANION} or annotations/instances_train2014.json and instances_val2014.json, COCO's boxes and "
        "categories of persons and objects"
    )


def _people(
    action: Any, part: str, split: str, instances: dict[int, Instance], phrases: dict[tuple[str, str], str]
) -> Iterator[FactRecord]:
    """The facts of every person of an action."""
    name, count = action["action_name"], len(action["ann_id"])
    plain = Fact(PERSON, _predicate(name, "", phrases))
    for row, (photo, label) in enumerate(zip(action["image_id"], action["label"], strict=True)):
        image = _photo("val2014" if part == "test" else "train2014", photo)
        person = _instance(instances, action["ann_id"][row], photo)
        yield FactRecord(image, plain, split, (person.box,), label=bool(label))
        for place, role in enumerate(action["role_name"][1:], start=1):
            number = action["role_object_id"][place * count + row]
            if label and number:
                thing = _instance(instances, number, photo)
                fact = Fact(PERSON, _predicate(name, role, phrases), thing.name)
                yield FactRecord(image, fact, split, (person.box, thing.box))


def _instance(instances: dict[int, Instance], number: int, photo: int) -> Instance:
    if number not in instances:
        raise ValueError(f"annotation {number} of photo {photo} is not among COCO's instances")
    if instances[number].image != photo:
        raise ValueError(f"annotation {number} of photo {photo} is of photo {instances[number].image} in COCO")
    return instances[number]


def _photo(folder: str, number: int) -> str:
    return f"{folder}/COCO_{folder}_{number:012d}.jpg"


def _converted(root: Path, phrases: dict[tuple[str, str], str]) -> Iterator[FactRecord]:
    for part, split in (("trainval", "train"), ("test", "test")):
        path = root / f"instances_vcoco_{part}.json"
        content = read_json(path, dict)
        with published_form(path, "classes"):
            predicates = [
                _predicate(action, role, phrases) for action, role in (n.rsplit(" ", 1) for n in content["classes"])
            ]
            photos = list(content["annotations"])
        for photo in photos:
            with published_form(path, photo):
                folder = photo["file_name"].split("_")[1]
                records = [
                    FactRecord(
                        f"{folder}/{photo['file_name']}",
                        Fact(
                            PERSON, pick(predicates, action, "action"), words(pick(content["objects"], thing, "object"))
                        ),
                        split,
                        (as_box(person), as_box(box)),
                    )
                    for person, box, action, thing in zip(
                        *(photo[key] for key in ("boxes_h", "boxes_o", "actions", "objects")), strict=True
                    )
                    if thing != 0  # the background, no object
                ]
            yield from records
