"""Safetensors files as tensors, with the SHA-256 of their content; see `tripletcl.files.arrays`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from tripletcl.files.arrays import CONTENT, About, hash_parts, reading_tensors
from tripletcl.files.documents import RESTORE, signed, verified
from tripletcl.files.writing import write_atomically

Tensors = dict[str, Tensor]


class TensorFile(NamedTuple):
    """The content of a file: its tensors, and the texts of its header."""

    tensors: Tensors
    about: About


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str] | None = None) -> None:
    """Write tensors, and texts about them, whole or not at all."""
    own = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    header = signed({**(about or {}), CONTENT: hash_tensors(own)})
    write_atomically(path, lambda temporary: save_file(own, temporary, header))


def read_tensors(path: Path, remedy: str = RESTORE) -> TensorFile:
    """Read a file of `write_tensors`, with all tensors on the CPU; a pickle is never opened.

    Raises:
        UserError: the file is missing, is no safetensors file, or has another digest than its content.
    """
    with reading_tensors(path, remedy), safe_open(path, framework="pt") as file:
        about = verified(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (safe_open is no dict)
        if about.pop(CONTENT, None) not in (None, hash_tensors(tensors)):
            raise ValueError("its tensors do not have their SHA-256")
        return TensorFile(tensors, about)


def hash_tensors(tensors: Mapping[str, Tensor], start: bytes = b"") -> str:
    """The SHA-256, in hex, of some bytes and of tensors with names, types and shapes; the same on every device."""
    return hash_parts(_parts(tensors), start)


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, tuple[int, ...], Any]]:
    for name, tensor in sorted(tensors.items()):
        empty = not tensor.numel()  # it has no bytes to view
        data = b"" if empty else tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data
        yield name, str(tensor.dtype), tuple(tensor.shape), data
