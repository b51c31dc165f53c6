"""The comparison of methods on one sequence of tasks: one row a method."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tripletcl.evaluation.result import RunResult, Spread, summarise
from tripletcl.report.formatting import MISSING, counted, method_label
from tripletcl.report.grouping import CONTROLS, group_by_method, task_names
from tripletcl.report.metric import METRICS, Measure, Metric
from tripletcl.report.table import Cell, Column, Table

Row = dict[str, Any]


def comparison_rows(results: Sequence[RunResult]) -> list[Row]:
    """One row a method: finetune first, joint last, the others in the order given.

    Args:
        results: The runs; several of a method (seeds, splits) give a mean and a sample standard deviation.

    Returns:
        Dicts with `method`, the number of `runs`, the `MEASURES` of `tripletcl.evaluation.result` by their names,
        `metric` (as in `RunResult`), `tasks` (task name to `Spread`; the score on the task's own test images at the
        last stage), and `lams`, the weights chosen, see `chosen_lams`.

    Raises:
        UserError: no runs, a run given twice, or runs of different numbers of tasks or metrics.
    """
    groups, names = group_by_method(results), task_names(results)
    summaries = summarise(results)
    return [
        {
            "method": method,
            "runs": len(group),
            **summaries[method],
            "metric": group[0].metric,
            "tasks": {name: Spread.of([run.scores[task] for run in group]) for task, name in enumerate(names)},
            "lams": chosen_lams(group),
        }
        for method, group in groups.items()
    ]


def chosen_lams(group: Sequence[RunResult]) -> list[float]:
    """The weights that were chosen automatically: of a single run task by task, of several the median of each."""
    runs = [[lam for lam in run.lams if lam is not None] for run in group]
    return runs[0] if len(runs) == 1 else [statistics.median(lams) for lams in runs if lams]


def comparison_table(rows: Sequence[Row], tasks: bool = True, title: str = "") -> Table:
    """The table to read: rounded numbers, the best in bold; columns that no run has a number for are left out.

    Args:
        rows: Those of `comparison_rows`.
        tasks: Whether it has a column for each task.
        title: Printed above it.
    """
    columns = [Column("method", align="left")]
    cells = [[Cell(method_label(row["method"])) for row in rows]]
    order = list(_metric(rows).expendable)
    for key, full, short, column in _columns(rows):
        if tasks or key != "tasks":
            columns.append(Column(full, short, dropped=order.index(key) if key in order else None))
            cells.append(column)
    return Table(columns, list(zip(*cells, strict=True)), _caption(rows), title)


def _metric(rows: Sequence[Row]) -> Metric:
    return METRICS[rows[0]["metric"]]


def _columns(rows: Sequence[Row]) -> Iterator[tuple[str, str, str, list[Cell]]]:
    """Key, title, short title and cells of each column after the method's name."""
    metric, methods = _metric(rows), [row["method"] for row in rows]
    for name in rows[0]["tasks"]:
        score = Measure(name, name, metric.text, metric.text)
        yield "tasks", name, name, number_cells(methods, [row["tasks"][name] for row in rows], score)
    for key, measure in metric.measures.items():
        if measure.always or any(row[key] for row in rows):
            yield key, measure.title, measure.short, number_cells(methods, [row[key] for row in rows], measure)
    if any(row["lams"] for row in rows):
        yield "lams", "chosen lam", "lam", [Cell(_lams_text(row["lams"])) for row in rows]
    if len({row["runs"] for row in rows}) > 1:
        yield "runs", "runs", "runs", [Cell(str(row["runs"])) for row in rows]


def number_cells(methods: Sequence[str], values: Sequence[Spread | None], measure: Measure) -> list[Cell]:
    """The cells of a column; of two or more methods that compete the best means, equal as printed, are marked."""
    texts = [measure.text(value.mean if value else None) for value in values]
    stds = [measure.std(value.std) if measure.std and value and value.std is not None else "" for value in values]
    known = {i: value.mean for i, value in enumerate(values) if value and methods[i] in contestants(methods)}
    compete = len(known) > 1 and measure.better
    best = texts[max(known, key=lambda i: measure.better * known[i])] if compete else None
    return [Cell(text, std, i in known and text == best) for i, (text, std) in enumerate(zip(texts, stds, strict=True))]


def contestants(methods: Sequence[str]) -> list[str]:
    """The methods that compete for the best value: the controls do not."""
    return [method for method in methods if method not in CONTROLS]


def _lams_text(lams: Sequence[float]) -> str:
    """`3` where all are the same, or `3, 6, 1.5`."""
    texts = [f"{lam:.3g}" for lam in lams]
    return ", ".join(texts if len(set(texts)) > 1 else texts[:1]) or MISSING


def _caption(rows: Sequence[Row]) -> str:
    """The meaning of the numbers: which gallery, which normaliser, which spread."""
    metric, runs = _metric(rows), {row["runs"] for row in rows}
    sentences = [
        *metric.caption,
        *(sentence for key, sentence in metric.notes.items() if any(row[key] for row in rows)),
        "One run a method." if runs == {1} else spread_sentence(runs),
    ]
    if len(contestants([row["method"] for row in rows])) > 1:
        sentences.append("Bold: the best mean of the methods that learn in sequence.")
    return " ".join(sentences)


def spread_sentence(runs: set[int]) -> str:
    """The sentence on standard deviations over these numbers of runs."""
    over = counted(min(runs), "run") if len(runs) == 1 else f"{min(runs)} to {max(runs)} runs"
    return f"± is the standard deviation over {over}."


def exact_comparison(rows: Sequence[Row]) -> Table:
    """The table for CSV: full precision, a column for each mean and each deviation, empty where undefined."""
    columns = list(_exact_numbers(rows[0]))
    titles = ["method", "runs", "lams", *(name for title in columns for name in (title, f"{title} std"))]
    cells = [
        [row["method"], str(row["runs"]), " ".join(map(str, row["lams"])), *exact_texts(_exact_numbers(row).values())]
        for row in rows
    ]
    return Table([Column(title) for title in titles], [list(map(Cell, line)) for line in cells])


def _exact_numbers(row: Row) -> dict[str, Spread | None]:
    metric = METRICS[row["metric"]]
    tasks = {f"{metric.csv_task} {name}": value for name, value in row["tasks"].items()}
    return tasks | {measure.csv or key: row[key] for key, measure in metric.measures.items()}


def exact_texts(values: Iterable[Spread | None]) -> list[str]:
    """Mean and deviation of each value in full precision; empty where there is none."""
    numbers = [number for value in values for number in ((value.mean, value.std) if value else (None, None))]
    return ["" if number is None else str(number) for number in numbers]
