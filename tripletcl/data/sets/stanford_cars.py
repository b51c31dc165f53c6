"""Stanford Cars."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tripletcl.data.sets.archive import existing, field, flat_numbers, flat_texts, located, read_mat
from tripletcl.data.sets.parts import Parts

TEST_LABELS = "cars_test_annos_withlabels.mat"


def read_stanford_cars(root: Path, scratch: Path) -> Parts:
    """Read Stanford Cars (Krause, Stark, Deng and Fei-Fei, "3D object representations for fine-grained categorization",
    2013).

    Published at https://ai.stanford.edu/~jkrause/cars/car_dataset.html, whose files are no longer served: copies are
    kept by others under the same names.

    Layout, in root or root/stanford_cars (as torchvision has it): `cars_train/00001.jpg`, `cars_test/00001.jpg` and so
    on; `devkit/cars_meta.mat`, `class_names {1, K}`; `devkit/cars_train_annos.mat` and, beside devkit or in it,
    `cars_test_annos_withlabels.mat`, each with `annotations [1, N]` of structs with the fields `class` (from 1) and
    `fname` (and the box of the car, which is not used: the whole photograph is the image).
    """
    base = located(root, "devkit", "stanford_cars")
    classes = flat_texts(read_mat(base / "devkit" / "cars_meta.mat", "class_names")[0])
    labelled = base / located(base, TEST_LABELS, "devkit") / TEST_LABELS
    train = _annotated(base / "devkit" / "cars_train_annos.mat", base / "cars_train")
    return Parts(classes, train, _annotated(labelled, base / "cars_test"))


def _annotated(path: Path, folder: Path) -> tuple[list[Path], np.ndarray]:
    (annotations,) = read_mat(path, "annotations")
    labels = flat_numbers(field(annotations, "class", path), path) - 1
    return existing(folder / file for file in flat_texts(field(annotations, "fname", path))), labels
