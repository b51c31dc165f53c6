"""MNIST, and whatever else comes in its four files."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from tripletcl.data.sets.archive import NotThere, reason
from tripletcl.data.sets.parts import Parts
from tripletcl.errors import UserError

DIGITS = tuple("0123456789")
MAGIC = {1: 0x0801, 3: 0x0803}
"""The first number of an idx file of bytes, by its number of dimensions."""


def read_mnist(root: Path, scratch: Path) -> Parts:
    """Read MNIST (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998).

    Published at http://yann.lecun.com/exdb/mnist/ as four idx files.

    Layout, in root, root/MNIST/raw (where torchvision puts it) or root/raw: `train-images-idx3-ubyte`,
    `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte`, `t10k-labels-idx1-ubyte`, each as it is or with .gz. An idx
    file has a magic number (0x803 for images, 0x801 for labels), its sizes as big-endian 32-bit numbers, and then its
    bytes. The images are pixels `[N, 1, 28, 28]`, the classes "0" to "9".
    """
    train, test = (_part(root, split) for split in ("train", "t10k"))
    return Parts(DIGITS, train, test)


def _part(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    image_file, label_file = (_found(root, f"{split}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1"))
    images, labels = read_idx(image_file, 3), read_idx(label_file, 1)
    if len(images) != len(labels):
        raise UserError(f"{image_file} has {len(images)} images, but {label_file.name} {len(labels)} labels")
    return images[:, None], labels.astype(np.int64)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The bytes of an idx file, gzipped or not, as a uint8 array.

    Raises:
        UserError: Its magic number is not that of bytes in so many dimensions, or it is cut short.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read, or is cut short: {reason(error)}") from error
    header = 4 * (1 + dimensions)
    magic = int.from_bytes(raw[:4], "big")
    if len(raw) >= 4 and magic != MAGIC[dimensions]:
        raise UserError(f"{path} begins with the magic number {magic:#x}, where {MAGIC[dimensions]:#x} belongs")
    sizes = np.frombuffer(raw[4:header].ljust(header - 4, b"\0"), dtype=">u4").astype(int)
    if len(raw) < header or len(raw) != header + sizes.prod():
        raise UserError(
            f"{path} has {len(raw)} bytes, where its header promises {header + sizes.prod()}: it is cut short"
        )
    return np.frombuffer(raw, dtype=np.uint8, offset=header).reshape(sizes)


def _found(root: Path, file: str) -> Path:
    for folder in (root, root / "MNIST" / "raw", root / "raw"):
        for path in (folder / file, folder / f"{file}.gz"):
            if path.is_file():
                return path
    raise NotThere(f"{file} (or {file}.gz)")
