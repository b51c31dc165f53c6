"""A model as a folder: what it was built from as JSON, its weights as safetensors, and no pickle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tripletcl.embedding.weights import read_weights
from tripletcl.errors import UserError
from tripletcl.files import sha256, write_atomically, write_text

Made = TypeVar("Made")

WEIGHTS_FILE = "model.safetensors"
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


def save_model(folder: Path, file: str, model: nn.Module, about: Mapping[str, Any]) -> None:
    """Write a model's weights and what is said about it, each file whole or not at all.

    Args:
        file: The name of the JSON file.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(folder / WEIGHTS_FILE, lambda temporary: save_file(tensors, temporary))
    said = {
        "library_version": version("tripletcl"),
        "weights_sha256": sha256(folder / WEIGHTS_FILE),
        "fingerprint": weights_digest(model),
        **about,
    }
    write_text(folder / file, json.dumps(said, indent=1, ensure_ascii=False) + "\n")


def read_about(folder: Path, file: str, what: str, keys: Iterable[str]) -> dict[str, Any]:
    """What a saved model says of itself.

    Args:
        what: What the folder should hold, with its article, for messages.
        keys: What it has to say.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / file
    if not path.is_file():
        raise UserError(f"{folder} holds no {what}: it has no {file}")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    for key in ("weights_sha256", *keys):
        if not isinstance(about, dict) or key not in about:
            raise UserError(f"{path} is damaged: it lacks {key!r}")
    return about


def understood(folder: Path, file: str, about: Mapping[str, Any], make: Callable[[Mapping[str, Any]], Made]) -> Made:
    """What is made of what a saved model says of itself.

    Raises:
        UserError: it was written by a version that knows other settings.
    """
    try:
        return make(about)
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{folder / file}, written by tripletcl {about.get('library_version')}, does not suit tripletcl "
            f"{version('tripletcl')}: {error}"
        ) from error


def check_weights_file(folder: Path, about: Mapping[str, Any], file: str) -> None:
    """Refuse weights that were not written together with what is said about them.

    Raises:
        UserError: they are missing or others.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        refused = f" (a pickle could run code, so {pickles[0]} is not read)" if pickles else ""
        raise UserError(f"{folder} has no {WEIGHTS_FILE}{refused}")
    if sha256(path) != about["weights_sha256"]:
        raise UserError(f"{path} is damaged, or was not written together with {file}: its SHA-256 differs")


def load_weights(folder: Path, file: str, model: nn.Module) -> None:
    """Put the saved weights into a model.

    Raises:
        UserError: they do not fit.
    """
    try:
        model.load_state_dict(read_weights(folder / WEIGHTS_FILE))
    except RuntimeError as error:
        raise UserError(f"{folder / WEIGHTS_FILE} does not fit {file}: {error}") from error


def weights_digest(model: nn.Module) -> str:
    """16 hex digits that change with any weight; the same on every device.

    The random layer of an analytic readout that tripletcl 0.1 made, known by its float32, was not saved and so had no
    part in the fingerprints that indexes of that version hold: it is left out.
    """
    former = "analytic.projection"
    state = model.state_dict()
    return digest({name: x for name, x in state.items() if not (name.endswith(former) and x.dtype == torch.float32)})


def digest(tensors: Mapping[str, Tensor], *settings: object) -> str:
    """16 hex digits that change with any tensor or setting; the same on every device."""
    found = hashlib.sha256(repr(settings).encode() if settings else b"")
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.detach().cpu().flatten().contiguous().view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]
