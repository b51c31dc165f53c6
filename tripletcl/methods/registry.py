"""Methods by name: those of the package, those that installed packages announce, and classes by their path.

An installed package announces a method by an entry point of the group `tripletcl.methods`:

    [project.entry-points."tripletcl.methods"]
    l2 = "my_pkg.my_method:L2"

Without that the path itself is the name, `method: {name: my_pkg.my_method:L2, lam: 3}`; the current folder is searched
as well.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from tripletcl.continual import Method
from tripletcl.errors import UserError
from tripletcl.mas import MAS, MASAlpha
from tripletcl.methods.analytic import Analytic
from tripletcl.methods.combined import Combined
from tripletcl.methods.ebll import EBLL
from tripletcl.methods.ewc import EWC
from tripletcl.methods.frozen import Frozen
from tripletcl.methods.imm import IMM
from tripletcl.methods.joint import Joint
from tripletcl.methods.lwf import LwF
from tripletcl.methods.si import SI

METHODS: dict[str, type[Method]] = {
    "finetune": Method,
    "mas": MAS,
    "mas_alpha": MASAlpha,
    "ewc": EWC,
    "si": SI,
    "imm": IMM,
    "lwf": LwF,
    "ebll": EBLL,
    "analytic": Analytic,
    "joint": Joint,
    "frozen": Frozen,
}
"""The methods of the package."""

GROUP = "tripletcl.methods"

MethodSettings = Sequence[dict[str, Any]]
"""The name of each method and the arguments of its constructor; several methods are combined."""


@cache
def announced_methods() -> Mapping[str, str]:
    """The paths of the methods that installed packages announce, by name; a name of METHODS is not replaced."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP) if entry.name not in METHODS}


def method_class(name: str) -> type[Method]:
    """The class of a method.

    Args:
        name: A name of METHODS or of `announced_methods`, or a path `package.module:Class`.

    Raises:
        UserError: There is no such method, or it is no class that can be one.
    """
    if name in METHODS:
        return METHODS[name]
    path = announced_methods().get(name, name)
    if ":" not in path:
        names = ", ".join([*METHODS, *announced_methods()])
        raise UserError(f"no method {name!r}; there are {names}, and classes of your own as package.module:Class")
    method = _imported(name, path)
    if name != path and method.name != name:
        raise UserError(f"{path} is announced as {name!r}, but its attribute `name` is {method.name!r}")
    if method.name in METHODS or announced_methods().get(method.name, path) != path:
        raise UserError(f"{path} has the name {method.name!r} of another method; give the class a `name` of its own")
    return method


def build_method(settings: MethodSettings) -> Method:
    """Build the method, or the combination of methods, of checked settings.

    Raises:
        UserError: Methods that cannot be combined, or a value that a constructor refuses.
    """
    methods = [method_class(s["name"])(**{key: value for key, value in s.items() if key != "name"}) for s in settings]
    return methods[0] if len(methods) == 1 else Combined(methods)


def method_name(settings: MethodSettings) -> str:
    """The name in tables: "mas", "mas+lwf"; of a class by its path the name that it has itself."""
    return "+".join(s["name"] if ":" not in s["name"] else method_class(s["name"]).name for s in settings)


def _imported(name: str, path: str) -> type[Method]:
    """The class at a path. An error inside the module is its author's to see, with its trace."""
    module_name, _, class_name = path.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:  # last, so that a file of the folder replaces no module
        sys.path.append(folder)
    importlib.invalidate_caches()  # the file may be newer than this process
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError, TypeError) as error:
        if isinstance(error, ModuleNotFoundError) and not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise UserError(
            f"method {name!r}: no module {module_name!r} is installed or in the current folder, {folder}"
        ) from error
    method = getattr(module, class_name, None)
    if not (isinstance(method, type) and issubclass(method, Method)):
        classes = [key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, Method)]
        raise UserError(
            f"method {name!r}: {module_name} has no class {class_name!r} that inherits tripletcl.continual.Method; its "
            f"methods are {', '.join(classes) or 'none'}"
        )
    return method
