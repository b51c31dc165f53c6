"""Read a config: a YAML file or a shipped one by its name, then `section.key=value` settings that override it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from tripletcl.config.base import Config
from tripletcl.config.facts import TABLE_KINDS, FactConfig
from tripletcl.config.legacy import translate
from tripletcl.config.method import validate_methods
from tripletcl.config.objects import ObjectConfig
from tripletcl.errors import UserError
from tripletcl.files.documents import parse_settings, read_settings

AnyConfig = TypeVar("AnyConfig", bound=Config)


def shipped_configs() -> list[str]:
    """The names of the configs that are part of the package."""
    return sorted(
        p.name.removesuffix(".yaml") for p in files("tripletcl.configs").iterdir() if p.name.endswith(".yaml")
    )


KINDS: dict[str, type[Config]] = {"facts": FactConfig, "objects": ObjectConfig}
"""The settings for each value of `learns`."""


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config and check all of it at once.

    Args:
        source: Path of a YAML file, or the name of a shipped config.
        overrides: `section.key=value`, the value read as YAML.

    Raises:
        UserError: there is no such file, it is not YAML, or settings are wrong: all of them in one message.
    """
    values = read_values(source)
    for override in overrides:
        _apply(values, override)
    return parse_config(_expand(values), str(source))


def load_config_to_train(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a config like `load_config`, with the one method that is to be trained.

    This is `method` if it is set, else the only one of `compare.methods`.

    Raises:
        UserError: as in `load_config`; or no method is named, or several are compared.
    """
    config = load_config(source, overrides)
    if "method" in config.model_fields_set:
        return config
    if "compare" not in config.model_fields_set or "methods" not in config.compare.model_fields_set:
        raise UserError(f"{source} names no method to train: give one, for example method=mas")
    if len(config.compare.methods) > 1:
        proposals = " or ".join(_method_setting(method) for method in config.compare.methods)
        raise UserError(f"{source} compares several methods: give one of {proposals}")
    return config.model_copy(update={"method": config.compare.methods[0]})


def _method_setting(method: list[dict[str, Any]]) -> str:
    """The setting of a method as it is typed in a shell: `method=joint` or `'method={name: mas, lam: 3}'`."""
    parts = [_without_defaults(part) for part in method]
    if len(parts) == 1 and list(parts[0]) == ["name"]:
        return f"method={parts[0]['name']}"
    value = parts[0] if len(parts) == 1 else parts
    return f"'method={yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).strip()}'"


def _without_defaults(method: dict[str, Any]) -> dict[str, Any]:
    defaults = validate_methods(method["name"])[0] | {"name": None}
    return {key: value for key, value in method.items() if value != defaults[key]}


def parse_config(values: dict[str, Any], source: str) -> Config:
    """Check settings; one message names every unknown key and wrong value."""
    values = translate(values)
    learns = values.get("learns", "facts")
    if not isinstance(learns, str) or learns not in KINDS:
        raise UserError(f"{source}: learns is {learns!r}; allowed are {', '.join(KINDS)}")
    try:
        return KINDS[learns].model_validate(values)
    except ValidationError as error:
        problems = "; ".join(_explain(problem, KINDS[learns]) for problem in error.errors())
        raise UserError(f"{source}: {problems}") from error


def change_config(config: AnyConfig, overrides: Sequence[str]) -> AnyConfig:
    """Override settings of a config by `section.key=value`, and check the result as a whole."""
    values = config.model_dump(mode="json")
    for override in overrides:
        _apply(values, override)
    return parse_config(_expand(values), "the settings given")  # type: ignore[return-value]  # the same kind


def dump_config(config: Config) -> str:
    """The complete settings as YAML; equal settings give equal text."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _expand(value: Any) -> Any:
    """Expand environment variables in texts, `${TRIPLETCL_DATA}/facts.csv`; unset ones stay as they are."""
    if isinstance(value, dict):
        return {key: _expand(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner) for inner in value]
    return os.path.expandvars(value) if isinstance(value, str) else value


def read_values(source: str | Path) -> dict[str, Any]:
    """Read the settings in a YAML file, or in a shipped config by its name, without checking them.

    Raises:
        UserError: no such file, or no YAML.
    """
    path = Path(source)
    if path.suffix not in (".yaml", ".yml") and not path.is_file():
        if str(source) not in shipped_configs():
            raise UserError(f"no config {str(source)!r}: give a YAML file, or one of {', '.join(shipped_configs())}")
        with as_file(files("tripletcl.configs") / f"{source}.yaml") as shipped:
            return parse_settings(shipped.read_text(encoding="utf-8"), str(source))
    try:
        return read_settings(path)
    except FileNotFoundError as error:
        raise UserError(f"no config file {path}; shipped ones are {', '.join(shipped_configs())}") from error


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"{override!r} is not a setting: write section.key=value")
    *sections, last = key.split(".")
    for section in sections:
        inner = values.setdefault(section, {})
        if isinstance(inner, str) and section == "method":  # `method: mas` is short for its mapping
            inner = values[section] = {"name": inner}
        if not isinstance(inner, dict):
            raise UserError(f"{override!r}: {section} is a value, not a section")
        values = inner
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{override!r}: the value is not YAML") from error


def _explain(problem: Any, kind: type[Config]) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part not in TABLE_KINDS)
    if not where:  # a problem of the settings as a whole
        return str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        close = get_close_matches(str(problem["loc"][-1]), _keys(kind, problem["loc"][:-1]), n=1)
        return f"unknown key {where}" + (f" (did you mean {close[0]}?)" if close else "")
    return f"{where}: {problem['msg'].removeprefix('Value error, ')} (given {problem['input']!r})"


def _keys(kind: type[Config], section: tuple[Any, ...]) -> list[str]:
    """The keys of a section, read from its defaults."""
    values: Any = kind().model_dump()
    for part in section:
        values = values.get(part, {}) if isinstance(values, dict) else {}
    return list(values) if isinstance(values, dict) else []
