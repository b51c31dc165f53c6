"""Situations: imSitu, and SWiG, which adds boxes to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tripletcl.data.fact_sets.files import below, first_existing, read_json
from tripletcl.data.fact_sets.record import Box, FactRecord, as_box, as_extent, published_form, words
from tripletcl.data.facts import Fact
from tripletcl.data.sets.archive import locate

PARTS = {"train": "train", "dev": "train", "test": "test"}
AGENT, PLACE = "agent", "place"


def read_swig(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read imSitu (Yatskar, Zettlemoyer and Farhadi, "Situation recognition", CVPR 2016) or SWiG (Pratt, Yatskar,
    Weihs, Farhadi and Kembhavi, "Grounded situation recognition", ECCV 2020).

    Layout, in root or root/SWiG_jsons: `train.json`, `dev.json`, `test.json`, `imsitu_space.json`; in root:
    `images_512/` (SWiG) or `of500_images_resized/` (imSitu). dev is for training. Subject is the first gloss of the
    agent, predicate the verb, objects are those of the other roles but the place, each by the majority of the three
    annotators, the first of them in a tie: facts have order 3, or 2 where no other role is filled. What has no agent or
    no gloss has no fact.
    """
    base = locate(root, "imsitu_space.json", "SWiG_jsons")
    photos = below(root, first_existing(root, "images_512", "of500_images_resized"))
    space = read_json(base / "imsitu_space.json", dict)
    with published_form(base / "imsitu_space.json", "nouns"):
        glosses = {number: words(noun["gloss"][0]) for number, noun in space["nouns"].items() if noun["gloss"]}
        orders = {verb: about["order"] for verb, about in space["verbs"].items()}
    for part, split in PARTS.items():
        path = base / f"{part}.json"
        for name, photo in read_json(path, dict).items():
            with published_form(path, name):
                records = [
                    FactRecord(f"{photos}{name}", fact, split, boxes, extent=_extent(photo))
                    for fact, boxes in _facts(photo, orders[photo["verb"]], glosses)
                ]
            yield from records


def _facts(photo: Any, order: list[str], glosses: Mapping[str, str]) -> Iterator[tuple[Fact, tuple[Box, ...]]]:
    values = {role: glosses.get(_majority(photo["frames"], role)) for role in order}
    agent, verb = values.get(AGENT), words(photo["verb"])
    if agent is None:
        return
    others = {role: value for role, value in values.items() if value is not None and role not in (AGENT, PLACE)}
    if not others:
        yield Fact(agent, verb), _boxes(photo, AGENT)
    for role, value in others.items():
        yield Fact(agent, verb, value), _boxes(photo, AGENT, role)


def _majority(frames: list[dict[str, str]], role: str) -> str:
    """The value of a role that most annotators gave, of several the first."""
    return Counter(frame.get(role, "") for frame in frames).most_common(1)[0][0]


def _boxes(photo: Any, *roles: str) -> tuple[Box, ...]:
    """The boxes of roles; none unless all of them have one."""
    boxes = [photo.get("bb", {}).get(role, [-1]) for role in roles]
    return () if any(-1 in box for box in boxes) else tuple(as_box(box) for box in boxes)


def _extent(photo: Any) -> tuple[float, float] | None:
    return as_extent(photo["width"], photo["height"]) if "bb" in photo else None
