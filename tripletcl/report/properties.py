"""What the methods promise (the table of properties of Aljundi et al., ECCV 2018, table 1), and how each is set."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

from tripletcl.config.method import method_settings
from tripletcl.continual import Method, Properties
from tripletcl.methods import METHODS, MethodSettings, build_method
from tripletcl.report.formatting import MISSING, method_label
from tripletcl.report.tables import markdown_text

TITLES = {
    "constant_memory": "constant memory",
    "problem_agnostic": "problem agnostic",
    "on_pretrained": "on pretrained",
    "unlabeled": "unlabeled data",
    "adaptive": "adaptive",
    "consistent": "consistent",
}
KEPT, NOT_KEPT = "\N{CHECK MARK}", MISSING

CAPTION = (
    "Constant memory: what is kept does not grow with the number of tasks. Problem agnostic: nothing is asked of the "
    "outputs. On pretrained: a network trained without the method can be protected. Unlabeled data: what is kept is "
    "computed from inputs alone. Adaptive: other inputs make it keep other things. Consistent: every task weighs the "
    "same in what is kept. Joint training sees all tasks at once and promises nothing."
)

Promises = Mapping[str, Properties | None]
"""What each method promises, by its name in the tables; None: it is no continual learner."""


def promises_of(settings: MethodSettings) -> Properties | None:
    """What the method, or the combination, of these settings promises; None for joint training."""
    method = build_method(settings)
    return None if method.joint else method.properties


def property_cells(promises: Promises) -> list[list[str]]:
    """A line a method: its name and a mark for each of `TITLES`."""
    return [[method_label(name), *_marks(promise)] for name, promise in promises.items()]


def _marks(promise: Properties | None) -> list[str]:
    if promise is None:
        return [""] * len(TITLES)
    kept = asdict(promise)
    return [KEPT if kept[key] else NOT_KEPT for key in TITLES]


def properties_markdown(promises: Promises) -> str:
    """The table as GitHub-flavoured Markdown, its caption below it."""
    body = [[markdown_text(name), *marks] for name, *marks in property_cells(promises)]
    lines = [["method", *TITLES.values()], ["---", *[":---:"] * len(TITLES)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + f"\n\n{CAPTION}\n"


def described_methods() -> list[dict[str, Any]]:
    """Every method that can be asked for: its name, what it is, what it promises, its settings.

    Returns:
        Dicts with `name`, `summary`, `joint`, `properties` (name to bool) and `settings`: name to `default` and
        `choices`, the words that are allowed (none where it is a number).
    """
    return [
        {
            "name": name,
            "summary": (inspect.getdoc(method) or "").partition("\n")[0].partition("; see the module")[0],
            "joint": method.joint,
            "properties": asdict(method.properties),
            "settings": _settings(method),
        }
        for name, method in METHODS.items()
    ]


def _settings(method: type[Method]) -> dict[str, dict[str, Any]]:
    """The default of each of a method's settings, and the values that its type allows where they are few."""
    settings = method_settings(method).items()
    return {name: {"default": default, "choices": _choices(kind)} for name, (kind, default) in settings}


def _choices(annotation: Any) -> list[Any]:
    """The values that a type names one by one: of a Literal, of a union with one, of bool."""
    if annotation is bool:
        return [False, True]
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [choice for part in typing.get_args(annotation) for choice in _choices(part)]
