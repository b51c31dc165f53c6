"""Chars74K."""

from __future__ import annotations

import string
from pathlib import Path

import numpy as np

from tripletcl.data.sets.archive import NotThere, existing, field, flat_numbers, flat_texts, located, read_mat
from tripletcl.data.sets.parts import Parts
from tripletcl.errors import UserError

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
"""The characters of labels 1 to 62."""

LISTS = ("lists.mat", "lists_var_size.mat")
LIST_FOLDERS = ("Lists/English/Img", "English/Img", "Img")


def read_chars74k(root: Path, scratch: Path) -> Parts:
    """Read Chars74K's English characters in photographs (de Campos, Babu and Varma, "Character recognition in natural
    images", 2009).

    Published at https://teodecampos.github.io/chars74k/ as EnglishImg.tgz and Lists.tgz.

    Layout: images in root/English/Img (or root/Img, root), `GoodImg/Bmp/Sample011/img011-00001.png` and so on; the
    list in root/Lists/English/Img (or beside the images), `lists.mat`: a struct `list` with `ALLnames [N]` (each
    image's path without .png), `ALLlabels [N, 1]` (1 is "0", 11 is "A", 37 is "a"), and `TRNind` and `TSTind`
    `[n, 16]`, the images (from 1; 0 is padding) of 16 splits, one a column. The last split is read, the largest: 15
    training and 15 test images of each of 62 characters, all of good quality.
    """
    path = _list_file(root)
    entries = read_mat(path, "list")[0].ravel()[0]
    files, labels = (field(entries, key, path) for key in ("ALLnames", "ALLlabels"))
    names, numbers = flat_texts(files), flat_numbers(labels, path)
    train, test = (_last_split(path, entries, key, len(names)) for key in ("TRNind", "TSTind"))
    present = np.unique(numbers[np.concatenate([train, test])])
    if len(present) and not 1 <= present.min() <= present.max() <= len(CHARACTERS):
        raise UserError(f"{path} has labels from {present.min()} to {present.max()}, allowed is 1 to {len(CHARACTERS)}")
    base = located(root, "GoodImg", *LIST_FOLDERS[1:])

    def part(items: np.ndarray) -> tuple[list[Path], np.ndarray]:
        return existing(base / f"{names[item]}.png" for item in items), np.searchsorted(present, numbers[items])

    return Parts([CHARACTERS[number - 1] for number in present], part(train), part(test))


def _list_file(root: Path) -> Path:
    for folder in (*LIST_FOLDERS, ""):
        for file in LISTS:
            if (root / folder / file).is_file():
                return root / folder / file
    raise NotThere(f"{LIST_FOLDERS[0]}/{LISTS[0]}")


def _last_split(path: Path, entries: np.ndarray, key: str, count: int) -> np.ndarray:
    """The image positions of the last split."""
    indices = field(entries, key, path)
    items = flat_numbers(indices[:, -1], path) if indices.size else np.empty(0, np.int64)
    if len(items) and not 0 <= items.min() <= items.max() <= count:
        raise UserError(f"{path} numbers an image {items.max()} in {key}, but names {count} images")
    return items[items > 0] - 1
