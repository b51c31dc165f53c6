"""Description of a saved model, and whether its weights are those that it was written with; without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tripletcl.errors import UserError
from tripletcl.files import damaged, read_json, sha256
from tripletcl.files.documents import EMBEDDER, RESTORE

WEIGHTS_FILE = "model.safetensors"
REMEDY = f"{RESTORE}, or train the model again"
PICKLES = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


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


def weights_file(folder: Path) -> Path:
    """Find the weights of a model.

    Raises:
        UserError: they are missing.
    """
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
        refused = f" (a pickle could run code, so {pickles[0]} is not read)" if pickles else ""
        raise UserError(f"{folder} has no {WEIGHTS_FILE}{refused}")
    return path


def check_weights(folder: Path, expected: str, file: str) -> None:
    """Refuse weights that were not written together with their description, the JSON file `file`."""
    path = weights_file(folder)
    if sha256(path) != expected:
        raise other_weights(path, file)


def other_weights(path: Path, file: str) -> UserError:
    """Return the error of weights with another SHA-256 than their description says."""
    return damaged(path, f"its SHA-256 is not the one in {file}", REMEDY)


def saved_fingerprint(folder: Path) -> str:
    """Read the fingerprint of a saved embedder; early versions did not store it, so it is computed from the weights."""
    stored = read_description(folder / EMBEDDER, "embedder").get("fingerprint")
    if stored is not None:
        return stored
    from tripletcl.embedding.saving import digest  # with torch
    from tripletcl.files.tensors import read_tensors

    return digest(read_tensors(weights_file(folder), REMEDY).tensors)
