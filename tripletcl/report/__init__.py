"""Tables, figures and the HTML page of a comparison; a name is imported on first use, as its pages need much else."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tripletcl.report.comparison import comparison_rows, comparison_table
    from tripletcl.report.page import ExampleHit, ExampleQuery, write_report
    from tripletcl.report.properties import (
        PROPERTY_TITLES,
        MethodProperties,
        described_methods,
        properties_of,
        properties_table,
    )
    from tripletcl.report.table import Cell, Column, Table, csv_table, latex_table, markdown_table, terminal_table
    from tripletcl.report.tables import print_tables, written_tables

__all__ = [
    "PROPERTY_TITLES",
    "Cell",
    "Column",
    "ExampleHit",
    "ExampleQuery",
    "MethodProperties",
    "Table",
    "comparison_rows",
    "comparison_table",
    "csv_table",
    "described_methods",
    "latex_table",
    "markdown_table",
    "print_tables",
    "properties_of",
    "properties_table",
    "terminal_table",
    "write_report",
    "written_tables",
]

_HOMES = {
    "Cell": "table",
    "Column": "table",
    "ExampleHit": "page",
    "ExampleQuery": "page",
    "MethodProperties": "properties",
    "PROPERTY_TITLES": "properties",
    "Table": "table",
    "comparison_rows": "comparison",
    "comparison_table": "comparison",
    "csv_table": "table",
    "described_methods": "properties",
    "latex_table": "table",
    "markdown_table": "table",
    "print_tables": "tables",
    "properties_of": "properties",
    "properties_table": "properties",
    "terminal_table": "table",
    "write_report": "page",
    "written_tables": "tables",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
