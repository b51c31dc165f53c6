"""Sets with verified negatives, made to test what a model sees: VSR and SVO-Probes."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tripletcl.data.fact_sets.files import find_photo, read_csv, read_json_lines
from tripletcl.data.fact_sets.record import FactRecord, published_form, words
from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.sets.archive import locate

log = logging.getLogger("tripletcl")

CAPTION = r"The (.+?) (?:(?:is|are|has|contains|consists) )?{}(?: (?:the|a|an))? (.+?)\.?"
VSR_PARTS = {"train": "train", "dev": "train", "test": "test"}
SVO_COLUMNS = ("pos_triplet", "pos_image_id", "neg_image_id", "subj_neg", "verb_neg", "obj_neg")


def read_vsr(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read VSR (Liu, Emerson and Collier, "Visual spatial reasoning", TACL 2023).

    Layout, in root or root/data: `splits/random/` or `splits/zeroshot/` (the variants) with `train.jsonl`, `dev.jsonl`
    and `test.jsonl`; in root: COCO's photos in `images/`, or in `train2017/` and `val2017/`. Every caption is "The S is
    R the O.", and its label says whether the photo shows it: 0 was verified. dev is for training. 978 photos of the
    random split are in both parts; they stay for testing only. Facts have order 3, on whole photos.
    """
    folder = locate(root, "splits", "data") / "splits" / str(variant)
    rows = [
        (VSR_PARTS[part], folder / f"{part}.jsonl", number, row)
        for part in VSR_PARTS
        for number, row in enumerate(read_json_lines(folder / f"{part}.jsonl"), start=1)
    ]
    records = []
    for split, path, number, row in rows:
        with published_form(path, number):
            records.append(FactRecord(_photo(root, row), _caption(row), split, label=_label(row["label"])))
    tests = {record.image for record in records if record.split == "test"}
    own = [record for record in records if record.split == "test" or record.image not in tests]
    if len(own) < len(records):
        log.info("vsr: %d training rows are left out, whose photos are also for testing", len(records) - len(own))
    yield from own


def _photo(root: Path, row: Any) -> str:
    folder = row["image_link"].split("/")[-2]
    return find_photo(root, f"{folder}/{row['image']}", f"images/{row['image']}")


def _caption(row: Any) -> Fact:
    match = re.fullmatch(CAPTION.format(re.escape(row["relation"])), row["caption"].strip())
    if match is None:
        raise ValueError(f"its caption {row['caption']!r} is not 'The S is {row['relation']} the O.'")
    return Fact(words(match[1]), words(row["relation"]), words(match[2]))


def _label(value: Any) -> bool:
    if value not in (0, 1):
        raise ValueError(f"its label is {value!r}, allowed are 0 and 1")
    return bool(value)


def read_svo_probes(root: Path, variant: str | None) -> Iterator[FactRecord]:
    """Read SVO-Probes (Hendricks and Nematzadeh, "Probing image-language transformers for verb understanding", 2021).

    Layout, in root: `svo_probes.csv` and `images/`, the photos named by their id. The set lists addresses of photos,
    many of which are dead: set `missing: drop`. Every fact, of order 3, has a photo that shows it, and one that was
    verified to differ in the subject, the verb or the object: that unit is the group of the negative record. All photos
    are for testing.
    """
    path = root / "svo_probes.csv"
    cells = read_csv(path, SVO_COLUMNS)
    for number, (triplet, *images, subject, verb, target) in enumerate(zip(*cells.values(), strict=True), start=1):
        with published_form(path, number):
            units = [words(unit) for unit in triplet.split(",")]
            if len(units) != len(UNITS):
                raise ValueError(f"its pos_triplet is {triplet!r}, which is not three words")
            wrong = [unit for unit, flag in zip(UNITS, (subject, verb, target), strict=True) if flag.lower() == "true"]
            if len(wrong) != 1:  # the authors leave these rows out
                continue
            shown, other = (find_photo(root, f"images/{image}.jpg") for image in images)
        fact = Fact(*units)
        yield FactRecord(shown, fact, "test")
        yield FactRecord(other, fact, "test", group=wrong[0], label=False)
