"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.data.sets.archive import located, reason, required
from tripletcl.data.sets.parts import Parts
from tripletcl.errors import UserError

SHAPE = (3, 32, 32)


def read_cifar10(root: Path, scratch: Path) -> Parts:
    """Read CIFAR-10 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009).

    Published at https://www.cs.toronto.edu/~kriz/cifar.html as cifar-10-python.tar.gz.

    Layout, in root or root/cifar-10-batches-py: `data_batch_1` to `data_batch_5` for training, `test_batch` for
    testing, each a pickled dict with `data [N, 3072]` uint8 (all red values of an image, then green, then blue) and
    `labels`; `batches.meta` with `label_names`. The images are pixels `[N, 3, 32, 32]`.
    """
    base = located(root, "batches.meta", "cifar-10-batches-py")
    batches = [_batch(base / f"data_batch_{number}", "labels") for number in range(1, 6)]
    train = np.concatenate([pixels for pixels, _ in batches]), [label for _, labels in batches for label in labels]
    classes = _entry(base / "batches.meta", read_pickle(base / "batches.meta"), "label_names", list)
    return Parts(list(map(str, classes)), train, _batch(base / "test_batch", "labels"))


def read_cifar100(root: Path, scratch: Path) -> Parts:
    """Read CIFAR-100 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009), its 100 fine classes.

    Published at https://www.cs.toronto.edu/~kriz/cifar.html as cifar-100-python.tar.gz.

    Layout, in root or root/cifar-100-python: `train` and `test`, each a pickled dict with `data [N, 3072]` uint8 and
    `fine_labels`; `meta` with `fine_label_names`. The images are pixels `[N, 3, 32, 32]`.
    """
    base = located(root, "meta", "cifar-100-python")
    classes = _entry(base / "meta", read_pickle(base / "meta"), "fine_label_names", list)
    train, test = (_batch(base / split, "fine_labels") for split in ("train", "test"))
    return Parts(list(map(str, classes)), train, test)


def read_pickle(path: Path) -> dict[str, Any]:
    """A pickled dict of texts, numbers, lists and numpy arrays; nothing else is made, so no file can run code.

    Raises:
        NotThere: There is no such file.
        UserError: It is cut short, no pickle, or asks for anything else.
    """
    try:
        found = _Unpickler(io.BytesIO(required(path).read_bytes()), encoding="latin1").load()
    except UserError:
        raise
    except Exception as error:  # a broken pickle raises nearly anything
        raise UserError(f"{path} is not a readable pickle, or cut short: {reason(error)}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds a {type(found).__name__}, where a dict belongs")
    return found


class _Unpickler(pickle.Unpickler):
    """Knows the three names that the pickle of a numpy array has, and no other."""

    ALLOWED = {  # noqa: RUF012 - never changed
        "_reconstruct": np.empty(0).__reduce__()[0],  # wherever this version of numpy keeps it
        "ndarray": np.ndarray,
        "dtype": np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "numpy" and name in self.ALLOWED:
            return self.ALLOWED[name]
        raise UserError(f"it asks for {module}.{name}, where only numpy arrays, texts, lists and dicts belong")


def _batch(path: Path, label_key: str) -> tuple[np.ndarray, list[int]]:
    found = read_pickle(path)
    pixels = _entry(path, found, "data", np.ndarray)
    labels = _entry(path, found, label_key, list)
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), int(np.prod(SHAPE))):
        is_now = f"{pixels.dtype} {list(pixels.shape)}"
        raise UserError(
            f"{path} has pixels {is_now} and {len(labels)} labels, where uint8 [{len(labels)}, 3072] belongs"
        )
    return pixels.reshape(-1, *SHAPE), labels


def _entry(path: Path, found: dict[str, Any], key: str, kind: type) -> Any:
    if not isinstance(found.get(key), kind):
        raise UserError(f"{path} lacks the {kind.__name__} {key!r}; it has {', '.join(map(repr, found)) or 'nothing'}")
    return found[key]
