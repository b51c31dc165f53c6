"""A comparison as tables; of several sequences of tasks the table over all, then that of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tripletcl.evaluation.result import RunResult
from tripletcl.report.comparison import Row, comparison_rows, comparison_table, exact_comparison
from tripletcl.report.grouping import arrows, group_by_sequence
from tripletcl.report.sequences import exact_sequences, sequence_rows, sequence_table
from tripletcl.report.table import Cell, Column, Table, csv_table, latex_table, markdown_table, terminal_table

PRINTED_SEQUENCES = 8
"""Of more sequences than this a terminal shows only the table over all."""


def written_tables(results: Sequence[RunResult], failed: Mapping[str, str] | None = None) -> dict[str, str]:
    """The comparison as Markdown, CSV and LaTeX, by the file's name; each sequence of several has a CSV of its own.

    Args:
        results: Of the finished runs.
        failed: The reason of each run that failed, by its name; in Markdown they are a table of their own.

    Raises:
        UserError: runs that cannot be in one table.
    """
    by_title = _rows_by_title(results)
    tables = [comparison_table(rows, title=title) for title, rows in by_title.items()]
    exact = [exact_comparison(rows) for rows in by_title.values()]
    if len(tables) > 1:
        whole = sequence_rows(results)
        tables, exact = [sequence_table(whole), *tables], [exact_sequences(whole), *exact]
    latex = [latex_table(table, f"tab:comparison{_end(number)}") for number, table in enumerate(tables)]
    return {
        "table.md": "\n".join(map(markdown_table, [*tables, *([failed_table(failed)] if failed else [])])),
        "table.tex": "\n".join(latex),
        **{f"table{_end(number)}.csv": csv_table(table) for number, table in enumerate(exact)},
    }


def failed_table(failed: Mapping[str, str]) -> Table:
    """The runs that failed, and why."""
    rows = [[Cell(name), Cell(reason or "see its output")] for name, reason in failed.items()]
    return Table([Column("failed run", align="left"), Column("reason", align="left")], rows)


def _end(number: int) -> str:
    return f"-{number}" if number else ""


def print_tables(results: Sequence[RunResult]) -> None:
    """Print the comparison to the terminal, and below the tables what their numbers are."""
    from rich.console import Console

    console = Console()
    by_title = _rows_by_title(results)
    if len(by_title) > 1:
        whole = sequence_table(sequence_rows(results))
        console.print(terminal_table(whole, console.width))
        print(f"{whole.caption}\n")
    tables = [comparison_table(rows, title=title) for title, rows in by_title.items()]
    if len(tables) > PRINTED_SEQUENCES:
        return
    for table in tables:
        console.print(terminal_table(table, console.width))
    print(*dict.fromkeys(table.caption for table in tables), sep="\n")


def _rows_by_title(results: Sequence[RunResult]) -> dict[str, list[Row]]:
    """The rows of each sequence's table by the sequence; a single one needs no title."""
    groups = group_by_sequence(results)
    return {arrows(tasks) if len(groups) > 1 else "": comparison_rows(runs) for tasks, runs in groups.items()}
