"""Translate settings of version 0.1 to the current ones."""

from __future__ import annotations

import copy
import logging
from typing import Any

log = logging.getLogger("tripletcl")

MEASURED_PRECISIONS = ("float32", "tf32", "bf16")
COMPILE_MODES = ("no", False, "default", "reduce-overhead", "max-autotune")
"""Values of the removed settings. Others are left in place, and are refused as unknown settings."""


def translate(values: dict[str, Any]) -> dict[str, Any]:
    """Translate settings before they are checked.

    - `precision: no` (which YAML reads as False) is now `float32`.
    - `training.compile` and a method's `precision` are removed; a warning names a value that differs from the current
      behaviour.
    """
    values = copy.deepcopy(values)
    if values.get("precision") in ("no", False):
        values["precision"] = "float32"
    _remove(values.get("training"), "compile", COMPILE_MODES, "training.compile")
    data = values.get("data")
    for table in _entries(data.get("further") if isinstance(data, dict) else None):
        if isinstance(table, dict):
            _remove(table.get("training"), "compile", COMPILE_MODES, "training.compile")
    compare = values.get("compare")
    for method in _entries([values.get("method"), compare.get("methods") if isinstance(compare, dict) else None]):
        _remove(method, "precision", MEASURED_PRECISIONS, "a method's precision")
    return values


def _entries(nested: Any) -> list[Any]:
    """The entries of a list and of the lists in it."""
    return [entry for inner in nested for entry in _entries(inner)] if isinstance(nested, list) else [nested]


def _remove(section: Any, key: str, values: tuple[Any, ...], name: str) -> None:
    if isinstance(section, dict) and key in section and section[key] in values:
        value = section.pop(key)
        if value not in ("no", False, "float32"):
            log.warning("%s is a setting of version 0.1 that is ignored: it was %s", name, value)
