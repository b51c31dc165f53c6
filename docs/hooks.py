"""Pages of the documentation that are generated from the code: settings, commands, licences of dependencies.

A line `<!-- generate NAME -->` of a page is replaced by what NAME below returns.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from importlib import metadata
from typing import Any

Schema = dict[str, Any]

MARKER = re.compile(r"^<!-- generate (\w+) -->$", re.MULTILINE)
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}
KINDS = {"boolean": "true, false", "array": "list", "object": "mapping"}
LONGEST_LICENCE_NAME = 60
"""A longer licence field holds the licence itself."""
EXTRAS = "ui|data|media|watch|encoders|huggingface|lightning|cluster|postgres"
"""The extras whose packages are listed with their licences; `avalanche` is not installed where the pages are built."""
NOT_FOR_USERS = "Not to be set by hand"


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the markers of a page; called by MkDocs."""
    return MARKER.sub(lambda match: GENERATED[match[1]](), markdown)


def fact_settings() -> str:
    """Return the tables of all settings of a run that learns facts."""
    from tripletcl.config import FactConfig

    return settings_tables(FactConfig.model_json_schema())


def object_settings() -> str:
    """Return the tables of the settings of a run that learns objects, where they differ from those of facts."""
    from tripletcl.config import ObjectConfig

    return settings_tables(ObjectConfig.model_json_schema(), only=("data", "model", "compare"))


def settings_tables(schema: Schema, only: tuple[str, ...] | None = None) -> str:
    """Return a table of each section of a JSON schema."""
    parts = []
    for section, of in sections(schema, schema["$defs"], ""):
        if only is not None and section.split(".")[0].removesuffix("[]") not in only:
            continue
        rows = [
            setting_row(name, field, required=name in of.get("required", ()))
            for name, field in of["properties"].items()
            if not subsection(field, schema["$defs"])
        ]
        if rows := [row for row in rows if row]:
            title = f"### {section}\n\n{of.get('description', '')}" if section else "### top level"
            parts.append("\n".join([title, "", "| setting | values | default | meaning |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)


def sections(schema: Schema, definitions: Schema, prefix: str) -> Iterator[tuple[str, Schema]]:
    """Yield the dotted name and the schema of a section and of all sections inside it."""
    yield prefix, schema
    for name, field in schema["properties"].items():
        choices = field.get("oneOf", [field])  # a value or a section
        if inner := next(filter(None, (subsection(choice, definitions) for choice in choices)), None):
            ending = "[]" if "items" in field else ""
            yield from sections(inner, definitions, f"{prefix}.{name}{ending}".lstrip("."))


def subsection(field: Schema, definitions: Schema) -> Schema | None:
    """Return the schema of a field that is a section, or a list of sections; None for a plain value."""
    reference = field.get("$ref") or field.get("items", {}).get("$ref")
    return definitions[reference.rsplit("/")[-1]] if reference else None


def setting_row(name: str, field: Schema, required: bool) -> str:
    """Return the table row of a setting; an empty string for what only the library sets."""
    meaning = " ".join(field.get("description", "").split())
    if NOT_FOR_USERS in meaning:
        return ""
    default = f"`{json.dumps(field.get('default', []), ensure_ascii=False)}`"
    return table_row(f"`{name}`", values(field), "required" if required else default, meaning)


def table_row(*cells: str) -> str:
    """Return a row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def values(field: Schema) -> str:
    """Return the values that a setting may have, in words."""
    if choices := field.get("anyOf", field.get("oneOf")):
        return " or ".join(dict.fromkeys(values(each) for each in choices))
    if "enum" in field or "const" in field:
        return ", ".join(f"`{json.dumps(value)}`" for value in field.get("enum", [field.get("const")]))
    if "$ref" in field:
        return f"as {field['$ref'].rsplit('/')[-1].lower()}"
    kind = KINDS.get(kind := field.get("type", "any"), kind)
    limits = [text.format(field[key]) for key, text in LIMITS.items() if key in field]
    return " ".join([kind, ", ".join(limits)]).strip()


def fact_sets() -> str:
    """Return a section of each published fact set, as the catalogue and its reader describe it."""
    from tripletcl.data.fact_sets import FACT_SETS

    return "\n\n".join(fact_set_section(name, source) for name, source in FACT_SETS.items())


def fact_set_section(name: str, source: Any) -> str:
    """Return the Markdown of one fact set: its reader's docstring, then the catalogue's entry."""
    rows = {
        "below the root": source.layout,
        "published at": source.address,
        "licence as stated": source.licence,
        "verified against real files": source.verified,
        "a photo without the fact": source.negatives,
        "variants": ", ".join(f"`{variant}`" for variant in source.variants),
    }
    described = re.sub(r"<([^>]+)>", r"&lt;\1&gt;", inspect.getdoc(source.read) or "")
    table = [table_row(title, value) for title, value in rows.items() if value]
    return "\n".join([f"### {name}", "", f"{source.what}.", "", described, "", "| | |", "|---|---|", *table])


def commands() -> str:
    """Return a section of each command: its help, arguments and options."""
    from typer.main import get_command

    from tripletcl.cli.app import app

    return "\n\n".join(command_section(name, command) for name, command in all_commands(get_command(app), "tripletcl"))


def all_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the full name and the object of every command below one, groups left out."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
    for word, each in (inner or {}).items():
        yield from all_commands(each, f"{name} {word}")


def command_section(name: str, command: Any) -> str:
    """Return the Markdown of one command."""
    rows = []
    for parameter in command.params:
        argument = parameter.param_type_name == "argument"
        names = [parameter.name.upper()] if argument else parameter.opts
        help_text = " ".join((getattr(parameter, "help", None) or "").split())
        rows.append(table_row(", ".join(f"`{each}`" for each in names), help_text))
    help_text = command.help or ""
    return "\n".join([f"## {name}", "", help_text, "", "| argument | meaning |", "|---|---|", *rows])


def dependency_licences() -> str:
    """Return the licence that each dependency states in its metadata, in the version installed here."""
    requirements = metadata.requires("tripletcl") or []
    needed = [each for each in requirements if "extra ==" not in each or re.search(rf"extra == .({EXTRAS})\b", each)]
    names = [re.split(r"[^\w.-]", each)[0] for each in needed]
    head = ["| package | version | licence as stated in its metadata |", "|---|---|---|"]
    return "\n".join([*head, *(licence_row(name) for name in names)])


def licence_row(name: str) -> str:
    """Return a package's row: its licence expression, the first line of its licence field, or its classifiers."""
    about = metadata.metadata(name)
    classifiers = [
        each.split(" :: ")[-1] for each in about.get_all("Classifier") or () if each.startswith("License ::")
    ]
    field = (about["License"] or "UNKNOWN").splitlines()[0]
    short = field if field != "UNKNOWN" and len(field) <= LONGEST_LICENCE_NAME else ""
    return table_row(
        name, about["Version"], about["License-Expression"] or ", ".join(classifiers) or short or "not stated"
    )


GENERATED = {
    function.__name__: function
    for function in (fact_settings, object_settings, fact_sets, commands, dependency_licences)
}
