"""HTML from templates, in which every value is escaped."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tripletcl.report.formatting import fraction, method_label


def render(template: str, **values: Any) -> Markup:
    """Render a template with the values that it names.

    Args:
        template: The file's path within `tripletcl`, such as `report/templates/page.html.j2`.
        values: Escaped where the template prints them, unless they are `Markup`, such as the result of another call.
    """
    return Markup(_environment().get_template(template).render(values))


def macros(template: str = "report/templates/macros.html.j2") -> Any:
    """The macros of a template as functions that return `Markup`, for what needs no template of its own."""
    return _environment().get_template(template).module


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parents[1]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(fraction=fraction, method_label=method_label)
    return environment
