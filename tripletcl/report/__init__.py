"""Tables, plots and the HTML page of a comparison; matplotlib is loaded when the first picture is drawn."""

from tripletcl.report.page import ExampleHit, ExampleQuery, write_report
from tripletcl.report.tables import (
    comparison_rows,
    csv_table,
    latex_table,
    markdown_table,
    table_caption,
    terminal_table,
)

__all__ = [
    "ExampleHit",
    "ExampleQuery",
    "comparison_rows",
    "csv_table",
    "latex_table",
    "markdown_table",
    "table_caption",
    "terminal_table",
    "write_report",
]
