"""Tables, plots and the HTML page of a comparison; matplotlib is loaded when the first picture is drawn."""

from tripletcl.report.page import ExampleHit, ExampleQuery, write_report
from tripletcl.report.properties import TITLES as PROPERTY_TITLES
from tripletcl.report.properties import Promises, described_methods, promises_of, properties_markdown
from tripletcl.report.tables import (
    comparison_rows,
    csv_table,
    latex_table,
    markdown_table,
    table_caption,
    terminal_table,
)
from tripletcl.report.written import print_tables, written_tables

__all__ = [
    "PROPERTY_TITLES",
    "ExampleHit",
    "ExampleQuery",
    "Promises",
    "comparison_rows",
    "csv_table",
    "described_methods",
    "latex_table",
    "markdown_table",
    "print_tables",
    "promises_of",
    "properties_markdown",
    "table_caption",
    "terminal_table",
    "write_report",
    "written_tables",
]
