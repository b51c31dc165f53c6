"""Actions of persons: Stanford 40, and those of PASCAL VOC 2012."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tripletcl.data.fact_sets.files import below
from tripletcl.data.fact_sets.record import Box, FactRecord, box_from_1
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import locate, read_lines, read_rows, reason, require
from tripletcl.data.sets.voc_actions import PLACES, first_word, read_people
from tripletcl.errors import UserError

PERSON = "person"

STANFORD_ACTIONS = {
    "applauding": ("applauding",),
    "blowing_bubbles": ("blowing", "bubbles"),
    "brushing_teeth": ("brushing", "teeth"),
    "cleaning_the_floor": ("cleaning", "floor"),
    "climbing": ("climbing",),
    "cooking": ("cooking",),
    "cutting_trees": ("cutting", "trees"),
    "cutting_vegetables": ("cutting", "vegetables"),
    "drinking": ("drinking",),
    "feeding_a_horse": ("feeding", "horse"),
    "fishing": ("fishing",),
    "fixing_a_bike": ("fixing", "bike"),
    "fixing_a_car": ("fixing", "car"),
    "gardening": ("gardening",),
    "holding_an_umbrella": ("holding", "umbrella"),
    "jumping": ("jumping",),
    "looking_through_a_microscope": ("looking through", "microscope"),
    "looking_through_a_telescope": ("looking through", "telescope"),
    "phoning": ("phoning",),
    "playing_guitar": ("playing", "guitar"),
    "playing_violin": ("playing", "violin"),
    "pouring_liquid": ("pouring", "liquid"),
    "pushing_a_cart": ("pushing", "cart"),
    "reading": ("reading",),
    "riding_a_bike": ("riding", "bike"),
    "riding_a_horse": ("riding", "horse"),
    "rowing_a_boat": ("rowing", "boat"),
    "running": ("running",),
    "shooting_an_arrow": ("shooting", "arrow"),
    "smoking": ("smoking",),
    "taking_photos": ("taking", "photos"),
    "texting_message": ("texting", "message"),
    "throwing_frisby": ("throwing", "frisbee"),
    "using_a_computer": ("using", "computer"),
    "walking_the_dog": ("walking", "dog"),
    "washing_dishes": ("washing", "dishes"),
    "watching_TV": ("watching", "TV"),
    "waving_hands": ("waving", "hands"),
    "writing_on_a_board": ("writing on", "board"),
    "writing_on_a_book": ("writing on", "book"),
}
"""The predicate and the object of each action."""

VOC_ACTIONS = {
    "jumping": ("jumping",),
    "phoning": ("phoning",),
    "playinginstrument": ("playing", "instrument"),
    "reading": ("reading",),
    "ridingbike": ("riding", "bike"),
    "ridinghorse": ("riding", "horse"),
    "running": ("running",),
    "takingphoto": ("taking", "photo"),
    "usingcomputer": ("using", "computer"),
    "walking": ("walking",),
}
"""The predicate and the object of each action; "other" is no fact."""


def read_stanford40(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read Stanford 40 Actions (Yao, Jiang, Khosla, Lin, Guibas and Fei-Fei, "Human action recognition by learning
    bases of action attributes and parts", ICCV 2011).

    Layout, in root: `JPEGImages/`, `ImageSplits/train.txt` and `test.txt` (a photo a line), and, for the box of the
    person, `XMLAnnotations/`, if it is there. The action of a photo is its name without the number. A photo has one
    fact, <person, applauding> or <person, riding, horse>.
    """
    require(root / "JPEGImages")
    for split in ("train", "test"):
        path = root / "ImageSplits" / f"{split}.txt"
        for name in read_lines(path):
            action = Path(name).stem.rpartition("_")[0]
            if action not in STANFORD_ACTIONS:
                raise UserError(f"{path} names the photo {name!r}, whose action {action!r} is none of the 40")
            boxes = _person(root / "XMLAnnotations" / f"{Path(name).stem}.xml")
            yield FactRecord(f"JPEGImages/{name}", Fact(PERSON, *STANFORD_ACTIONS[action]), split, boxes)


def _person(path: Path) -> tuple[Box, ...]:
    """The box of the first object of an annotation; none without the file."""
    if not path.exists():
        return ()
    try:
        box = ElementTree.parse(path).getroot().find("object/bndbox")
        sides = ("xmin", "ymin", "xmax", "ymax")
        return () if box is None else (box_from_1(*(float(box.findtext(side, "")) for side in sides)),)
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} is not a readable annotation: {reason(error)}") from error


def read_voc_facts(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read the actions of PASCAL VOC 2012 as facts; layout and splits as `tripletcl.data.sets` reads them.

    A person may have several actions, and 0 of an action was verified. Facts: <person, walking>, <person, riding,
    horse>.
    """
    base = locate(root, "ImageSets/Action", *PLACES)
    prefix = f"{below(root, base)}JPEGImages/"
    for split, part in (("train", "train"), ("test", "val")):
        rows = read_rows(base / "ImageSets" / "Action" / f"{part}.txt", first_word)
        for photograph in dict.fromkeys(row[0] for row in rows):
            for box, actions in read_people(base / "Annotations" / f"{photograph}.xml"):
                for action, units in VOC_ACTIONS.items():
                    if box is not None and action in actions:
                        fact = Fact(PERSON, *units)
                        yield FactRecord(f"{prefix}{photograph}.jpg", fact, split, (box,), label=actions[action])
