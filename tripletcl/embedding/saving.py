"""A model in a folder: its specification as JSON, its weights as safetensors, and no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tripletcl.embedding.weights import read_weights
from tripletcl.errors import UserError
from tripletcl.files import sha256, write_atomically, write_text

WEIGHTS_FILE = "model.safetensors"
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
    write_text(folder / file, json.dumps(description, indent=1, ensure_ascii=False) + "\n")


def load_model(
    folder: Path,
    file: str,
    kind: str,
    keys: Sequence[str],
    parse: Callable[[Mapping[str, Any]], Parsed],
    build: Callable[[Parsed], Model],
) -> Model:
    """Load what `save_model` wrote; nothing is downloaded and no pickle is read.

    Args:
        file: The name of the JSON file.
        kind: The kind of model, for messages.
        keys: The entries that the description must have.
        parse: Reads the description.
        build: Builds the model from it, with any weights.

    Raises:
        UserError: a file is missing or damaged, or is of a version with other settings.
    """
    about = _read_description(folder, file, kind, keys)
    _check_weights_file(folder, about, file)
    try:
        parsed = parse(about)
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{folder / file}, written by tripletcl {about.get('library_version')}, does not suit tripletcl "
            f"{version('tripletcl')}: {error}"
        ) from error
    model, tensors = build(parsed), read_weights(folder / WEIGHTS_FILE)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS_FILE} does not fit {file}: {error}") from error
    # The state has what the file lacks: the random layer of tripletcl 0.1, which has no part in its fingerprints.
    model.saved = SavedWeights({**model.state_dict(), **tensors}, about.get("fingerprint") or digest(tensors))
    return model


def _read_description(folder: Path, file: str, kind: str, keys: Sequence[str]) -> dict[str, Any]:
    path = folder / file
    if not path.is_file():
        raise UserError(f"{folder} holds no {kind}: it has no {file}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    for key in ("weights_sha256", *keys):
        if not isinstance(about, dict) or key not in about:
            raise UserError(f"{path} is damaged: it lacks {key!r}")
    return about


def _check_weights_file(folder: Path, about: Mapping[str, Any], file: str) -> None:
    """Refuse weights that were not written together with their description."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        refused = f" (a pickle could run code, so {pickles[0]} is not read)" if pickles else ""
        raise UserError(f"{folder} has no {WEIGHTS_FILE}{refused}")
    if sha256(path) != about["weights_sha256"]:
        raise UserError(f"{path} is damaged, or was not written together with {file}: its SHA-256 differs")


def digest(tensors: Mapping[str, Tensor], *settings: object) -> str:
    """16 hex digits that change with any tensor or setting; the same on every device."""
    sha = hashlib.sha256(repr(settings).encode() if settings else b"")
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]
