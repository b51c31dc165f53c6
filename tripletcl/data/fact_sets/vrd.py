"""Visual Relationship Detection (VRD), and UnRel, whose relations are unusual and whose words are those of VRD."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.data.fact_sets.files import below, find_photo, read_json
from tripletcl.data.fact_sets.record import Box, FactRecord, box_from_1, pick, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import locate, read_mat, require
from tripletcl.errors import UserError

FIRST_PREDICATES = ("on", "wear", "has", "next to", "sleep next to")
"""The order of predicates.json; a list in the order of frequency circulates too, and makes every label wrong."""
KNOWN_PHOTO = "2113966890_c65030a7e7_o.jpg"
KNOWN_FACTS = (("umbrella", "above", "table"), ("umbrella", "cover", "table"), ("chair", "under", "umbrella"))


def read_vrd(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read VRD (Lu, Krishna, Bernstein and Fei-Fei, "Visual relationship detection with language priors", ECCV 2016).

    Layout, in root, root/json_dataset or root/vrd: `annotations_train.json`, `annotations_test.json`, `objects.json`,
    `predicates.json`; in root or root/sg_dataset: `sg_train_images/` and `sg_test_images/`. A box is [ymin, ymax, xmin,
    xmax], counted from 1; numbers of objects and predicates count from 0. A photo may have another suffix than its
    name. The published set has 30,355 relations of 4,000 training photos (6,672 facts, 27,233 rows) and 7,638 of 1,000
    test photos. Facts have order 3.
    """
    base = locate(root, "annotations_train.json", "json_dataset", "vrd")
    photos = below(root, locate(root, "sg_train_images", "sg_dataset"))
    objects, predicates = (read_json(base / f"{name}.json", list) for name in ("objects", "predicates"))
    with published_form(base / "predicates.json", "the whole"):
        _check_order(base / "predicates.json", predicates)
    for split in ("train", "test"):
        path = base / f"annotations_{split}.json"
        for name, relations in read_json(path, dict).items():
            with published_form(path, name):
                facts = [(_fact(each, objects, predicates), _boxes(each)) for each in relations]
            if name == KNOWN_PHOTO and tuple(fact.units for fact, _ in facts[:3]) != KNOWN_FACTS:
                raise UserError(
                    f"{base}/objects.json or predicates.json is in another order than the annotations: {name} would "
                    f"begin with {facts[0][0] if facts else 'nothing'}, not {Fact(*KNOWN_FACTS[0])}"
                )
            image = find_photo(root, f"{photos}sg_{split}_images/{name}")
            for fact, boxes in facts:
                yield FactRecord(image, fact, split, boxes)


def _check_order(path: Path, predicates: Sequence[str]) -> None:
    if set(FIRST_PREDICATES) <= set(predicates) and tuple(predicates[:5]) != FIRST_PREDICATES:
        raise UserError(
            f"{path} is in another order than the annotations: it begins with {', '.join(predicates[:5])}, the "
            f"published one with {', '.join(FIRST_PREDICATES)}"
        )


def _fact(relation: Any, objects: Sequence[str], predicates: Sequence[str]) -> Fact:
    subject, target = (
        pick(objects, relation[unit]["category"], f"{unit}'s category") for unit in ("subject", "object")
    )
    return Fact(words(subject), words(pick(predicates, relation["predicate"], "predicate")), words(target))


def _boxes(relation: Any) -> tuple[Box, ...]:
    boxes = []
    for unit in ("subject", "object"):
        top, bottom, left, right = relation[unit]["bbox"]
        boxes.append(box_from_1(left, top, right, bottom))
    return tuple(boxes)


def read_unrel(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read UnRel (Peyre, Laptev, Schmid and Sivic, "Weakly-supervised learning of visual relations", ICCV 2017).

    Layout, in root or root/unrel-dataset: `annotations.mat` (a cell of structs: filename, relationships with sub,
    sub_box, obj, obj_box [x1 y1 x2 y2] and rels, a cell of texts) and `images/`. All photos are for testing. Facts have
    order 3.
    """
    path = locate(root, "annotations.mat", "unrel-dataset") / "annotations.mat"
    photos = below(root, require(path.parent / "images"))
    for number, photo in enumerate(_structs(read_mat(path, "annotations")[0]), start=1):
        with published_form(path, number):
            image = find_photo(root, f"{photos}{_text(photo['filename'])}")
            records = [
                FactRecord(image, fact, "test", tuple(_box(relation[key]) for key in ("sub_box", "obj_box")))
                for relation in _structs(photo["relationships"])
                for fact in _unusual_facts(relation)
            ]
        yield from records


def _unusual_facts(relation: np.void) -> Iterator[Fact]:
    for predicate in np.atleast_1d(relation["rels"]).ravel():
        yield Fact(words(_text(relation["sub"])), words(_text(predicate)), words(_text(relation["obj"])))


def _structs(cells: np.ndarray) -> Iterator[np.void]:
    """The structs of a MATLAB array of structs, or of a cell of them, nested in any way."""
    for cell in cells.ravel():
        if isinstance(cell, np.void):
            yield cell
        else:
            yield from _structs(cell)


def _text(value: Any) -> str:
    return str(value.ravel()[0]) if isinstance(value, np.ndarray) else str(value)


def _box(value: np.ndarray) -> Box:
    left, top, right, bottom = (float(edge) for edge in value.ravel())
    return box_from_1(left, top, right, bottom)
