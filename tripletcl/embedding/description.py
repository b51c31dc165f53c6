"""Description of a saved model, and whether its weights are those that it was written with; without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tripletcl.errors import UserError
from tripletcl.files import damaged, read_json, sha256
from tripletcl.files.documents import EMBEDDER, RESTORE
from tripletcl.files.places import STAGES

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


def check_fit(
    folder: Path, about: Mapping[str, Any], expected: Mapping[str, Sequence[int]], stored: Mapping[str, Sequence[int]]
) -> None:
    """Refuse weights of other names or shapes than a model's settings ask for: another version wrote them.

    Args:
        folder: Of the model.
        about: Its description.
        expected: The shape of each array, by its name.
        stored: Those of the file.

    Raises:
        UserError: an array is missing, or has another shape.
    """
    for name, shape in expected.items():
        if name not in stored:
            raise other_version(folder, about, f"it lacks {name}")
        if list(stored[name]) != list(shape):
            raise other_version(folder, about, f"{name} is {list(stored[name])}, not {list(shape)}")


def other_version(folder: Path, about: Mapping[str, Any], reason: str) -> UserError:
    """Return the error of a model that another version wrote, with the command that makes it anew."""
    run = folder.parents[1] if folder.parent.name == STAGES else folder
    command = "tripletcl photos FOLDER --out NEW" if about.get("spec", {}).get("base") else "tripletcl train"
    return UserError(
        f"{run} was made by another version of tripletcl: {WEIGHTS_FILE} does not fit {EMBEDDER} ({reason}); make it "
        f"anew with {command}"
    )


def saved_fingerprint(folder: Path) -> str:
    """Read the fingerprint of a saved embedder; early versions did not store it, so it is computed from the weights."""
    stored = read_description(folder / EMBEDDER, "embedder").get("fingerprint")
    if stored is not None:
        return stored
    from tripletcl.embedding.saving import digest  # with torch
    from tripletcl.files.tensors import read_tensors

    return digest(read_tensors(weights_file(folder), REMEDY).tensors)
