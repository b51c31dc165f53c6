"""The properties of the methods (Aljundi et al., ECCV 2018, table 1), and their settings."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from tripletcl.config.method import method_settings
from tripletcl.continual import Method, Properties
from tripletcl.errors import UserError
from tripletcl.methods import METHODS, MethodSettings, announced_methods, build_method, method_class
from tripletcl.report.formatting import MISSING, method_label
from tripletcl.report.grouping import method_order
from tripletcl.report.table import Cell, Column, Table

log = logging.getLogger("tripletcl")

PROPERTY_TITLES = {
    "constant_memory": "constant memory",
    "problem_agnostic": "problem agnostic",
    "on_pretrained": "on pretrained",
    "unlabeled": "unlabeled data",
    "adaptive": "adaptive",
    "consistent": "consistent",
}
"""The titles of the properties, by the names of the fields of `Properties`."""

CAPTION = (
    "Constant memory: the memory of the method does not grow with the number of tasks. Problem agnostic: it assumes "
    "nothing about the outputs. On pretrained: it can protect a network that was trained without it. Unlabeled data: "
    "it needs inputs only. Adaptive: other inputs protect other knowledge. Consistent: every task has the same weight. "
    "Joint training sees all tasks at once and has none of these properties."
)

MethodProperties = Mapping[str, Properties | None]
"""The properties of each method, by its name in the tables; None: it is no continual learner."""


def properties_of(settings: MethodSettings) -> Properties | None:
    """The properties of the method, or the combination, of these settings; None for joint training."""
    method = build_method(settings)
    return None if method.joint else method.properties


def properties_table(properties: MethodProperties) -> Table:
    """One row a method, one column a property."""
    columns = [Column("method", align="left"), *(Column(title, align="center") for title in PROPERTY_TITLES.values())]
    ordered = {name: properties[name] for name in method_order(properties)}
    rows = [[Cell(method_label(name)), *map(Cell, _marks(held))] for name, held in ordered.items()]
    return Table(columns, rows, CAPTION)


def _marks(held: Properties | None) -> list[str]:
    if held is None:
        return [""] * len(PROPERTY_TITLES)
    return ["\N{CHECK MARK}" if asdict(held)[key] else MISSING for key in PROPERTY_TITLES]


def described_methods(names: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Methods: the name, a summary, the properties and the settings of each.

    Args:
        names: Names, or paths `package.module:Class`; by default all of the package, and those that installed packages
            announce.

    Returns:
        Dicts with `name`, `summary`, `joint`, `properties` (name to bool) and `settings`: name to `default` and
        `choices`, the words that are allowed (none where it is a number).

    Raises:
        UserError: There is no method of a name.
    """
    return [
        {
            "name": name,
            "summary": (inspect.getdoc(method) or "").partition("\n")[0].partition("; see the module")[0],
            "joint": method.joint,
            "properties": asdict(method.properties),
            "settings": {
                key: {"default": default, "choices": _choices(kind)}
                for key, (kind, default) in method_settings(method).items()
            },
        }
        for name, method in (_known() if not names else {name: method_class(name) for name in names}).items()
    ]


def _known() -> dict[str, type[Method]]:
    """The methods of the package and those that are announced, without those that cannot be imported."""
    known = dict(METHODS)
    for name in announced_methods():
        try:
            known[name] = method_class(name)
        except (UserError, ImportError) as error:
            log.warning("the method %s of an installed package cannot be used: %s", name, error)
    return known


def _choices(annotation: Any) -> list[Any]:
    """The values that a type names one by one: of a Literal, of a union with one, of bool."""
    if annotation is bool:
        return [False, True]
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [choice for part in typing.get_args(annotation) for choice in _choices(part)]
