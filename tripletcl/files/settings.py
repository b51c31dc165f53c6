"""Settings as YAML, unchecked: a mapping of sections."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tripletcl.errors import UserError


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
