"""A model in a folder: its specification as JSON, its weights as safetensors, and no pickle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tripletcl.errors import UserError
from tripletcl.files import damaged, read_json, reading, sha256, write_atomically, write_json
from tripletcl.files.documents import RESTORE
from tripletcl.files.tensors import hash_tensors, read_tensors

WEIGHTS_FILE = "model.safetensors"
REMEDY = f"{RESTORE}, or train the model again"
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


@dataclass(frozen=True)
class SavedWeights:
    """The tensors of a weights file, which stay mapped into memory, and the fingerprint saved with them."""

    tensors: Mapping[str, Tensor]
    fingerprint: str

    def equal(self, tensors: Mapping[str, Tensor]) -> bool:
        """True if these tensors have the same names, types and bits."""
        return self.tensors.keys() == tensors.keys() and all(
            tensor.dtype == tensors[name].dtype and torch.equal(_bits(tensor), _bits(tensors[name].cpu()))
            for name, tensor in self.tensors.items()
        )

    def __deepcopy__(self, memo: dict) -> SavedWeights:
        return self


def _bits(tensor: Tensor) -> Tensor:
    """View a tensor as integers, which compare faster, float16 by far, and where NaN equals itself."""
    return tensor.view({1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


class SavedModel(nn.Module):
    """A network that `save_model` writes and `load_model` reads.

    Attributes:
        saved: The weights that it was loaded with; None for a new network.
    """

    saved: SavedWeights | None = None

    def fingerprint(self) -> str:
        """16 hex digits that change with any weight; the same on every device.

        A loaded model that still has the weights of its file returns the fingerprint saved with them, since comparing
        tensors is faster than hashing them.
        """
        tensors = self.state_dict()
        if self.saved is not None and self.saved.equal(tensors):
            return self.saved.fingerprint
        return digest(tensors)


Model = TypeVar("Model", bound=SavedModel)
Parsed = TypeVar("Parsed")


def save_model(folder: Path, file: str, model: SavedModel, about: Mapping[str, Any]) -> None:
    """Write a model's weights and its description, each file whole or not at all.

    Args:
        file: The name of the JSON file.
        about: The rest of the description.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(folder / WEIGHTS_FILE, lambda temporary: save_file(tensors, temporary))
    description = {
        "library_version": version("tripletcl"),
        "weights_sha256": sha256(folder / WEIGHTS_FILE),
        "fingerprint": model.fingerprint(),
        **about,
    }
    write_json(folder / file, description)


def load_model(
    folder: Path,
    file: str,
    kind: str,
    parse: Callable[[Mapping[str, Any]], Parsed],
    build: Callable[[Parsed], Model],
    part: str = "",
) -> Model:
    """Load what `save_model` wrote; nothing is downloaded and no pickle is read.

    Args:
        file: The name of the JSON file.
        kind: The kind of model, for messages.
        parse: Reads the description.
        build: Builds the model from it, with any weights.
        part: The beginning of the names of the weights that the model has; by default it has all.

    Raises:
        UserError: a file is missing or damaged, or is of a version with other settings.
    """
    about = read_description(folder / file, kind)
    with reading(folder / file, f"use tripletcl {about.get('library_version')}, which wrote it, or {RESTORE}"):
        parsed = parse(about)
        _check_weights_file(folder, about["weights_sha256"], file)
    model, tensors = build(parsed), read_tensors(folder / WEIGHTS_FILE, REMEDY).tensors
    fingerprint = about.get("fingerprint") or digest(tensors)
    tensors = {name: tensor for name, tensor in tensors.items() if name.startswith(part)}
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS_FILE} does not fit {file}: {error}") from error
    # The state has what the file lacks: the random layer of tripletcl 0.1, which has no part in its fingerprints.
    model.saved = SavedWeights({**model.state_dict(), **tensors}, fingerprint)
    return model


def read_description(path: Path, kind: str) -> dict[str, Any]:
    """Read the description of a model.

    Args:
        path: The JSON file of `save_model`.
        kind: The kind of model, for messages.

    Raises:
        UserError: it is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path.parent} holds no {kind}: it has no {path.name}")
    return read_json(path, REMEDY)


def _check_weights_file(folder: Path, expected: str, file: str) -> None:
    """Refuse weights that were not written together with their description."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        refused = f" (a pickle could run code, so {pickles[0]} is not read)" if pickles else ""
        raise UserError(f"{folder} has no {WEIGHTS_FILE}{refused}")
    if sha256(path) != expected:
        raise damaged(path, f"its SHA-256 is not the one in {file}", REMEDY)


def digest(tensors: Mapping[str, Tensor], *settings: object) -> str:
    """16 hex digits that change with any tensor or setting; the same on every device."""
    return hash_tensors(tensors, repr(settings).encode() if settings else b"")[:16]
