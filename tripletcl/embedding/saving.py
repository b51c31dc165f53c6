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

from tripletcl.embedding.description import (
    REMEDY,
    WEIGHTS_FILE,
    check_fit,
    check_weights,
    other_version,
    read_description,
)
from tripletcl.files import reading, sha256, write_atomically, write_json
from tripletcl.files.documents import RESTORE
from tripletcl.files.tensors import hash_tensors, read_tensors


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
) -> Model:
    """Load what `save_model` wrote; nothing is downloaded and no pickle is read.

    Args:
        file: The name of the JSON file.
        kind: The kind of model, for messages.
        parse: Reads the description.
        build: Builds the model from it, with any weights.

    Raises:
        UserError: a file is missing or damaged, or is of a version with other settings.
    """
    about = read_description(folder / file, kind)
    with reading(folder / file, f"use tripletcl {about.get('library_version')}, which wrote it, or {RESTORE}"):
        parsed = parse(about)
        check_weights(folder, about["weights_sha256"], file)
    model, tensors = build(parsed), read_tensors(folder / WEIGHTS_FILE, REMEDY).tensors
    fingerprint = about.get("fingerprint") or digest(tensors)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        check_fit(folder, about, _shapes(model.state_dict()), _shapes(tensors))
        raise other_version(folder, about, " ".join(str(error).split())) from error
    # The state has what the file lacks: the random layer of tripletcl 0.1, which has no part in its fingerprints.
    model.saved = SavedWeights({**model.state_dict(), **tensors}, fingerprint)
    return model


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def digest(tensors: Mapping[str, Tensor], *settings: object) -> str:
    """16 hex digits that change with any tensor or setting; the same on every device."""
    return hash_tensors(tensors, repr(settings).encode() if settings else b"")[:16]
