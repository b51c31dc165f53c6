"""Tables, figures and the HTML page of a comparison; matplotlib is imported when the first figure is drawn."""

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
