"""Measures how many copies `tripletcl index duplicates` finds (docs/measured/retrieval.md).

    TRIPLETCL_DATA=... python benchmarks/duplicates.py --photos 1000

Indexes test photographs of TRIPLETCL_DATA/facts together with copies of some of them that were scaled, saved anew,
cropped or brightened, and prints for each kind of copy the share that is in a group with its photograph, and all groups
that join different photographs: whether these are duplicates is for the eye.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from collection import new_model, parser, read_facts
from PIL import Image, ImageEnhance

from tripletcl.retrieval import FactIndex
from tripletcl.retrieval.duplicates import find_duplicates

COPIED = 450


def scaled(share: float) -> Callable[[Image.Image], Image.Image]:
    return lambda photo: photo.resize((round(photo.width * share), round(photo.height * share)))


def saved(quality: int) -> Callable[[Image.Image], Image.Image]:
    def save(photo: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        photo.save(stream, "JPEG", quality=quality)
        return Image.open(stream)

    return save


def cropped(share: float, place: float) -> Callable[[Image.Image], Image.Image]:
    def crop(photo: Image.Image) -> Image.Image:
        width, height = (round(side * share) for side in photo.size)
        left, top = round(place * (photo.width - width)), round(place * (photo.height - height))
        return photo.crop((left, top, left + width, top + height))

    return crop


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "half the size": scaled(0.5),
    "twice the size": scaled(2),
    "JPEG of quality 30": saved(30),
    "JPEG of quality 10": saved(10),
    "the middle 90 %": cropped(0.9, 0.5),
    "the middle 80 %": cropped(0.8, 0.5),
    "a corner of 90 %": cropped(0.9, 0),
    "87 % from a third on": cropped(0.87, 0.33),
    "brighter by a fifth": lambda photo: ImageEnhance.Brightness(photo).enhance(1.2),
}


def kind_of(number: int) -> str:
    """The only copy of a photograph: of several, one could join another to it."""
    return list(COPIES)[number % len(COPIES)]


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    table = read_facts(options.data)
    images = np.unique(table.rows_of("test")[:, 0])
    images = np.random.default_rng(0).permutation(images)[: options.photos or 1000].tolist()
    with tempfile.TemporaryDirectory() as name:
        folder, originals = Path(name), {}
        for number, image in enumerate(images):
            path = folder / f"{number}.jpg"
            path.symlink_to(table.paths[image])
            originals[path] = number
            if number < COPIED:
                kind = kind_of(number)
                copy = folder / f"{number} {kind}.png"
                COPIES[kind](Image.open(table.paths[image]).convert("RGB")).save(copy)
                originals[copy] = number
        index = FactIndex.build(new_model(), folder)
        start = time.monotonic()
        groups = [[photo.path for photo in group.photos] for group in find_duplicates(index)]
        seconds = time.monotonic() - start
    print(f"{len(index):,} photos, {seconds:.1f} s\n| copy | found |\n| --- | --- |")
    group_of = {path: number for number, group in enumerate(groups) for path in group}
    for kind in COPIES:
        numbers = [number for number in range(COPIED) if kind_of(number) == kind]
        pairs = [(folder / f"{number}.jpg", folder / f"{number} {kind}.png") for number in numbers]
        found = [group_of.get(first, -1) == group_of.get(second, -2) for first, second in pairs]
        print(f"| {kind} | {np.mean(found):.2f} |")
    for group in groups:
        if len(joined := sorted({originals[path] for path in group})) > 1:
            print("different photographs:", ", ".join(str(table.paths[images[number]]) for number in joined))


if __name__ == "__main__":
    main()
