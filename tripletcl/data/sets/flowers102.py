"""Oxford Flowers 102."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tripletcl.data.sets.archive import existing, flat_numbers, located, read_mat
from tripletcl.data.sets.parts import Parts
from tripletcl.errors import UserError

SPLITS = ("trnid", "valid", "tstid")


def read_flowers102(root: Path, scratch: Path) -> Parts:
    """Read Flowers 102 (Nilsback and Zisserman, "Automated flower classification over a large number of classes",
    2008).

    Published at https://www.robots.ox.ac.uk/~vgg/data/flowers/102/ as 102flowers.tgz, imagelabels.mat and setid.mat.

    Layout, in root or root/flowers-102 (where torchvision puts it): `jpg/image_00001.jpg` and so on; `imagelabels.mat`,
    `labels [1, N]` with the class (from 1) of every image; `setid.mat`, the image numbers `trnid`, `valid` and `tstid`
    `[1, n]`. Training images are those of trnid and valid, 20 a class; test images those of tstid. The classes are
    those that the labels have, with their names (torchvision has them from the same page).
    """
    base = located(root, "setid.mat", "flowers-102")
    label_file, split_file = base / "imagelabels.mat", base / "setid.mat"
    labels = flat_numbers(read_mat(label_file, "labels")[0], label_file)
    trained, validated, tested = (flat_numbers(ids, split_file) for ids in read_mat(split_file, *SPLITS))
    for ids in (trained, validated, tested):
        if len(ids) and not 1 <= ids.min() <= ids.max() <= len(labels):
            raise UserError(f"{split_file} numbers an image {ids.max()}, but there are labels of {len(labels)}")
    present = np.unique(labels)

    def part(ids: np.ndarray) -> tuple[list[Path], np.ndarray]:
        files = existing(base / "jpg" / f"image_{number:05d}.jpg" for number in ids.tolist())
        return files, np.searchsorted(present, labels[ids - 1])

    return Parts(_names(present), part(np.concatenate([trained, validated])), part(tested))


def _names(labels: np.ndarray) -> list[str]:
    from torchvision.datasets import Flowers102

    known = Flowers102.classes
    return [known[label - 1] if 0 < label <= len(known) else str(label) for label in labels.tolist()]
