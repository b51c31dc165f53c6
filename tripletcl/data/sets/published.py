"""Sets of image files: a folder of one's own, and published sets with their own lists, a function a set.

Each function takes the root and a scratch folder (unused here), and returns the set with its published split.
"""

from __future__ import annotations

import os
import string
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tripletcl.data.images import ARCHIVE_LEFTOVER, image_suffixes, list_images, photo_digest, warn_of_left_out
from tripletcl.data.sets.archive import (
    MissingFile,
    field,
    flat_numbers,
    flat_texts,
    locate,
    read_lines,
    read_mat,
    read_rows,
    require,
    require_images,
)
from tripletcl.data.sets.object_set import Labelled, RawSet
from tripletcl.errors import UserError

FLOWERS_SPLITS = ("trnid", "valid", "tstid")
CUB_SPLIT = "train_test_split.txt"
CARS_TEST_LABELS = "cars_test_annos_withlabels.mat"

CHARS74K_CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""The characters of labels 1 to 62."""
CHARS74K_LISTS = ("lists.mat", "lists_var_size.mat")
CHARS74K_FOLDERS = ("Lists/English/Img", "English/Img", "Img")


def read_folder(root: Path, scratch: Path) -> RawSet:
    """Read a folder that has a folder of images for each class, once for training and once for testing.

    Layout: `train/CLASS/...` and `test/CLASS/...`. Every image file below a class's folder counts (by its suffix,
    `tripletcl.data.images.image_suffixes`); hidden files and folders do not. Links are followed. Classes and files are
    sorted. A class that has a folder for one split only has no image in the other. A test photo with the content of a
    training photo is left out; a warning counts all that is left out.
    """
    splits = [require(root / split) for split in ("train", "test")]
    for folder in splits:
        if not folder.is_dir():
            raise UserError(f"{folder} is a file, where a folder with one folder for each class belongs")
    entries = [entry for folder in splits for entry in folder.iterdir()]
    names = {entry.name for entry in entries if entry.is_dir()} - {ARCHIVE_LEFTOVER}
    classes = sorted(name for name in names if not name.startswith("."))
    strays = sum(entry.suffix.lower() in image_suffixes() and entry.is_file() for entry in entries)
    left_out = Counter({"in no folder of a class": strays})

    def part(split: Path) -> tuple[list[Path], list[int]]:
        images = [list_images(split / name, left_out) if (split / name).is_dir() else [] for name in classes]
        labels = [label for label, files in enumerate(images) for _ in files]
        return [file for files in images for file in files], labels

    (train, train_labels), (test, test_labels) = map(part, splits)
    copies = find_copies(train, test)
    left_out["test photos that are training photos, too"] += len(copies)
    warn_of_left_out(root, +left_out)
    kept = [(file, label) for file, label in zip(test, test_labels, strict=True) if file not in copies]
    return RawSet(classes, (train, train_labels), ([file for file, _ in kept], [label for _, label in kept]))


def find_copies(photos: Sequence[Path], others: Sequence[Path]) -> set[Path]:
    """Find those of the others whose file has the content of one of the photos; only files of equal size are read."""
    by_size = [_by_size(paths) for paths in (photos, others)]
    copies: set[Path] = set()
    for size in by_size[0].keys() & by_size[1].keys():
        contents = {photo_digest(photo) for photo in by_size[0][size]}
        copies |= {other for other in by_size[1][size] if photo_digest(other) in contents}
    return copies


def _by_size(paths: Sequence[Path]) -> dict[int, list[Path]]:
    groups: dict[int, list[Path]] = {}
    for path in paths:
        if path.is_file() and os.access(path, os.R_OK):  # others are refused when they are decoded
            groups.setdefault(path.stat().st_size, []).append(path)
    return groups


def read_flowers102(root: Path, scratch: Path) -> RawSet:
    """Read Flowers 102 (Nilsback and Zisserman, "Automated flower classification over a large number of classes",
    2008), published as 102flowers.tgz, imagelabels.mat and setid.mat.

    Layout, in root or root/flowers-102 (where torchvision stores it): `jpg/image_00001.jpg` and so on;
    `imagelabels.mat`, `labels [1, N]` with the class (from 1) of every image; `setid.mat`, the image numbers `trnid`,
    `valid` and `tstid` `[1, n]`. Training images are those of trnid and valid, 20 a class; test images those of tstid.
    The classes are those that occur among the labels, with their names (torchvision has them from the same page).
    """
    from torchvision.datasets import Flowers102

    base = locate(root, "setid.mat", "flowers-102")
    label_file, split_file = base / "imagelabels.mat", base / "setid.mat"
    labels = flat_numbers(read_mat(label_file, "labels")[0], label_file)
    train, validation, test = (flat_numbers(ids, split_file) for ids in read_mat(split_file, *FLOWERS_SPLITS))
    for ids in (train, validation, test):
        if len(ids) and not 1 <= ids.min() <= ids.max() <= len(labels):
            raise UserError(f"{split_file} numbers an image {ids.max()}, but there are labels of {len(labels)}")
    present, known = np.unique(labels), getattr(Flowers102, "classes", None)
    if known is None:
        raise UserError("torchvision names the classes of flowers102 since 0.22; the one installed is older")
    names = [known[label - 1] if 0 < label <= len(known) else str(label) for label in present.tolist()]

    def part(ids: np.ndarray) -> Labelled:
        files = require_images(base / "jpg" / f"image_{number:05d}.jpg" for number in ids.tolist())
        return files, np.searchsorted(present, labels[ids - 1])

    return RawSet(names, part(np.concatenate([train, validation])), part(test))


def read_indoor67(root: Path, scratch: Path) -> RawSet:
    """Read MIT Indoor 67 (Quattoni and Torralba, "Recognizing indoor scenes", 2009), published as indoorCVPR_09.tar,
    TrainImages.txt and TestImages.txt.

    Layout, in root or root/indoorCVPR_09: `Images/CLASS/*.jpg`; `TrainImages.txt` and `TestImages.txt` with
    "CLASS/FILE" a line, about 80 and 20 images a class. Images in neither list are left out, as in the paper.
    """
    base = locate(root, "TrainImages.txt", "indoorCVPR_09")
    lists = [read_lines(base / f"{split}Images.txt") for split in ("Train", "Test")]
    if wrong := [line for lines in lists for line in lines if "/" not in line]:
        raise UserError(f"a list of images in {base} has the line {wrong[0]!r}, which is not of the form CLASS/FILE")
    classes = sorted({line.partition("/")[0] for lines in lists for line in lines})

    def part(lines: list[str]) -> Labelled:
        labels = [classes.index(line.partition("/")[0]) for line in lines]
        return require_images(base / "Images" / line for line in lines), labels

    return RawSet(classes, *map(part, lists))


def read_cub200(root: Path, scratch: Path) -> RawSet:
    """Read CUB-200-2011 (Wah, Branson, Welinder, Perona and Belongie, "The Caltech-UCSD Birds-200-2011 dataset", 2011),
    published as CUB_200_2011.tgz.

    Layout, in root or root/CUB_200_2011: `images/CLASS/*.jpg`, and four text files: `classes.txt` ("1
    001.Black_footed_Albatross"), `images.txt` ("IMAGE CLASS/FILE"), `image_class_labels.txt` ("IMAGE CLASS", classes
    from 1) and `train_test_split.txt` ("IMAGE 1" for training, 0 for testing). The whole photograph is the image.
    """
    base = locate(root, CUB_SPLIT, "CUB_200_2011")
    class_rows = read_rows(base / "classes.txt", int, str)
    positions = {number: label for label, (number, _) in enumerate(class_rows)}
    files = dict(read_rows(base / "images.txt", int, str))
    numbers, splits = (dict(read_rows(base / file, int, int)) for file in ("image_class_labels.txt", CUB_SPLIT))
    for image in files:
        if numbers.get(image) not in positions or splits.get(image) not in (0, 1):
            raise UserError(f"image {image} of {base / 'images.txt'} lacks a class or a split in the other files")

    def part(split: int) -> Labelled:
        images = [image for image in files if splits[image] == split]
        return require_images(base / "images" / files[i] for i in images), [positions[numbers[i]] for i in images]

    return RawSet([bird for _, bird in class_rows], part(1), part(0))


def read_stanford_cars(root: Path, scratch: Path) -> RawSet:
    """Read Stanford Cars (Krause, Stark, Deng and Fei-Fei, "3D object representations for fine-grained categorization",
    2013), whose files are no longer served: others keep copies under the same names.

    Layout, in root or root/stanford_cars (as torchvision has it): `cars_train/00001.jpg`, `cars_test/00001.jpg` and so
    on; `devkit/cars_meta.mat`, `class_names {1, K}`; `devkit/cars_train_annos.mat` and, next to devkit or in it,
    `cars_test_annos_withlabels.mat`, each with `annotations [1, N]` of structs with the fields `class` (from 1) and
    `fname` (and the box of the car, which is not used: the whole photograph is the image).
    """
    base = locate(root, "devkit", "stanford_cars")
    classes = flat_texts(read_mat(base / "devkit" / "cars_meta.mat", "class_names")[0])
    test_labels = locate(base, CARS_TEST_LABELS, "devkit") / CARS_TEST_LABELS

    def part(path: Path, folder: str) -> Labelled:
        (annotations,) = read_mat(path, "annotations")
        labels = flat_numbers(field(annotations, "class", path), path) - 1
        return require_images(base / folder / file for file in flat_texts(field(annotations, "fname", path))), labels

    return RawSet(classes, part(base / "devkit" / "cars_train_annos.mat", "cars_train"), part(test_labels, "cars_test"))


def read_fgvc_aircraft(root: Path, scratch: Path) -> RawSet:
    """Read FGVC-Aircraft (Maji, Kannala, Rahtu, Blaschko and Vedaldi, "Fine-grained visual classification of aircraft",
    arXiv 1306.5151, 2013), published as fgvc-aircraft-2013b.tar.gz.

    Layout, in root or root/fgvc-aircraft-2013b: `data/images/NUMBER.jpg`; `data/variants.txt`, a class a line;
    `data/images_variant_trainval.txt` and `data/images_variant_test.txt`, "NUMBER VARIANT" a line; a variant may
    contain blanks. Training images are those of trainval.
    """
    data = locate(root, "data/variants.txt", "fgvc-aircraft-2013b") / "data"
    classes = read_lines(data / "variants.txt")

    def part(split: str) -> Labelled:
        path = data / f"images_variant_{split}.txt"
        rows = read_rows(path, str, str)
        if unknown := [variant for _, variant in rows if variant not in classes]:
            raise UserError(f"{path} names the variant {unknown[0]!r}, which variants.txt does not have")
        files = require_images(data / "images" / f"{number}.jpg" for number, _ in rows)
        return files, [classes.index(variant) for _, variant in rows]

    return RawSet(classes, part("trainval"), part("test"))


def read_chars74k(root: Path, scratch: Path) -> RawSet:
    """Read Chars74K's English characters in photographs (de Campos, Babu and Varma, "Character recognition in natural
    images", 2009), published as EnglishImg.tgz and Lists.tgz.

    Layout: images in root/English/Img (or root/Img, root), `GoodImg/Bmp/Sample011/img011-00001.png` and so on; the
    list in root/Lists/English/Img (or next to the images), `lists.mat`: a struct `list` with `ALLnames [N]` (each
    image's path without .png), `ALLlabels [N, 1]` (1 is "0", 11 is "A", 37 is "a"), and `TRNind` and `TSTind`
    `[n, 16]`, the images (from 1; 0 is padding) of 16 splits, one a column. The last split is read, the largest: 15
    training and 15 test images of each of 62 characters, all of good quality.
    """
    path = _chars74k_list(root)
    entries = read_mat(path, "list")[0].ravel()[0]
    names = flat_texts(field(entries, "ALLnames", path))
    numbers = flat_numbers(field(entries, "ALLlabels", path), path)
    train, test = (_last_split(path, entries, key, len(names)) for key in ("TRNind", "TSTind"))
    present = np.unique(numbers[np.concatenate([train, test])])
    count = len(CHARS74K_CHARACTERS)
    if len(present) and not 1 <= present.min() <= present.max() <= count:
        raise UserError(f"{path} has labels from {present.min()} to {present.max()}, allowed is 1 to {count}")
    base = locate(root, "GoodImg", *CHARS74K_FOLDERS[1:])

    def part(items: np.ndarray) -> Labelled:
        files = require_images(base / f"{names[item]}.png" for item in items)
        return files, np.searchsorted(present, numbers[items])

    return RawSet([CHARS74K_CHARACTERS[number - 1] for number in present], part(train), part(test))


def _chars74k_list(root: Path) -> Path:
    for folder in (*CHARS74K_FOLDERS, ""):
        for file in CHARS74K_LISTS:
            if (root / folder / file).is_file():
                return root / folder / file
    raise MissingFile(f"{CHARS74K_FOLDERS[0]}/{CHARS74K_LISTS[0]}")


def _last_split(path: Path, entries: np.ndarray, key: str, count: int) -> np.ndarray:
    """The image positions of the last of the splits."""
    indices = field(entries, key, path)
    items = flat_numbers(indices[:, -1], path) if indices.size else np.empty(0, np.int64)
    if len(items) and not 0 <= items.min() <= items.max() <= count:
        raise UserError(f"{path} numbers an image {items.max()} in {key}, but names {count} images")
    return items[items > 0] - 1
