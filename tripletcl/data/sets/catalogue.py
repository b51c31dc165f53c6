"""The sets that can be read, their addresses, and the files that the root of each must contain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from tripletcl.data.sets.archive import MissingFile, reason
from tripletcl.data.sets.object_set import Incomplete, ObjectSet, RawSet, build_set
from tripletcl.data.sets.published import (
    read_chars74k,
    read_cub200,
    read_fgvc_aircraft,
    read_flowers102,
    read_folder,
    read_indoor67,
    read_stanford_cars,
)
from tripletcl.data.sets.torchvision_sets import (
    download_by_torchvision,
    download_svhn,
    read_cifar10,
    read_cifar100,
    read_mnist,
    read_svhn,
)
from tripletcl.data.sets.voc_actions import read_voc_actions
from tripletcl.errors import UserError
from tripletcl.files import locked

PACKED = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".zip")
"""Archives, which must be unpacked first; a .gz of a single file is read as it is."""


@dataclass(frozen=True)
class ObjectSource:
    """A kind of set: its reader, and how to get it.

    Attributes:
        read: Called with (root, scratch).
        what: The images and the number of classes.
        address: The page where the set is published.
        layout: The files that the root must contain.
        download: Downloads the set into a root; None where nobody serves it in one piece.
    """

    read: Callable[[Path, Path], RawSet]
    what: str
    address: str
    layout: str
    download: Callable[[Path], object] | None = None


OBJECT_SETS: dict[str, ObjectSource] = {
    "folder": ObjectSource(
        read_folder,
        "any images of your own",
        "your own folder",
        "train/CLASS/*.jpg and test/CLASS/*.jpg, with the same classes",
    ),
    "flowers102": ObjectSource(
        read_flowers102,
        "Oxford Flowers, 102 classes",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "jpg/, imagelabels.mat and setid.mat",
        partial(download_by_torchvision, "Flowers102"),
    ),
    "indoor67": ObjectSource(
        read_indoor67,
        "MIT Indoor scenes, 67 classes",
        "https://web.mit.edu/torralba/www/indoor.html",
        "Images/, TrainImages.txt and TestImages.txt",
    ),
    "cub200": ObjectSource(
        read_cub200,
        "Caltech-UCSD Birds 2011, 200 classes",
        "https://www.vision.caltech.edu/datasets/cub_200_2011/",
        "images/, images.txt, classes.txt, image_class_labels.txt and train_test_split.txt",
    ),
    "stanford_cars": ObjectSource(
        read_stanford_cars,
        "Stanford Cars, 196 classes",
        "https://ai.stanford.edu/~jkrause/cars/car_dataset.html",
        "cars_train/, cars_test/, devkit/cars_meta.mat, devkit/cars_train_annos.mat and cars_test_annos_withlabels.mat",
    ),
    "fgvc_aircraft": ObjectSource(
        read_fgvc_aircraft,
        "FGVC-Aircraft, 100 variants",
        "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
        "data/images/, data/variants.txt, data/images_variant_trainval.txt and data/images_variant_test.txt",
        partial(download_by_torchvision, "FGVCAircraft"),
    ),
    "voc_actions": ObjectSource(
        read_voc_actions,
        "people in PASCAL VOC 2012, 11 actions",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        "ImageSets/Action/, Annotations/ and JPEGImages/",
        partial(download_by_torchvision, "VOCDetection", year="2012", image_set="train"),
    ),
    "chars74k": ObjectSource(
        read_chars74k,
        "Chars74K, English characters in photographs, 62 classes",
        "https://teodecampos.github.io/chars74k/",
        "English/Img/GoodImg/ and Lists/English/Img/lists.mat",
    ),
    "svhn": ObjectSource(
        read_svhn,
        "Street View House Numbers, 10 digits",
        "http://ufldl.stanford.edu/housenumbers/",
        "train_32x32.mat and test_32x32.mat",
        download_svhn,
    ),
    "mnist": ObjectSource(
        read_mnist,
        "handwritten digits, 10 classes",
        "http://yann.lecun.com/exdb/mnist/",
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, as they "
        "are or with .gz",
        partial(download_by_torchvision, "MNIST"),
    ),
    "cifar10": ObjectSource(
        read_cifar10,
        "small photographs, 10 classes",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "cifar-10-batches-py/ with data_batch_1 to data_batch_5, test_batch and batches.meta",
        partial(download_by_torchvision, "CIFAR10"),
    ),
    "cifar100": ObjectSource(
        read_cifar100,
        "small photographs, 100 classes",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "cifar-100-python/ with train, test and meta",
        partial(download_by_torchvision, "CIFAR100"),
    ),
}


def read_object_set(
    kind: str,
    root: str | Path,
    *,
    name: str | None = None,
    classes: Sequence[str] | None = None,
    incomplete: Incomplete = "refuse",
    download: bool = False,
    scratch: str | Path,
) -> ObjectSet:
    """Read a set of a kind in `OBJECT_SETS`, in its published form and with its published split.

    Args:
        kind: One of `OBJECT_SETS`.
        root: The folder of the set.
        name: The name in messages and reports; None is the folder's name for a folder of one's own, else the kind.
        classes: The names of the classes to select, in their order; None selects all.
        incomplete: A class with fewer than two training images or no test image is refused, or dropped with a warning.
        download: Download the set if it is missing, where its files can be downloaded.
        scratch: The folder for images that are cut out of larger ones.

    Raises:
        UserError: An unknown kind; the set or part of it is missing (with its address and layout); a file is damaged or
            cut short; no class of one of the names; or as `ObjectSet`.
    """
    source, root = _source(kind), Path(root)
    name = name or (root.resolve().name if kind == "folder" else kind)
    return build_set(name, _read(kind, source, root, Path(scratch), download), classes, incomplete)


def _read(kind: str, source: ObjectSource, root: Path, scratch: Path, download: bool) -> RawSet:
    try:
        return source.read(root, scratch)
    except MissingFile as missing:
        if not download or source.download is None:
            raise UserError(_missing(kind, source, root, missing, download)) from missing
    with locked(root / f".{kind}.lock"):  # of two processes, one downloads it while the other waits
        try:
            return source.read(root, scratch)
        except MissingFile:
            _download(kind, source, root)
    try:
        return source.read(root, scratch)
    except MissingFile as missing:
        raise UserError(_missing(kind, source, root, missing, download=False)) from missing


def _source(kind: str) -> ObjectSource:
    if kind in OBJECT_SETS:
        return OBJECT_SETS[kind]
    close = get_close_matches(kind, OBJECT_SETS, n=2)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise UserError(f"there is no kind of set {kind!r}; {hint}allowed are {', '.join(OBJECT_SETS)}")


def _download(kind: str, source: ObjectSource, root: Path) -> None:
    assert source.download is not None
    try:
        source.download(root)
    except (OSError, RuntimeError, EOFError) as error:  # URLError and a wrong checksum among them
        raise UserError(
            f"the set {kind!r} cannot be downloaded ({reason(error)}); it is published at {source.address}, and {root} "
            f"must contain {source.layout}"
        ) from error


def _missing(kind: str, source: ObjectSource, root: Path, missing: MissingFile, download: bool) -> str:
    """The message for a set that is missing, or part of it: how to get it, and what the root must contain."""
    if not root.is_dir():
        start = f"the set {kind!r} is missing: {root} is not a folder"
    elif packed := [entry.name for entry in sorted(root.iterdir()) if entry.name.endswith(PACKED)]:
        return f"the set {kind!r} in {root} lacks {missing}; unpack {', '.join(packed)} there"
    else:
        start = f"the set {kind!r} in {root} lacks {missing}"
    if kind == "folder":
        return f"{start}; the folder must contain {source.layout}"
    ways = f"it is published at {source.address}, and the root must contain {source.layout}"
    if source.download is not None:
        return f"{start}; {ways}, or set download: true"
    return f"{start}; it cannot be downloaded by this program: {ways}" if download else f"{start}; {ways}"
