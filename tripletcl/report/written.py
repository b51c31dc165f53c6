"""A comparison as text: of several sequences of tasks the table over all, then that of each."""

from __future__ import annotations

from collections.abc import Sequence

from tripletcl.evaluation.result import RunResult
from tripletcl.report.runs import group_by_sequence
from tripletcl.report.sequences import (
    csv_sequences,
    latex_sequences,
    markdown_sequences,
    sequence_caption,
    sequence_rows,
    sequence_title,
    terminal_sequences,
)
from tripletcl.report.tables import (
    Row,
    comparison_rows,
    csv_table,
    latex_table,
    markdown_table,
    markdown_text,
    table_caption,
    terminal_table,
)

PRINTED_SEQUENCES = 8
"""Of more sequences than this a terminal shows the table over all alone."""


def written_tables(results: Sequence[RunResult]) -> dict[str, str]:
    """The comparison as Markdown, CSV and LaTeX, by the file's name; each sequence of several has a CSV of its own.

    Raises:
        UserError: runs that cannot stand in one table.
    """
    by_title = _rows_by_title(results)
    if len(by_title) == 1:
        (rows,) = by_title.values()
        return {"table.md": markdown_table(rows), "table.csv": csv_table(rows), "table.tex": latex_table(rows)}
    whole = sequence_rows(results)
    parts = [f"## {markdown_text(title)}\n\n{markdown_table(rows)}" for title, rows in by_title.items()]
    tables = [latex_table(rows, f"tab:comparison-{number}") for number, rows in enumerate(by_title.values(), 1)]
    return {
        "table.md": "\n".join([markdown_sequences(whole), *parts]),
        "table.csv": csv_sequences(whole),
        "table.tex": "\n".join([latex_sequences(whole), *tables]),
        **{f"table-{number}.csv": csv_table(rows) for number, rows in enumerate(by_title.values(), 1)},
    }


def print_tables(results: Sequence[RunResult]) -> None:
    """The comparison on the terminal, and below the tables what their numbers are."""
    from rich.console import Console

    console = Console()
    by_title = _rows_by_title(results)
    captions: list[str] = []
    if len(by_title) > 1:
        whole = sequence_rows(results)
        console.print(terminal_sequences(whole, width=console.width))
        print(f"{sequence_caption(whole)}\n")
    for title, rows in by_title.items() if len(by_title) <= PRINTED_SEQUENCES else ():
        console.print(terminal_table(rows, title if len(by_title) > 1 else None, console.width))
        captions.append(table_caption(rows))
    print(*dict.fromkeys(captions), sep="\n")


def _rows_by_title(results: Sequence[RunResult]) -> dict[str, list[Row]]:
    return {sequence_title(tasks): comparison_rows(runs) for tasks, runs in group_by_sequence(results).items()}
