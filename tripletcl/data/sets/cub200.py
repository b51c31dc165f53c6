"""Caltech-UCSD Birds 200."""

from __future__ import annotations

from pathlib import Path

from tripletcl.data.sets.archive import existing, located, read_rows
from tripletcl.data.sets.parts import Parts
from tripletcl.errors import UserError

SPLIT_FILE = "train_test_split.txt"


def read_cub200(root: Path, scratch: Path) -> Parts:
    """Read CUB-200-2011 (Wah, Branson, Welinder, Perona and Belongie, "The Caltech-UCSD Birds-200-2011 dataset", 2011).

    Published at https://www.vision.caltech.edu/datasets/cub_200_2011/ as CUB_200_2011.tgz.

    Layout, in root or root/CUB_200_2011: `images/CLASS/*.jpg`, and four text files: `classes.txt` ("1
    001.Black_footed_Albatross"), `images.txt` ("IMAGE CLASS/FILE"), `image_class_labels.txt` ("IMAGE CLASS", classes
    from 1) and `train_test_split.txt` ("IMAGE 1" for training, 0 for testing). The whole photograph is the image.
    """
    base = located(root, SPLIT_FILE, "CUB_200_2011")
    class_rows = read_rows(base / "classes.txt", int, str)
    positions = {number: label for label, (number, _) in enumerate(class_rows)}
    files = dict(read_rows(base / "images.txt", int, str))
    numbers, splits = (dict(read_rows(base / file, int, int)) for file in ("image_class_labels.txt", SPLIT_FILE))
    for image in files:
        if numbers.get(image) not in positions or splits.get(image) not in (0, 1):
            raise UserError(f"image {image} of {base / 'images.txt'} has no class or no split in the files beside it")

    def part(wanted: int) -> tuple[list[Path], list[int]]:
        chosen = [image for image in files if splits[image] == wanted]
        return existing(base / "images" / files[image] for image in chosen), [positions[numbers[i]] for i in chosen]

    return Parts([bird for _, bird in class_rows], part(1), part(0))
