"""Street View House Numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tripletcl.data.sets.archive import flat_numbers, located, read_mat
from tripletcl.data.sets.parts import Parts
from tripletcl.errors import UserError

DIGITS = tuple("0123456789")


def read_svhn(root: Path, scratch: Path) -> Parts:
    """Read SVHN's cropped digits (Netzer, Wang, Coates, Bissacco, Wu and Ng, "Reading digits in natural images with
    unsupervised feature learning", 2011).

    Published at http://ufldl.stanford.edu/housenumbers/ as train_32x32.mat and test_32x32.mat ("format 2").

    Layout, in root: the two files, each with `X [32, 32, 3, N]` uint8 and `y [N, 1]`, where 10 stands for the digit 0.
    The images are pixels `[N, 3, 32, 32]`.
    """
    base = located(root, "train_32x32.mat")
    return Parts(DIGITS, *(_digits(base / f"{split}_32x32.mat") for split in ("train", "test")))


def _digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    pixels, labels = read_mat(path, "X", "y")
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[2] != 3 or pixels.shape[3] != labels.size:
        shapes = f"X is {pixels.dtype} {list(pixels.shape)} and y {list(labels.shape)}"
        raise UserError(f"{path} does not have the published form: {shapes}, not uint8 [32, 32, 3, N] and [N, 1]")
    return np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)), flat_numbers(labels, path) % 10
