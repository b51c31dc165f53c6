"""Any folder of one's own: train/CLASS/*.jpg and test/CLASS/*.jpg."""

from __future__ import annotations

from pathlib import Path

from tripletcl.data.images import list_images
from tripletcl.data.sets.archive import required
from tripletcl.data.sets.parts import Part, Parts
from tripletcl.errors import UserError


def read_folder(root: Path, scratch: Path) -> Parts:
    """Read a folder that has a folder of images for each class, once for training and once for testing.

    Layout: `train/CLASS/...` and `test/CLASS/...`. Every image file below a class's folder counts (by its suffix,
    `tripletcl.data.images.SUFFIXES`); hidden files and folders do not. Classes and files come in sorted order. A class
    with a folder for one split only has no image for the other.
    """
    splits = [required(root / split) for split in ("train", "test")]
    classes = sorted({name for folder in splits for name in _class_names(folder)})
    train, test = (_part(folder, classes) for folder in splits)
    return Parts(classes, train, test)


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise UserError(f"{folder} is a file, where a folder with one folder for each class belongs")
    return [entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")]


def _part(folder: Path, classes: list[str]) -> Part:
    images = [list_images(folder / name) if (folder / name).is_dir() else [] for name in classes]
    return [file for files in images for file in files], [label for label, files in enumerate(images) for _ in files]
