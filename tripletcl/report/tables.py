"""The comparison table: one row a method, printed to the terminal, Markdown, CSV or LaTeX."""

from __future__ import annotations

import csv
import io
import re
import statistics
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tripletcl.evaluation.result import MethodSummary, RunResult, Spread, summarise
from tripletcl.report.formatting import (
    MINUS,
    MISSING,
    counted,
    method_label,
    shortened,
)
from tripletcl.report.metric import METRICS, Column, Metric
from tripletcl.report.runs import CONTROLS, group_by_method, task_names

if TYPE_CHECKING:
    from rich.table import Table

Row = dict[str, Any]

NARROW_TERMINAL = 80
"""Characters of a terminal that says nothing of its width."""

NAME_WIDTH = 20
"""Characters of a method's name in a terminal."""


@dataclass(frozen=True)
class Cell:
    """A printed number: its mean, its standard deviation (empty where there is none), and is it the column's best?"""

    mean: str
    std: str = ""
    best: bool = False


def comparison_rows(results: Sequence[RunResult]) -> list[Row]:
    """One row a method: finetune first, joint last, the others in the order given.

    Args:
        results: The runs; several of a method (seeds, splits) give a mean and a sample standard deviation.

    Returns:
        Dicts with `method`, `runs` (how many), `metric` (as in `RunResult`), `tasks` (task name to `Spread`; the score
        on the task's own test images at the last stage) and a `Spread` or None for `mean` (over the tasks), `overall`
        (all facts, all test images; or the average accuracy), `map_open`, `map_subset`, `drop`, `forgetting`,
        `backward_transfer`, `new_tasks`, `recall@5`, `mrr`, `gap_closed`, `seconds` and `method_bytes` (at the last
        stage); and `lams`, the weights chosen, see `chosen_lams`. A run's gap is closed between finetune and joint of
        the same split and seed, its new tasks are held against that finetune.

    Raises:
        UserError: no runs, a run given twice, or runs of different numbers of tasks or metrics.
    """
    groups = group_by_method(results)
    names = task_names(results)
    summaries = {summary.method: summary for summary in summarise(results)}
    return [_row(summaries[method], group, names) for method, group in groups.items()]


def _row(summary: MethodSummary, group: list[RunResult], names: list[str]) -> Row:
    return {
        "method": summary.method,
        "runs": summary.runs,
        "metric": group[0].metric,
        "tasks": {name: Spread.of([run.scores[task] for run in group]) for task, name in enumerate(names)},
        "mean": summary.mean_score,
        "overall": summary.overall,
        "map_open": Spread.of([_last(run.map_open) for run in group]),
        "map_subset": Spread.of([_last(run.map_subset) for run in group]),
        "drop": summary.drop,
        "forgetting": summary.forgetting,
        "backward_transfer": summary.backward_transfer,
        "new_tasks": summary.new_tasks,
        "recall@5": summary.recall.get("5"),
        "mrr": summary.mrr,
        "gap_closed": summary.gap_closed,
        "seconds": summary.seconds,
        "method_bytes": Spread.of([_last(run.method_bytes) for run in group]),
        "lams": chosen_lams(group),
    }


def _last(stages: Sequence[float | None]) -> float | None:
    return stages[-1] if stages else None


def chosen_lams(group: Sequence[RunResult]) -> list[float]:
    """The weights that were chosen automatically: of a single run task by task, of several the median of each."""
    runs = [[lam for lam in run.lams if lam is not None] for run in group]
    return runs[0] if len(runs) == 1 else [statistics.median(lams) for lams in runs if lams]


def table_caption(rows: Sequence[Row]) -> str:
    """What the table's numbers are: which gallery, which normaliser, which spread."""
    runs = {row["runs"] for row in rows}
    spread_over = counted(runs.pop(), "run") if len(runs) == 1 else f"{min(runs)} to {max(runs)} runs"
    metric = _metric(rows)
    sentences = [
        *metric.caption,
        *[sentence for key, sentence in metric.notes.items() if any(row[key] for row in rows)],
        "One run a method." if spread_over == "one run" else f"± is the standard deviation over {spread_over}.",
    ]
    if _contestants(rows):
        sentences.append("Bold: the best mean of the methods that learn in sequence.")
    return " ".join(sentences)


