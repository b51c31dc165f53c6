"""A method's settings are the arguments of its constructor, checked against their types."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from tripletcl.continual import Method
from tripletcl.errors import UserError
from tripletcl.methods import build_method, method_class


def validate_methods(given: Any) -> list[dict[str, Any]]:
    """Check and complete the settings of a method or of a combination: a name, a mapping, or a list of them.

    Raises:
        ValueError: there is no such method or setting, a value has a wrong type, or methods cannot be combined.
    """
    settings = [validate_method(method) for method in (given if isinstance(given, list) else [given])]
    if not settings:
        raise ValueError("a combination of no methods; plain fine-tuning is called finetune")
    try:
        build_method(settings)
    except UserError as error:
        raise ValueError(f"method: {error}") from error
    return settings


def validate_method(method: Any) -> dict[str, Any]:
    """Check a method's settings against the types of its constructor, and add the defaults.

    Raises:
        ValueError: there is no such method or setting, or a value has a wrong type.
    """
    given = {"name": method} if isinstance(method, str) else method
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise ValueError("a method is a name, or a mapping with a name and settings")
    values = {key: value for key, value in given.items() if key != "name"}
    try:
        method = method_class(given["name"])
    except UserError as error:
        raise ValueError(str(error)) from error
    try:
        settings = _settings_model(method)(**values).model_dump()
        method(**settings)  # a constructor checks more than types
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors())
        raise ValueError(f"method {given['name']}: {problems}") from error
    except UserError as error:
        raise ValueError(f"method {given['name']}: {error}") from error
    return {"name": given["name"], **settings}


def method_settings(method: type[Method]) -> dict[str, tuple[Any, Any]]:
    """The type and the default of each argument of a method's constructor; the default is `...` where there is none."""
    constructor = method.__init__
    hints = get_type_hints(constructor) if constructor is not object.__init__ else {}
    parameters = inspect.signature(constructor).parameters.items()
    return {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in parameters
        if name in hints
    }


def _settings_model(method: type[Method]) -> type[BaseModel]:
    """A pydantic model of a method's constructor, so that a method states its settings only once."""
    fields: dict[str, Any] = dict(method_settings(method))
    return create_model(method.name, __config__=ConfigDict(extra="forbid"), **fields)
