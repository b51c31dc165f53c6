"""The sets that torchvision reads (MNIST, CIFAR-10, CIFAR-100, SVHN), and the downloads that it offers."""

from __future__ import annotations

import gzip
import shutil
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tripletcl.data.sets.archive import MissingFile, locate, reason, require
from tripletcl.data.sets.object_set import Labelled, RawSet
from tripletcl.errors import UserError

DIGITS = tuple("0123456789")
MNIST_FILES = tuple(f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def download_by_torchvision(name: str, root: Path, **options: Any) -> None:
    """Let a class of `torchvision.datasets` download its files into the folder below root where it keeps them."""
    from torchvision import datasets

    getattr(datasets, name)(root, download=True, **options)


def download_svhn(root: Path) -> None:
    """Download both splits of SVHN into root."""
    for split in ("train", "test"):
        download_by_torchvision("SVHN", root, split=split)


def read_mnist(root: Path, scratch: Path) -> RawSet:
    """Read MNIST (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998),
    or another set in its four files.

    Layout, in root, root/MNIST/raw (where torchvision keeps it) or root/raw: `train-images-idx3-ubyte`,
    `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, unpacked or with .gz. The images are
    pixels `[N, 1, 28, 28]`, the classes "0" to "9".
    """
    files = [_mnist_file(root, file) for file in MNIST_FILES]
    with TemporaryDirectory() as folder:  # torchvision wants all four unpacked, in one folder of a fixed name
        raw = Path(folder, "MNIST", "raw")
        raw.mkdir(parents=True)
        for file in files:
            _unpack(file, raw / file.name.removesuffix(".gz"))
        train, test = (
            _mnist_part(Path(folder), [file for file in files if file.name.startswith(split)])
            for split in ("train", "t10k")
        )
    return RawSet(DIGITS, train, test)


def _mnist_part(folder: Path, files: list[Path]) -> Labelled:
    from torchvision.datasets import MNIST

    try:
        split = MNIST(folder, train=files[0].name.startswith("train"))
    except Exception as error:  # a broken file makes it raise nearly anything: ValueError, AssertionError, RuntimeError
        images, labels = files
        raise UserError(f"{images} or {labels.name} is damaged, or cut short: {reason(error)}") from error
    return split.data.numpy()[:, None], split.targets.numpy()  # [N, H, W] -> [N, 1, H, W]


def _mnist_file(root: Path, file: str) -> Path:
    for folder in (root, root / "MNIST" / "raw", root / "raw"):
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                return path
    raise MissingFile(f"{file} (or {file}.gz)")


def _unpack(packed: Path, path: Path) -> None:
    try:
        with gzip.open(packed) if packed.suffix == ".gz" else packed.open("rb") as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{packed} cannot be read, or is cut short: {reason(error)}") from error


def read_cifar10(root: Path, scratch: Path) -> RawSet:
    """Read CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009).

    Published as cifar-10-python.tar.gz. Layout, in root or root/cifar-10-batches-py: `data_batch_1` to `data_batch_5`
    for training, `test_batch` for testing, and `batches.meta` with the names of the classes. The images are pixels
    `[N, 3, 32, 32]`.
    """
    from torchvision.datasets import CIFAR10

    return _read_cifar(CIFAR10, root)


def read_cifar100(root: Path, scratch: Path) -> RawSet:
    """Read CIFAR-100, its 100 fine classes (as `read_cifar10`).

    Published as cifar-100-python.tar.gz. Layout, in root or root/cifar-100-python: `train`, `test` and `meta`.
    """
    from torchvision.datasets import CIFAR100

    return _read_cifar(CIFAR100, root)


def _read_cifar(dataset: Any, root: Path) -> RawSet:
    """Both splits by a class of torchvision, which opens the pickles only after it has compared their MD5."""
    base = locate(root, dataset.meta["filename"], dataset.base_folder)
    md5 = dict([*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])])
    files = {require(base / name): digest for name, digest in md5.items()}
    here = type(dataset.__name__, (dataset,), {"base_folder": base.name})  # also directly under the root
    try:
        train, test = here(base.parent), here(base.parent, train=False)
    except RuntimeError as error:
        raise _not_as_published(files) from error
    return RawSet(
        tuple(train.classes),
        *((np.ascontiguousarray(split.data.transpose(0, 3, 1, 2)), split.targets) for split in (train, test)),
    )


def read_svhn(root: Path, scratch: Path) -> RawSet:
    """Read SVHN's cropped digits (Netzer, Wang, Coates, Bissacco, Wu and Ng, "Reading digits in natural images with
    unsupervised feature learning", 2011).

    Layout, in root: `train_32x32.mat` and `test_32x32.mat`. The images are pixels `[N, 3, 32, 32]`.
    """
    from torchvision.datasets import SVHN

    files = {require(root / SVHN.split_list[split][1]): SVHN.split_list[split][2] for split in ("train", "test")}
    try:
        splits = [SVHN(root, split=split) for split in ("train", "test")]
    except RuntimeError as error:
        raise _not_as_published(files) from error
    return RawSet(DIGITS, *((np.ascontiguousarray(split.data), split.labels) for split in splits))


def _not_as_published(files: dict[Path, str]) -> UserError:
    """The error for files of which torchvision refused one: the first whose MD5 is not the given one."""
    from torchvision.datasets.utils import check_integrity

    wrong = next((path for path, md5 in files.items() if not check_integrity(path, md5)), next(iter(files)))
    return UserError(f"{wrong} is not the published file, or cut short: its MD5 is another")