def _metric(rows: Sequence[Row]) -> Metric:
    return METRICS[rows[0]["metric"]]


def table_cells(
    rows: Sequence[Row], without: Collection[str] = (), short: bool = False
) -> tuple[list[str], list[list[Cell]]]:
    """Titles and printed cells of every column after the method's name, without those of the keys given."""
    titles: list[str] = []
    columns: list[list[Cell]] = []
    for column, values in _columns(rows, without):
        best = _best(rows, column, values)
        titles.append(column.short if short else column.title)
        columns.append([_cell(column, value, index in best) for index, value in enumerate(values)])
    if any(row["lams"] for row in rows) and "lams" not in without:
        titles.append("lam" if short else "chosen lam")
        columns.append([Cell(_lams_text(row["lams"])) for row in rows])
    if len({row["runs"] for row in rows}) > 1 and "runs" not in without:
        titles.append("runs")
        columns.append([Cell(str(row["runs"])) for row in rows])
    return titles, [list(line) for line in zip(*columns, strict=True)]


def _columns(rows: Sequence[Row], without: Collection[str]) -> Iterator[tuple[Column, list[Spread | None]]]:
    metric = _metric(rows)
    for name in rows[0]["tasks"] if "tasks" not in without else ():
        yield Column(name, name, metric.text, metric.text), [row["tasks"][name] for row in rows]
    for key, column in metric.columns.items():
        if key not in without and (column.always or any(row[key] for row in rows)):
            yield column, [row[key] for row in rows]


def _lams_text(lams: Sequence[float]) -> str:
    """`3`, where all are the same, or `3, 6, 1.5`."""
    texts = [f"{lam:.3g}" for lam in lams]
    return ", ".join(texts if len(set(texts)) > 1 else texts[:1]) or MISSING


def _cell(column: Column, value: Spread | None, best: bool) -> Cell:
    if value is None:
        return Cell(MISSING)
    text = column.text(value.mean)
    std = column.std(value.std) if value.std is not None and column.std else ""
    return Cell(text, std, best)


def _contestants(rows: Sequence[Row]) -> list[int]:
    """Rows that compete for the best value: the controls do not, and one alone has nobody to beat."""
    found = [index for index, row in enumerate(rows) if row["method"] not in CONTROLS]
    return found if len(found) > 1 else []


def _best(rows: Sequence[Row], column: Column, values: Sequence[Spread | None]) -> set[int]:
    """The rows with a column's best mean; those that look equal as printed are marked together."""
    means = {index: value.mean for index in _contestants(rows) if (value := values[index]) is not None}
    if not column.better or not means:
        return set()
    best = column.text(max(means.values(), key=lambda mean: column.better * mean))
    return {index for index, mean in means.items() if column.text(mean) == best}


def terminal_table(rows: Sequence[Row], title: str | None = None, width: int = NARROW_TERMINAL) -> Table:
    """The table for a terminal, standard deviations below the means; print `table_caption` below it.

    A table wider than the terminal goes without some columns and says without which.
    """
    from rich.text import Text

    expendable = _metric(rows).expendable
    for count in range(len(expendable) + 1):
        table = _rich_table(rows, expendable[:count])
        if sum(column.width or 0 for column in table.columns) + len(table.columns) - 1 <= width:
            break
    shown = table_cells(rows, expendable[:count])[0]
    table.title = title
    if left_out := [name for name in table_cells(rows)[0] if name not in shown]:
        table.caption = Text(f"for lack of width without {', '.join(left_out)}", justify="left")
    return table


