"""HICO and HICO-DET: 600 interactions of persons with objects, as labels of photos and with boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.data.fact_sets.coco import NAME_OF_ID
from tripletcl.data.fact_sets.files import below, read_json
from tripletcl.data.fact_sets.record import Box, FactRecord, as_box, box_from_1, pick, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import MissingFile, field, flat_texts, locate, read_mat

PERSON = "person"
NONE = "no_interaction"
SPLITS = {"train": "train2015", "test": "test2015"}
PLACES = ("hico_20160224_det", "hico_20160224_det/annotations", "hico_20150920", "annotations")
FORMS = {"mat": "anno_bbox.mat", "json": "instances_train2015.json", "ppdm": "trainval_hico.json"}
"""The variants of HICO-DET, and the file by which each is known."""

VERBS = (
    *("adjust", "assemble", "block", "blow", "board", "break", "brush_with", "buy", "carry", "catch", "chase"),
    *("check", "clean", "control", "cook", "cut", "cut_with", "direct", "drag", "dribble", "drink_with", "drive"),
    *("dry", "eat", "eat_at", "exit", "feed", "fill", "flip", "flush", "fly", "greet", "grind", "groom", "herd"),
    *("hit", "hold", "hop_on", "hose", "hug", "hunt", "inspect", "install", "jump", "kick", "kiss", "lasso"),
    *("launch", "lick", "lie_on", "lift", "light", "load", "lose", "make", "milk", "move", NONE, "open", "operate"),
    *("pack", "paint", "park", "pay", "peel", "pet", "pick", "pick_up", "point", "pour", "pull", "push", "race"),
    *("read", "release", "repair", "ride", "row", "run", "sail", "scratch", "serve", "set", "shear", "sign", "sip"),
    *("sit_at", "sit_on", "slide", "smell", "spin", "squeeze", "stab", "stand_on", "stand_under", "stick", "stir"),
    *("stop_at", "straddle", "swing", "tag", "talk_on", "teach", "text_on", "throw", "tie", "toast", "train"),
    *("turn", "type_on", "walk", "wash", "watch", "wave", "wear", "wield", "zip"),
)
"""The verbs in the order of their numbers, from 1, in the form of PPDM."""
DOUBLED = (
    *("control", "cut", "drag", "flip", "hit", "hop", "hug", "pet", "run", "set", "sip", "sit", "spin", "stab", "stir"),
    *("stop", "tag", "zip"),
)
"""Verbs that double their last letter before "-ing"."""


def ing(verb: str) -> str:
    """The predicate of a verb: "sit_on" is "sitting on"."""
    first, *others = words(verb).split()
    if first.endswith("ie"):
        stem = f"{first[:-2]}y"
    elif first.endswith("e") and not first.endswith("ee"):
        stem = first[:-1]
    else:
        stem = first + first[-1] * (first in DOUBLED)
    return " ".join([f"{stem}ing", *others])


def read_hico(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read HICO (Chao, Wang, He, Wang and Deng, "HICO: a benchmark for recognizing human-object interactions in
    images", ICCV 2015), published as hico_20150920.tar.gz.

    Layout, in root or root/hico_20150920: `anno.mat` (list_action; list_train and list_test, the photos; anno_train and
    anno_test `[600, N]`: 1 shown, -1 not shown, 0 ambiguous, NaN not known) and `images/train2015`, `images/test2015`.
    Facts have order 3; the interaction "no_interaction" is none. What is not known has no record.
    """
    path = _base(root, "anno.mat") / "anno.mat"
    names = [name for split in SPLITS for name in (f"list_{split}", f"anno_{split}")]
    actions, *parts = read_mat(path, "list_action", *names)
    facts = _actions(path, actions)
    for (split, folder), photos, labels in zip(SPLITS.items(), parts[::2], parts[1::2], strict=True):
        images, prefix = flat_texts(photos), _photos(root, folder)
        with published_form(path, f"anno_{split}"):
            if labels.shape != (len(facts), len(images)):
                raise ValueError(
                    f"its shape is {labels.shape}, but there are {len(facts)} actions, {len(images)} photos"
                )
        for column, image in enumerate(images):
            known = np.flatnonzero(~np.isnan(labels[:, column]))
            for fact, value in zip(known.tolist(), labels[known, column].tolist(), strict=True):
                if (shown := facts[fact]) is not None:
                    label = None if value == 0 else value > 0
                    yield FactRecord(f"{prefix}{image}", shown, split, label=label)


