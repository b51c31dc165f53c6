"""The actions of PASCAL VOC 2012."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

from tripletcl.data.images import map_in_threads
from tripletcl.data.sets.archive import locate, read_rows, reason, require
from tripletcl.data.sets.object_set import RawSet
from tripletcl.errors import UserError
from tripletcl.files import write_atomically

ACTIONS = (
    "jumping",
    "phoning",
    "playinginstrument",
    "reading",
    "ridingbike",
    "ridinghorse",
    "running",
    "takingphoto",
    "usingcomputer",
    "walking",
    "other",
)
"""In the order of the development kit; "other" is none of the ten."""

PLACES = ("VOC2012", "VOCdevkit/VOC2012")
"""The folders below the root that may hold the set."""

QUALITY = 95

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class _Person:
    """One person of an annotation: the photograph, the box in it, the action (a position in ACTIONS), and the crop."""

    image: Path
    box: Box
    action: int
    crop: Path


def read_voc_actions(root: Path, scratch: Path) -> RawSet:
    """Read the action classification of PASCAL VOC 2012 (Everingham, Van Gool, Williams, Winn and Zisserman).

    Published as VOCtrainval_11-May-2012.tar.

    Layout, in root, root/VOC2012 or root/VOCdevkit/VOC2012: `ImageSets/Action/train.txt` and `val.txt`, a photograph a
    line; `Annotations/PHOTOGRAPH.xml`; `JPEGImages/PHOTOGRAPH.jpg`. A sample is a person: an object of the annotation
    with a box (`bndbox`, counted from 1, its ends included) and `actions`, eleven names each with 1 or 0. Its image is
    the photograph within the box; it is written below `scratch` once and used again while annotation and photograph
    stay the same. A person may do several things at once (phoning, walking): the class is the first of ACTIONS that is
    1; a person for whom none is 1 is left out. The labels of the test photographs were never published: val is the test
    split.
    """
    base = locate(root, "ImageSets/Action", *PLACES)
    folder = scratch / "voc_actions"
    splits = []
    for split in ("train", "val"):
        photographs = dict.fromkeys(
            row[0] for row in read_rows(base / "ImageSets" / "Action" / f"{split}.txt", first_word)
        )
        people = [person for photograph in photographs for person in _people(base, photograph, folder)]
        splits.append(([person.crop for person in people], [person.action for person in people]))
        missing = [person for person in people if not person.crop.exists()]
        for _ in map_in_threads(_write_crop, missing):
            pass
    return RawSet(ACTIONS, *splits)


def first_word(line: str) -> str:
    """The photograph of a line; the number of a person may follow it."""
    return line.split()[0]


def _people(base: Path, photograph: str, folder: Path) -> Iterator[_Person]:
    path = base / "Annotations" / f"{photograph}.xml"
    people = read_people(path)
    image = require(base / "JPEGImages" / f"{photograph}.jpg")
    content = path.read_bytes() + str(image.stat().st_size).encode()
    digest = hashlib.blake2b(content, digest_size=6).hexdigest()
    for number, (box, actions) in enumerate(people, start=1):
        action = next((place for place, name in enumerate(ACTIONS) if actions.get(name)), None)
        if box is not None and action is not None:
            yield _Person(image, box, action, folder / f"{photograph}-{number}-{digest}.jpg")


def read_people(path: Path) -> list[tuple[Box | None, dict[str, bool]]]:
    """The box of each object of an annotation, and whether it does each of the actions that it is labelled with."""
    try:
        objects = ElementTree.fromstring(require(path).read_bytes()).findall("object")
        return [(_box(entry), _actions(entry)) for entry in objects]
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} is not a readable annotation: {reason(error)}") from error


def _box(entry: ElementTree.Element) -> Box | None:
    """(left, top, right, bottom) in pixels from 0, right and bottom excluded, as Pillow counts."""
    bounds = entry.find("bndbox")
    if bounds is None:
        return None
    left, top, right, bottom = (round(float(bounds.findtext(side, ""))) for side in ("xmin", "ymin", "xmax", "ymax"))
    return left - 1, top - 1, right, bottom


def _actions(entry: ElementTree.Element) -> dict[str, bool]:
    return {action.tag: float(action.text or "0") > 0 for action in entry.findall("actions/*")}


def _write_crop(person: _Person) -> None:
    try:
        with Image.open(person.image) as photograph:
            width, height = photograph.size
            left, top, right, bottom = person.box
            box = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
            if box[0] >= box[2] or box[1] >= box[3]:
                raise UserError(f"{person.image} is {width} x {height}, and a person's box {person.box} is outside")
            crop = photograph.convert("RGB").crop(box)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{person.image} cannot be decoded: {reason(error)}") from error
    write_atomically(person.crop, lambda temporary: crop.save(temporary, format="JPEG", quality=QUALITY))
