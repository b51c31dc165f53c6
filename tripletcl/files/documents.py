"""JSON documents that carry the SHA-256 of their content, and the one message for a file that is damaged.

A document is an object with an entry `sha256`: the digest of the JSON text of all other entries. Those of tripletcl 0.1
have none and are read as they are. The settings of a run, by which its folder is known, are YAML, a mapping of
sections; they are read unchecked here, and need no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tripletcl.errors import UserError
from tripletcl.files.writing import write_text

Values = dict[str, Any]
Kind = TypeVar("Kind")

DIGEST = "sha256"
RESTORE = "restore it from a copy"
"""What to do about a damaged file, where nothing else helps."""


def damaged(path: Path, reason: object, remedy: str = RESTORE) -> UserError:
    """Return the error of a file whose content is not what was written."""
    return UserError(f"{path} is damaged ({' '.join(str(reason).split())}): {remedy}")


@contextmanager
def reading(path: Path, remedy: str = RESTORE) -> Iterator[None]:
    """Turn every error about the content of a file that is read and parsed in this block into one sentence.

    Raises:
        UserError: the file is missing, cannot be read, or is damaged.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {remedy}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except KeyError as error:
        raise damaged(path, f"it lacks {error}", remedy) from error
    except (ValueError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise damaged(path, error, remedy) from error


def read_json(path: Path, remedy: str = RESTORE) -> Values:
    """Read a document of `write_json`, without its digest.

    Raises:
        UserError: the file is missing, is not such a document, or has another digest than its content.
    """
    with reading(path, remedy):
        return verified(json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, values: Mapping[str, Any], indent: int | None = 1) -> None:
    """Write a document with the digest of its content, whole or not at all."""
    write_text(path, json.dumps(signed(values), indent=indent) + "\n")


def signed(values: Mapping[str, Any]) -> Values:
    """Return values with their digest."""
    return {**values, DIGEST: content_digest(values)}


def verified(values: Any) -> Values:
    """Return what `signed` was given; values without a digest as they are.

    Raises:
        ValueError: they are no JSON object, or their digest is another one.
    """
    if not isinstance(values, dict):
        raise ValueError(f"it holds {type(values).__name__}, not an object")
    if DIGEST not in values:
        return values
    rest = {key: value for key, value in values.items() if key != DIGEST}
    if content_digest(rest) != values[DIGEST]:
        raise ValueError("its content does not have its SHA-256")
    return rest


def content_digest(values: Mapping[str, Any]) -> str:
    """The SHA-256, in hex, of values as JSON, the same before they are written and after they are read in any order."""
    read = json.loads(json.dumps(values))  # keys are texts
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def validated(kind: type[Kind], values: Any) -> Kind:
    """Return values as a dataclass with fields of the right types.

    Raises:
        ValueError: an entry is missing, unknown or of another type; one short sentence.
    """
    from pydantic import TypeAdapter, ValidationError  # loaded late: the help needs none

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


# --- settings of runs -------------------------------------------------------------------------------------------------

SETTINGS, EMBEDDER, CLASSIFIER = "config.yaml", "embedder.json", "classifier.json"
"""Files by which a run, and the folder of a saved model, are known."""
METRICS, RESULT, ENVIRONMENT = "metrics.jsonl", "result.json", "environment.json"
"""Files of a run that hold what was measured, and on what."""


def run_folders(folder: Path) -> list[Path]:
    """List the run folders directly below a folder, by name."""
    return sorted(path.parent for path in folder.glob(f"*/{SETTINGS}"))


def settings_file(folder: Path) -> Path:
    """Find the settings of a run.

    Raises:
        UserError: the folder holds no run; runs that are directly below it are named.
    """
    path = folder / SETTINGS
    if not path.exists():
        below = [run.name for run in run_folders(folder)]
        hint = f"; there are runs below it: {', '.join(below)}" if below else ""
        raise UserError(f"{folder} is no run folder (it has no {SETTINGS}){hint}")
    return path


def read_settings(path: Path) -> dict[str, Any]:
    """Read the settings in a YAML file.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it cannot be read, or is no YAML.
    """
    try:
        return parse_settings(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


def parse_settings(text: str, source: str) -> dict[str, Any]:
    """Parse settings.

    Raises:
        UserError: they are no YAML, or no mapping.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{source} is not YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{source} holds {type(values).__name__}, but a config is a mapping of sections")
    return values