def read_hico_det(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read HICO-DET (Chao, Liu, Liu, Zeng and Deng, "Learning to detect human-object interactions", WACV 2018), in
    its published form or in one of two conversions.

    Layout, in root or a folder of it (hico_20160224_det, annotations), one of these variants: "mat", `anno_bbox.mat`
    with bbox_train, bbox_test and list_action; "json", F. Zhang's `instances_train2015.json` and
    `instances_test2015.json`; "ppdm", `trainval_hico.json` and `test_hico.json`. And `images/train2015`,
    `images/test2015`. Boxes count from 1 in the first two, in the first with the fields x1, x2, y1, y2. Facts are
    <person, riding, horse>; the interaction "no_interaction" is none. An interaction that is not visible has no boxes.
    """
    for form in FORMS if variant is None else (variant,):
        for place in ("", *PLACES):
            if (root / place / FORMS[form]).exists():
                yield from READERS[form](root, root / place)
                return
    raise MissingFile(" or ".join(FORMS.values()) if variant is None else FORMS[variant])


def _base(root: Path, marker: str) -> Path:
    return locate(root, marker, *PLACES)


def _photos(root: Path, folder: str) -> str:
    return f"{below(root, _base(root, f'images/{folder}'))}images/{folder}/"


def _actions(path: Path, actions: np.ndarray) -> list[Fact | None]:
    """The fact of each interaction; None for "no_interaction"."""
    texts = [flat_texts(field(actions, name, path)) for name in ("vname", "vname_ing", "nname")]
    return [
        None if verb == NONE else Fact(PERSON, words(predicate), words(thing))
        for verb, predicate, thing in zip(*texts, strict=True)
    ]


def _from_mat(root: Path, base: Path) -> Iterator[FactRecord]:
    path = base / "anno_bbox.mat"
    actions, *parts = read_mat(path, "list_action", *(f"bbox_{split}" for split in SPLITS))
    facts = _actions(path, actions)
    for (split, folder), photos in zip(SPLITS.items(), parts, strict=True):
        prefix = _photos(root, folder)
        for photo in photos.ravel():
            with published_form(path, name := str(photo["filename"].item())):
                records = [
                    FactRecord(f"{prefix}{name}", fact, split, boxes)
                    for hoi in photo["hoi"].ravel()
                    if (fact := pick(facts, int(hoi["id"].item()), "id", first=1)) is not None
                    for boxes in _pairs(hoi)
                ]
            yield from records


def _pairs(hoi: np.void) -> list[tuple[Box, ...]]:
    """The boxes of person and object of each pair of an interaction; one pair without boxes if it is not visible."""
    if hoi["invis"].item():
        return [()]
    persons, things = (
        [
            box_from_1(*(float(box[side].item()) for side in ("x1", "y1", "x2", "y2")))
            for box in hoi[f"bbox{name}"].ravel()
        ]
        for name in ("human", "object")
    )
    connections = hoi["connection"].reshape(-1, 2).astype(int).tolist()
    return [
        (pick(persons, person, "connection's person", first=1), pick(things, thing, "connection's object", first=1))
        for person, thing in connections
    ]


def _from_json(root: Path, base: Path) -> Iterator[FactRecord]:
    for split, folder in SPLITS.items():
        path, prefix = base / f"instances_{folder}.json", _photos(root, folder)
        content = read_json(path, dict)
        with published_form(path, "filenames"):
            photos = list(zip(content["filenames"], content["annotation"], strict=True))
            lists = [content[key] for key in ("verbs", "objects", "correspondence")]
        for name, entry in photos:
            with published_form(path, name):
                records = [
                    FactRecord(f"{prefix}{name}", fact, split, (box_from_1(*person), box_from_1(*thing)))
                    for fact, person, thing in zip(
                        _json_facts(entry, *lists), entry["boxes_h"], entry["boxes_o"], strict=True
                    )
                    if fact is not None
                ]
            yield from records


def _json_facts(
    entry: Any, verbs: Sequence[str], objects: Sequence[str], interactions: Sequence[list[int]]
) -> Iterator[Fact | None]:
    for hoi, verb, thing in zip(entry["hoi"], entry["verb"], entry["object"], strict=True):
        if pick(interactions, hoi, "hoi") != [hoi, thing, verb]:
            raise ValueError(f"its hoi {hoi} is {interactions[hoi]} in `correspondence`, not {[hoi, thing, verb]}")
        name = pick(verbs, verb, "verb")
        yield None if name == NONE else Fact(PERSON, ing(name), words(pick(objects, thing, "object")))


def _from_ppdm(root: Path, base: Path) -> Iterator[FactRecord]:
    for split, name in (("train", "trainval_hico.json"), ("test", "test_hico.json")):
        path, prefix = base / name, _photos(root, SPLITS[split])
        for photo in read_json(path, list):
            with published_form(path, photo.get("file_name") if isinstance(photo, dict) else photo):
                records = [
                    FactRecord(f"{prefix}{photo['file_name']}", fact, split, boxes)
                    for fact, boxes in _ppdm_facts(photo["annotations"], photo["hoi_annotation"])
                ]
            yield from records


def _ppdm_facts(instances: list[Any], interactions: list[Any]) -> Iterator[tuple[Fact, tuple[Box, ...]]]:
    """The facts with their boxes; the published file has a few numbers of objects that do not exist: skipped."""
    for interaction in interactions:
        verb = pick(VERBS, interaction["category_id"], "verb", first=1)
        units = interaction["subject_id"], interaction["object_id"]
        if verb == NONE or max(units) >= len(instances) or units[0] < 0:
            continue
        found = [instances[unit] for unit in units if unit >= 0]  # -1: there is no object
        names = [pick(NAME_OF_ID, int(str(each["category_id"])), "category_id") for each in found]
        yield Fact(PERSON, ing(verb), *names[1:]), tuple(as_box(each["bbox"]) for each in found)


READERS = {"mat": _from_mat, "json": _from_json, "ppdm": _from_ppdm}