def _rich_table(rows: Sequence[Row], without: Collection[str]) -> Table:
    """Columns as wide as their widest cell, so that nothing but a title of several words is broken."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    titles, lines = table_cells(rows, without, short=True)
    names = [shortened(method_label(row["method"]), NAME_WIDTH) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("method", width=max(map(len, ["method", *names])))
    for title, column in zip(titles, zip(*lines, strict=True), strict=True):
        needed = [len(cell.mean) for cell in column] + [len(cell.std) + 1 for cell in column]
        table.add_column(Text(title), justify="right", width=max(*needed, *map(len, title.split())))
    for name, line in zip(names, lines, strict=True):
        cells = [Text(cell.mean, style="bold" if cell.best else "") for cell in line]
        for text, cell in zip(cells, line, strict=True):
            text.append(f"\n±{cell.std}" if cell.std else "", style="not bold dim")
        table.add_row(Text(name), *cells)
    return table


def markdown_table(rows: Sequence[Row]) -> str:
    """The table as GitHub-flavoured Markdown, its caption below it."""
    titles, lines = table_cells(rows)
    header = ["method", *(markdown_text(title) for title in titles)]
    body = [
        [markdown_text(method_label(row["method"])), *(markdown_cell(cell) for cell in line)]
        for row, line in zip(rows, lines, strict=True)
    ]
    rule = ["---", *["---:"] * len(titles)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *body])
    return f"{table}\n\n{table_caption(rows)}\n"


def markdown_text(text: str) -> str:
    """The text with every character escaped that Markdown would take for its own."""
    return re.sub(r"([\\`*_{}\[\]<>&|#~$])", r"\\\1", " ".join(text.split()))


def markdown_cell(cell: Cell) -> str:
    """`**.445** ± .012`."""
    number = f"**{cell.mean}**" if cell.best else cell.mean
    return f"{number} ± {cell.std}" if cell.std else number


def csv_table(rows: Sequence[Row]) -> str:
    """The table as CSV in full precision: a column for each mean and each standard deviation, empty where undefined."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(_numbers(rows[0]))
    writer.writerow(["method", "runs", "lams", *(title for name in names for title in (name, f"{name} std"))])
    for row in rows:
        numbers = _numbers(row).values()
        values = [value for number in numbers for value in ((number.mean, number.std) if number else (None, None))]
        writer.writerow([row["method"], row["runs"], " ".join(map(str, row["lams"])), *values])
    return text.getvalue()


def _numbers(row: Row) -> dict[str, Spread | None]:
    metric = METRICS[row["metric"]]
    tasks = {f"{metric.csv_task} {name}": value for name, value in row["tasks"].items()}
    return tasks | {column.csv or key: row[key] for key, column in metric.columns.items()}


def latex_table(rows: Sequence[Row], label: str = "tab:comparison") -> str:
    """The table as a LaTeX `table` environment (package booktabs), everything escaped."""
    titles, lines = table_cells(rows)
    body = [
        [latex_text(method_label(row["method"])), *map(latex_cell, line)] for row, line in zip(rows, lines, strict=True)
    ]
    return latex_environment(["method", *map(latex_text, titles)], body, table_caption(rows), label)


def latex_environment(header: Sequence[str], body: Sequence[Sequence[str]], caption: str, label: str) -> str:
    """A `table` of cells that are LaTeX already, the first column to the left; the caption is escaped."""
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{latex_text(caption)}}}",
            rf"  \label{{{label}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"    \toprule",
            rf"    {' & '.join(header)} \\",
            r"    \midrule",
            *(rf"    {' & '.join(line)} \\" for line in body),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


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
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def latex_text(text: str) -> str:
    """The text with every character escaped that LaTeX would take for its own."""
    return "".join(LATEX.get(character, character) for character in " ".join(text.split()))


def latex_cell(cell: Cell) -> str:
    """`\\textbf{.445} $\\pm$ .012`."""
    number = rf"\textbf{{{latex_text(cell.mean)}}}" if cell.best else latex_text(cell.mean)
    return rf"{number} $\pm$ {latex_text(cell.std)}" if cell.std else number
