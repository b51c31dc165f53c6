"""One table, and its writers: Markdown, CSV, LaTeX and the terminal; HTML is the macro `table` of the templates."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tripletcl.errors import printable
from tripletcl.report.formatting import MINUS, MISSING, shortened

if TYPE_CHECKING:
    from rich.table import Table as RichTable
    from rich.text import Text

NARROW_TERMINAL = 80
"""Characters of a terminal that reports no width."""

NAME_WIDTH = 20
"""Most characters of the first column in a terminal."""

Align = Literal["left", "center", "right"]


@dataclass(frozen=True)
class Cell:
    """A value of a table.

    Attributes:
        text: The value as printed.
        std: Its standard deviation as printed; empty where there is none.
        best: True for the best value of a column, which is set in bold.
        change: A second value, printed in brackets after the first.
    """

    text: str
    std: str = ""
    best: bool = False
    change: Cell | None = None

    def written(self, write: Callable[[Cell], str]) -> str:
        """`87.3 (−1.2)`, each of the two values as `write` writes it."""
        return write(self) + (f" ({write(self.change)})" if self.change else "")

    @property
    def plain(self) -> str:
        """The text of both values, without deviations."""
        return self.written(lambda cell: cell.text)

    @property
    def spread(self) -> str:
        """The deviations: `±.4 (±.3)`; empty where there are none."""
        return self.written(lambda cell: f"±{cell.std}" if cell.std else MISSING) if self.std else ""


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        title: Its title.
        short: A shorter title for the terminal; the title where empty.
        align: Where its text stands.
        dropped: Columns with the lowest number are the first that a narrow terminal goes without; None: always there.
    """

    title: str
    short: str = ""
    align: Align = "right"
    dropped: int | None = None


@dataclass(frozen=True)
class Table:
    """Columns and rows of cells; the first column names the rows.

    Attributes:
        columns: One for each cell of a row.
        rows: The cells.
        caption: What the values are, printed below the table.
        title: Printed above the table.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    title: str = ""

    @property
    def titles(self) -> list[str]:
        """The columns' titles."""
        return [column.title for column in self.columns]


# --- Markdown ---


def markdown_table(table: Table) -> str:
    """The table as GitHub-flavoured Markdown, its title above and its caption below it."""
    rules = {"left": "---", "center": ":---:", "right": "---:"}
    header = [markdown_text(title) for title in table.titles]
    body = [[cell.written(_markdown_value) for cell in row] for row in table.rows]
    lines = [header, [rules[column.align] for column in table.columns], *body]
    text = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    title = f"## {markdown_text(table.title)}\n\n" if table.title else ""
    return f"{title}{text}\n{table.caption}\n"


def _markdown_value(cell: Cell) -> str:
    """`**.445** ± .012`."""
    text = markdown_text(cell.text)
    return (f"**{text}**" if cell.best else text) + (f" ± {cell.std}" if cell.std else "")


def markdown_text(text: str) -> str:
    """The text with every character escaped that Markdown interprets."""
    return re.sub(r"([\\`*_{}\[\]<>&|#~$])", r"\\\1", " ".join(text.split()))


# --- CSV ---


def csv_table(table: Table) -> str:
    """The titles and the texts of the cells; means and deviations that CSV is to have are columns of their own."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [table.titles, *([cell.text for cell in row] for row in table.rows)]
    )
    return text.getvalue()


# --- LaTeX ---

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    MISSING: "--",
    MINUS: "$-$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "✓": r"$\checkmark$",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex_table(table: Table, label: str) -> str:
    """The table as a LaTeX `table` environment (package booktabs), everything escaped."""
    lines = [map(latex_text, table.titles), *([cell.written(_latex_value) for cell in row] for row in table.rows)]
    header, *body = [rf"    {' & '.join(line)} \\" for line in lines]
    begin = [r"\begin{table}", r"  \centering", rf"  \caption{{{latex_text(table.caption)}}}", rf"  \label{{{label}}}"]
    tabular = rf"  \begin{{tabular}}{{{''.join(column.align[0] for column in table.columns)}}}"
    end = [r"    \bottomrule", r"  \end{tabular}", r"\end{table}", ""]
    return "\n".join([*begin, tabular, r"    \toprule", header, r"    \midrule", *body, *end])


def _latex_value(cell: Cell) -> str:
    r"""`\textbf{.445} $\pm$ .012`."""
    text = rf"\textbf{{{latex_text(cell.text)}}}" if cell.best else latex_text(cell.text)
    return text + (rf" $\pm$ {latex_text(cell.std)}" if cell.std else "")


def latex_text(text: str) -> str:
    """The text with every character escaped that LaTeX interprets."""
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))


# --- the terminal ---


def terminal_table(table: Table, width: int = NARROW_TERMINAL) -> RichTable:
    """The table for a terminal, deviations below the means, without its caption.

    A table wider than the terminal goes without some columns and names them.
    """
    from rich.text import Text

    order = sorted({column.dropped for column in table.columns if column.dropped is not None})
    for count in range(len(order) + 1):
        kept = [i for i, column in enumerate(table.columns) if column.dropped not in order[:count]]
        printed = _rich_table(table, kept)
        if sum(column.width or 0 for column in printed.columns) + len(kept) - 1 <= width:
            break
    printed.title = table.title or None
    if missing := [column.title for i, column in enumerate(table.columns) if i not in kept]:
        printed.caption = Text(f"for lack of width without {', '.join(missing)}", justify="left")
    return printed


def _rich_table(table: Table, columns: Sequence[int]) -> RichTable:
    """Columns as wide as their widest cell, so that only a title of several words is broken."""
    from rich import box
    from rich import table as rich_table
    from rich.text import Text

    names = (shortened(printable(row[0].text, kept=""), NAME_WIDTH) for row in table.rows)
    rows = [[replace(row[0], text=name), *row[1:]] for name, row in zip(names, table.rows, strict=True)]
    printed = rich_table.Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    for index in columns:
        column = table.columns[index]
        title = printable(column.short or column.title, kept="")
        texts = [text for row in rows for text in (row[index].plain, row[index].spread)]
        printed.add_column(Text(title), justify=column.align, width=max(map(len, [*title.split(), *texts])))
    for row in rows:
        printed.add_row(*(_rich_cell(row[index]) for index in columns))
    return printed


def _rich_cell(cell: Cell) -> Text:
    from rich.text import Text

    parts = [(cell.text, "bold" if cell.best else "")]
    if cell.change:
        parts += [(" (", ""), (cell.change.text, "bold" if cell.change.best else ""), (")", "")]
    return Text.assemble(*parts, (f"\n{cell.spread}" if cell.spread else "", "dim"))
