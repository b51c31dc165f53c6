"""Arrays with a few words about them in one file that is checked before anything in it is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.errors import UserError


def write_arrays(path: Path, magic: str, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a line `<magic> <sha256 of the rest>`, a line of JSON, and the arrays' bytes one after the other."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    header = json.dumps({"about": about, "arrays": layout}).encode() + b"\n"
    with path.open("wb") as file:
        file.write(f"{magic} {_digest(header, arrays.values())}\n".encode() + header)
        for array in arrays.values():
            array.tofile(file)


def read_arrays(path: Path, magic: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `write_arrays` wrote; the arrays are mapped into memory, read-only.

    Raises:
        UserError: the file is not there, is none of this magic, or is not as it was written.
    """
    try:
        with path.open("rb") as file:
            first, header, start = file.readline(200), file.readline(), file.tell()
        if not first.startswith(f"{magic} ".encode()):
            raise ValueError(f"it does not begin with {magic!r}")
        content = np.memmap(path, np.uint8, mode="r")
        if _digest(header, [content[start:]]) != first.decode().split()[-1]:
            raise ValueError("it is not as it was written")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {getattr(error, 'strerror', None) or error}") from None
    described = json.loads(header)
    arrays = {}
    for name, dtype, shape in described["arrays"]:
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        arrays[name] = content[start : start + size].view(dtype).reshape(shape)
        start += size
    return described["about"], arrays


def _digest(header: bytes, arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(header)
    for array in arrays:
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
