"""Safetensors files as NumPy arrays, with the SHA-256 of their content: what is read without torch.

The header holds texts by name. One of them is the digest of all arrays, and `sha256` is the digest of the other texts:
a reader of the header alone checks the header, and a reader of the arrays checks both. Files of tripletcl 0.1 have
neither and are read as they are.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tripletcl.errors import UserError
from tripletcl.files.documents import RESTORE, damaged, reading, signed, verified
from tripletcl.files.writing import write_atomically

log = logging.getLogger("tripletcl")

CONTENT = "tensors_sha256"
COMPUTED_AGAIN = "what it held is computed again where the photos exist"

About = dict[str, str]
Content = TypeVar("Content")
Cached = TypeVar("Cached")


class ArrayFile(NamedTuple):
    """The content of a file: its arrays, and the texts of its header."""

    arrays: dict[str, np.ndarray]
    about: About


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], about: Mapping[str, str] | None = None) -> None:
    """Write arrays, and texts about them, whole or not at all."""
    own = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    header = signed({**(about or {}), CONTENT: hash_arrays(own)})
    write_atomically(path, lambda temporary: save_file(own, temporary, header))


def read_arrays(path: Path, remedy: str = RESTORE) -> ArrayFile:
    """Read a file of `write_arrays` or `write_tensors`.

    Raises:
        UserError: the file is missing, is no safetensors file, or has another digest than its content.
    """
    with reading_tensors(path, remedy), safe_open(path, framework="np") as file:
        about = verified(file.metadata() or {})
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (safe_open is no dict)
        if about.pop(CONTENT, None) not in (None, hash_arrays(arrays)):
            raise ValueError("its tensors do not have their SHA-256")
        return ArrayFile(arrays, about)


def read_part(path: Path, part: str, remedy: str = RESTORE) -> dict[str, np.ndarray]:
    """Read the arrays whose names begin with `part`, by the rest of their names; no digest is compared.

    Raises:
        UserError: the file is missing, or is no safetensors file.
    """
    with reading_tensors(path, remedy), safe_open(path, framework="np") as file:
        names = [name for name in file.keys() if name.startswith(part)]  # noqa: SIM118
        return {name.removeprefix(part): file.get_tensor(name) for name in names}


def read_cached(path: Path, parse: Callable[[Content], Cached], read: Callable[[Path, str], Content]) -> Cached | None:
    """Read and parse a file of what can be computed again; None if it is missing or, with a warning, damaged."""
    if not path.exists():
        return None
    try:
        stored = read(path, COMPUTED_AGAIN)
        with reading(path, COMPUTED_AGAIN):
            return parse(stored)
    except UserError as error:
        log.warning("%s", error)
        return None


def read_about(path: Path, remedy: str = RESTORE) -> About:
    """Read the texts of a file's header only.

    Raises:
        UserError: the file is missing, is no safetensors file, or its header has another digest than its texts.
    """
    with reading_tensors(path, remedy), safe_open(path, framework="np") as file:
        return verified(file.metadata() or {})


@contextmanager
def reading_tensors(path: Path, remedy: str = RESTORE) -> Iterator[None]:
    """Turn every error about the content of a safetensors file into one sentence; see `reading`."""
    with reading(path, remedy):
        try:
            yield
        except SafetensorError as error:
            raise damaged(path, error, remedy) from error


def hash_arrays(arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256, in hex, of arrays with names, types and shapes; that of `hash_tensors` for the same numbers."""
    named = sorted(arrays.items())
    return hash_parts((name, f"torch.{array.dtype}", array.shape, array.tobytes()) for name, array in named)


def hash_parts(parts: Iterable[tuple[str, str, tuple[int, ...], Any]], start: bytes = b"") -> str:
    """The SHA-256, in hex, of some bytes and of numbers in their order: the name, type, shape and bytes of each."""
    sha = hashlib.sha256(start)
    for name, kind, shape, data in parts:
        sha.update(f"{name} {kind} {tuple(shape)}\n".encode())
        sha.update(data)
    return sha.hexdigest()
