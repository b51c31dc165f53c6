"""Safetensors files that carry the SHA-256 of their content.

The header holds texts by name. One of them is the digest of all tensors, and `sha256` is the digest of the other texts:
a reader of the header alone checks the header, and a reader of the tensors checks both. Files of tripletcl 0.1 have
neither and are read as they are.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.files.documents import RESTORE, damaged, reading, signed, verified
from tripletcl.files.writing import write_atomically

log = logging.getLogger("tripletcl")

TENSORS = "tensors_sha256"
COMPUTED_AGAIN = "what it held is computed again where the photos exist"

Tensors = dict[str, Tensor]
About = dict[str, str]
Cached = TypeVar("Cached")


class TensorFile(NamedTuple):
    """The content of a file: its tensors, and the texts of its header."""

    tensors: Tensors
    about: About


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write tensors, and texts about them, whole or not at all."""
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    header = signed({**(about or {}), TENSORS: hash_tensors(own)})
    write_atomically(path, lambda temporary: save_file(own, temporary, header))


def read_tensors(path: Path, remedy: str = RESTORE) -> TensorFile:
    """Read a file of `write_tensors`, with all tensors on the CPU; a pickle is never opened.

    Raises:
        UserError: the file is missing, is no safetensors file, or has another digest than its content.
    """
    with reading_tensors(path, remedy), safe_open(path, framework="pt") as file:
        about = verified(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (safe_open is no dict)
        if about.pop(TENSORS, None) not in (None, hash_tensors(tensors)):
            raise ValueError("its tensors do not have their SHA-256")
        return TensorFile(tensors, about)


def read_cached(path: Path, parse: Callable[[TensorFile], Cached]) -> Cached | None:
    """Read and parse a file of what can be computed again; None if it is missing or, with a warning, damaged."""
    if not path.exists():
        return None
    try:
        stored = read_tensors(path, COMPUTED_AGAIN)
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
    with reading_tensors(path, remedy), safe_open(path, framework="pt") as file:
        return verified(file.metadata() or {})


@contextmanager
def reading_tensors(path: Path, remedy: str = RESTORE) -> Iterator[None]:
    """Turn every error about the content of a safetensors file into one sentence; see `reading`."""
    with reading(path, remedy):
        try:
            yield
        except SafetensorError as error:
            raise damaged(path, error, remedy) from error


def hash_tensors(tensors: Mapping[str, Tensor], start: bytes = b"") -> str:
    """The SHA-256, in hex, of some bytes and of tensors with names, types and shapes; the same on every device."""
    sha = hashlib.sha256(start)
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():  # an empty one has no bytes to view
            sha.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return sha.hexdigest()
