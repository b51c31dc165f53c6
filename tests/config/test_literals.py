"""Every value that a setting allows can be typed as `key=value`: YAML reads some words, such as no, as other values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from pydantic import BaseModel

from tripletcl.config import Config, FactConfig, ObjectConfig, load_config
from tripletcl.config.method import method_settings
from tripletcl.methods import METHODS

NEEDED = {
    "data.split=column": ["data.tasks=null", "data.task_column=task"],
    "data.sets": ["root: photos"],
    "data.further": ["table: more.csv"],
}
"""Other settings that a value, or an entry of a list, asks for."""


def literals(kind: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The path and the value of every Literal in a type; an entry of a list has the path `[]`."""
    origin = get_origin(kind)
    if origin is Literal:
        yield from ((path, value) for value in get_args(kind))
    elif origin is Annotated:
        yield from literals(get_args(kind)[0], path)
    elif origin in (list, tuple):
        for inner in get_args(kind):
            yield from literals(inner, (*path, "[]"))
    elif get_args(kind):
        for inner in get_args(kind):
            yield from literals(inner, path)
    elif isinstance(kind, type) and (issubclass(kind, BaseModel) or dataclasses.is_dataclass(kind)):
        for name, hint in get_type_hints(kind, include_extras=True).items():
            yield from literals(hint, (*path, name))


def settings_with_literals() -> list[tuple[str, tuple[str, ...], str]]:
    """The kind of config, the path, and the value."""
    settings = [
        (kind.__name__, path, value) for kind in (FactConfig, ObjectConfig) for path, value in literals(kind) if path
    ]
    for name, method in METHODS.items():
        for setting, (hint, _) in method_settings(method).items():
            settings += [("FactConfig", (name, *path), value) for path, value in literals(hint, (setting,))]
    return settings


def overrides(kind: str, path: tuple[str, ...], value: str) -> list[str]:
    """What one types for a value, with whatever else it asks for."""
    if path[0] in METHODS:
        extra = ["data.validation=0.1"] if value == "auto" else []
        return [*extra, f"method={path[0]}", f"method.{path[1]}={value}"]
    if path[:2] == ("data", "table"):
        text = f"[{value}]" if path[-1] == "[]" else value
        return ["data.table={set: vrd, root: photos}", f"data.table.{path[2]}={text}"]
    if "[]" not in path:
        override = f"{'.'.join(path)}={value}"
        return [*NEEDED.get(override, []), override]
    at = path.index("[]")
    key, *inner = ".".join(path[:at]), *path[at + 1 :]
    needed = "".join(f"{text}, " for text in NEEDED.get(key, []))
    for name in reversed(inner):
        value = f"{name}: {value}" if name == inner[0] else f"{{{name}: {value}}}"
    return [f"{key}=[{{{needed}{value}}}]" if inner else f"{key}=[{value}]"]


def value_at(config: Config, path: tuple[str, ...]) -> Any:
    value: Any = config.model_dump()
    if path[0] in METHODS:
        value, path = value["method"], ("[]", *path[1:])
    for part in path:
        value = value[0] if part == "[]" else value[part]
    return value


@pytest.mark.parametrize(("kind", "path", "value"), settings_with_literals())
def test_every_literal_can_be_typed(kind: str, path: tuple[str, ...], value: str) -> None:
    base = "demo" if kind == "FactConfig" else "split_mnist"
    if path[-1] == "learns":
        base = {"facts": "demo", "objects": "split_mnist"}[value]
    config = load_config(base, overrides(kind, path, value))
    assert value_at(config, path) == value


def test_all_are_met() -> None:
    values = {value for _, _, value in settings_with_literals()}
    assert {"float32", "auto", "none", "adamw", "pairs", "drop", "column", "proximal", "indicators"} <= values
