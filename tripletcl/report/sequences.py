"""The table over several sequences (Aljundi et al., ECCV 2018, table 2): a row a method, a column a sequence."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tripletcl.errors import UserError
from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, MetricName, RunResult, Spread
from tripletcl.report.drawing import method_styles
from tripletcl.report.formatting import MISSING, counted, fraction, method_label, percent, shortened
from tripletcl.report.metric import METRICS
from tripletcl.report.runs import CONTROLS
from tripletcl.report.tables import (
    NAME_WIDTH,
    NARROW_TERMINAL,
    Cell,
    latex_cell,
    latex_environment,
    latex_text,
    markdown_cell,
    markdown_text,
)

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

DROP = "Mean drop: what the brackets lose on average over the sequences."
AGAINST = "Against finetune: the last task's score minus finetune's, on average over the sequences."
JOINT = "Joint training learns all tasks at once, so it has no brackets."
NOT_RUN = f"{MISSING}: not run, or not on every sequence."
BOLD = "Bold: the best means of the methods that learn in sequence, of the last task and of the brackets each."

MEASURES = ("newest", "change", "average")
"""The numbers of an `Outcome`."""

DENSE_SEQUENCES = 5
"""A page's table of more sequences than this is set smaller."""

Tasks = tuple[str, ...]
"""The names of a sequence's tasks in the order learned: what tells sequences apart."""


@dataclass(frozen=True)
class Outcome:
    """How a method ends on one sequence, fractions in [0, 1], over its runs.

    Attributes:
        newest: The score of the task learned last, after it.
        change: Mean over the earlier tasks of R[T, i] - R[i, i], the score after the last task minus the score just
            after the task was learned; negative where it was forgotten. None for joint training and for a single task.
        average: The mean score of all tasks at the end.
        runs: How many runs.
    """

    newest: Spread | None
    change: Spread | None
    average: Spread | None
    runs: int


@dataclass(frozen=True)
class SequenceRow:
    """A method on every sequence of the table; a sequence that it was not run on has no outcome.

    Attributes:
        method: The method's name.
        metric: What the scores are.
        outcomes: Sequence to outcome; all rows have the same sequences in the same order.
        mean_drop: The mean over sequences of what the earlier tasks lost, lower is better; None where the method was
            not run on all: sequences differ in how much they make forget.
        against_finetune: The mean over sequences of the newest task's score minus finetune's, higher is better: what
            remembering costs; None for finetune, and where a sequence lacks either.
    """

    method: str
    metric: MetricName
    outcomes: dict[Tasks, Outcome | None]
    mean_drop: float | None
    against_finetune: float | None


def sequence_rows(runs: Sequence[RunResult]) -> list[SequenceRow]:
    """One row a method: finetune first, joint last, the others in the order given.

    Args:
        runs: Those of the same method and the same tasks are averaged, over seeds and splits.

    Raises:
        UserError: no runs, a run given twice, or runs of different metrics.
    """
    _check(runs)
    by_cell: dict[tuple[str, Tasks], list[RunResult]] = {}
    for run in runs:
        by_cell.setdefault((run.method, tuple(run.tasks)), []).append(run)
    outcomes = {cell: _outcome(group) for cell, group in by_cell.items()}
    sequences = list(dict.fromkeys(tasks for _, tasks in outcomes))
    plain = {tasks: outcomes.get((LOWER_BOUND, tasks)) for tasks in sequences}
    methods = sorted(dict.fromkeys(method for method, _ in outcomes), key=_rank)
    return [
        _row(method, runs[0].metric, {tasks: outcomes.get((method, tasks)) for tasks in sequences}, plain)
        for method in methods
    ]


def _check(runs: Sequence[RunResult]) -> None:
    if not runs:
        raise UserError("a table of sequences needs at least one run, and none was given")
    if len(metrics := {run.metric for run in runs}) > 1:
        raise UserError(f"runs measured in {' and in '.join(sorted(metrics))} cannot stand in one table")
    seen: set[tuple[str, int, str, Tasks]] = set()
    for run in runs:
        key = (run.method, run.seed, run.split, tuple(run.tasks))
        if key in seen:
            raise UserError(f"two results of method {key[0]}, seed {key[1]}, split {key[2]}; each may count only once")
        seen.add(key)


def _rank(method: str) -> int:
    return {LOWER_BOUND: 0, UPPER_BOUND: 2}.get(method, 1)


def _outcome(group: Sequence[RunResult]) -> Outcome:
    return Outcome(
        newest=Spread.of([run.scores[-1] for run in group]),
        change=Spread.of([run.backward_transfer for run in group]) if group[0].in_sequence else None,
        average=Spread.of([run.mean_score for run in group]),
        runs=len(group),
    )


def _row(
    method: str, metric: MetricName, outcomes: dict[Tasks, Outcome | None], plain: dict[Tasks, Outcome | None]
) -> SequenceRow:
    changes = [found.change.mean if found and found.change else None for found in outcomes.values()]
    gains = [_gain(found, plain[tasks]) for tasks, found in outcomes.items()]
    change = _mean_of_all(changes)
    return SequenceRow(
        method,
        metric,
        outcomes,
        mean_drop=None if change is None else -change,
        against_finetune=None if method == LOWER_BOUND else _mean_of_all(gains),
    )


def _gain(found: Outcome | None, plain: Outcome | None) -> float | None:
    """How much better a method learned the newest task than finetune."""
    if not found or not plain or not found.newest or not plain.newest:
        return None
    return found.newest.mean - plain.newest.mean


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def brief(metric: str, value: float | None, sign: bool = False) -> str:
    """A score, or a difference of scores, to a tenth of a point: `87.3`; MAP as a fraction, `.873`."""
    return percent(value, 1, sign) if metric == "accuracy" else fraction(value, 3, sign)


def sequence_title(tasks: Tasks) -> str:
    """`flowers → scenes`."""
    return " \N{RIGHTWARDS ARROW} ".join(tasks)


def one_sequence(runs: Sequence[RunResult]) -> None:
    """Refuse runs that a mean must not be taken over.

    Raises:
        UserError: their tasks differ, or the order of them.
    """
    if len(sequences := dict.fromkeys(sequence_title(tuple(run.tasks)) for run in runs)) > 1:
        raise UserError(f"runs of different sequences cannot stand in one picture: {'; '.join(sequences)}")


def sequence_caption(rows: Sequence[SequenceRow]) -> str:
    """What the numbers of a cell are, over how many runs, and what is bold."""
    outcomes = [found for row in rows for found in row.outcomes.values() if found]
    missing = any(found is None for row in rows for found in row.outcomes.values())
    sentences = [
        _cell_sentence(rows),
        *([JOINT] if any(row.method == UPPER_BOUND for row in rows) else []),
        *([DROP] if any(row.mean_drop is not None for row in rows) else []),
        *([AGAINST] if any(row.against_finetune is not None for row in rows) else []),
        *([NOT_RUN] if missing else []),
        _runs_sentence({found.runs for found in outcomes}),
        *([BOLD] if len(_contestants(rows)) > 1 else []),
    ]
    return " ".join(sentences)


def _cell_sentence(rows: Sequence[SequenceRow]) -> str:
    unit, gained = (" in percent", "points") if rows[0].metric == "accuracy" else ("", "MAP")
    pairs = all(len(tasks) == 2 for tasks in rows[0].outcomes)
    which, each = ("the first task gained", "it") if pairs else ("the earlier tasks gained on average", "each")
    name = METRICS[rows[0].metric].title
    return (
        f"{name} of the last task{unit} and, in brackets, the {gained} that {which} since {each} was just learned: "
        "negative is forgotten."
    )


def _runs_sentence(counts: set[int]) -> str:
    if counts == {1}:
        return "One run a method and sequence."
    spread_over = counted(counts.pop(), "run") if len(counts) == 1 else f"{min(counts)} to {max(counts)} runs"
    return f"± is the standard deviation over {spread_over}."


@dataclass(frozen=True)
class Pair:
    """What a cell of the table prints: a number, and one in brackets where there is one."""

    number: Cell
    change: Cell | None = None

    def text(self, write: Callable[[Cell], str]) -> str:
        """`87.3 (−1.2)`, each written as told."""
        return write(self.number) + (f" ({write(self.change)})" if self.change else "")

    @property
    def plain(self) -> str:
        """The means alone."""
        return self.text(lambda cell: cell.mean)

    @property
    def spread(self) -> str:
        """`±.4 (±.3)`; empty where there is one run."""
        if not self.number.std:
            return ""
        return self.text(lambda cell: f"±{cell.std}" if cell.std else MISSING)


def sequence_cells(rows: Sequence[SequenceRow]) -> tuple[list[str], list[list[Pair]]]:
    """Titles and printed cells of every column after the method's name."""
    columns = [(sequence_title(tasks), _pairs(rows, tasks)) for tasks in rows[0].outcomes]
    drops = _cells(rows, [_exactly(row.mean_drop) for row in rows], better=-1)
    gains = _cells(rows, [_exactly(row.against_finetune) for row in rows], sign=True)
    for title, cells in (("mean drop", drops), ("new task against finetune", gains)):
        if any(cell.mean != MISSING for cell in cells):
            columns.append((title, list(map(Pair, cells))))
    titles, printed = zip(*columns, strict=True)
    return list(titles), [list(line) for line in zip(*printed, strict=True)]


def _pairs(rows: Sequence[SequenceRow], tasks: Tasks) -> list[Pair]:
    outcomes = [row.outcomes[tasks] for row in rows]
    numbers = _cells(rows, [found.newest if found else None for found in outcomes])
    changes = _cells(rows, [found.change if found else None for found in outcomes], sign=True)
    return [
        Pair(number, change if found and found.change else None)
        for number, change, found in zip(numbers, changes, outcomes, strict=True)
    ]


def _exactly(value: float | None) -> Spread | None:
    return None if value is None else Spread(value, None)


def _cells(
    rows: Sequence[SequenceRow], values: Sequence[Spread | None], better: int = 1, sign: bool = False
) -> list[Cell]:
    """A column's numbers; the best means of two or more methods that compete are marked, those that look equal too."""
    metric = rows[0].metric
    means = [brief(metric, value.mean if value else None, sign) for value in values]
    stds = [brief(metric, value.std) if value and value.std is not None else "" for value in values]
    known = {index: value.mean for index in _contestants(rows) if (value := values[index])}
    best = means[max(known, key=lambda index: better * known[index])] if len(known) > 1 else None
    return [
        Cell(mean, std, index in known and mean == best)
        for index, (mean, std) in enumerate(zip(means, stds, strict=True))
    ]


def _contestants(rows: Sequence[SequenceRow]) -> list[int]:
    """Rows that compete for the best value: the controls do not."""
    return [index for index, row in enumerate(rows) if row.method not in CONTROLS]


def terminal_sequences(rows: Sequence[SequenceRow], title: str | None = None, width: int = NARROW_TERMINAL) -> Table:
    """The table for a terminal, standard deviations below the means; print `sequence_caption` below it.

    A table wider than the terminal goes without the last of several sequences and says without which.
    """
    from rich.text import Text

    sequences = len(rows[0].outcomes)
    for shown in range(sequences, 0, -1):
        table = _rich_table(rows, shown)
        if sum(column.width or 0 for column in table.columns) + len(table.columns) - 1 <= width:
            break
    table.title = title
    if left_out := [sequence_title(tasks) for tasks in list(rows[0].outcomes)[shown:]]:
        table.caption = Text(f"for lack of width without {', '.join(left_out)}", justify="left")
    return table


def _rich_table(rows: Sequence[SequenceRow], shown: int) -> Table:
    """The first so many sequences and the means over all, in columns as wide as their widest cell."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    titles, lines = sequence_cells(rows)
    kept = [*range(shown), *range(len(rows[0].outcomes), len(titles))]
    names = [shortened(method_label(row.method), NAME_WIDTH) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("method", width=max(map(len, ["method", *names])))
    for index in kept:
        needed = [len(part) for line in lines for part in (line[index].plain, line[index].spread)]
        table.add_column(Text(titles[index]), justify="right", width=max(*needed, *map(len, titles[index].split())))
    for name, line in zip(names, lines, strict=True):
        table.add_row(Text(name), *(_rich_cell(line[index]) for index in kept))
    return table


def _rich_cell(pair: Pair) -> Text:
    from rich.text import Text

    text = Text.assemble((pair.number.mean, "bold" if pair.number.best else ""))
    if pair.change:
        text.append_text(Text.assemble(" (", (pair.change.mean, "bold" if pair.change.best else ""), ")"))
    return text.append(f"\n{pair.spread}" if pair.spread else "", style="dim")


def markdown_sequences(rows: Sequence[SequenceRow]) -> str:
    """The table as GitHub-flavoured Markdown, its caption below it."""
    titles, lines = sequence_cells(rows)
    header = ["method", *map(markdown_text, titles)]
    body = [
        [markdown_text(method_label(row.method)), *(pair.text(markdown_cell) for pair in line)]
        for row, line in zip(rows, lines, strict=True)
    ]
    rule = ["---", *["---:"] * len(titles)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in [header, rule, *body])
    return f"{table}\n\n{sequence_caption(rows)}\n"


def latex_sequences(rows: Sequence[SequenceRow], label: str = "tab:sequences") -> str:
    """The table as a LaTeX `table` environment (package booktabs), everything escaped."""
    titles, lines = sequence_cells(rows)
    body = [
        [latex_text(method_label(row.method)), *(pair.text(latex_cell) for pair in line)]
        for row, line in zip(rows, lines, strict=True)
    ]
    return latex_environment(["method", *map(latex_text, titles)], body, sequence_caption(rows), label)


def html_sequences(rows: Sequence[SequenceRow]) -> str:
    """The table and its caption for the page; the swatches have the colours of the page's methods in this order."""
    titles, lines = sequence_cells(rows)
    styles = method_styles([row.method for row in rows])
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["method", *titles])
    body = "\n".join(
        f'<tr><th scope="row"><i class="swatch" style="background:{styles[row.method].color}"></i>'
        f"{escape(method_label(row.method))}</th>"
        f"{''.join(map(_html_cell, line))}</tr>"
        for row, line in zip(rows, lines, strict=True)
    )
    dense = " dense" if len(rows[0].outcomes) > DENSE_SEQUENCES else ""
    table = f'<table class="compare{dense}">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>'
    return f'<div class="card scroll">{table}</div>\n<p class="note">{escape(sequence_caption(rows))}</p>'


def _html_cell(pair: Pair) -> str:
    text = pair.text(lambda cell: f"<b>{escape(cell.mean)}</b>" if cell.best else escape(cell.mean))
    return f"<td>{text}{f'<small>{escape(pair.spread)}</small>' if pair.spread else ''}</td>"


def csv_sequences(rows: Sequence[SequenceRow]) -> str:
    """The table as CSV in full precision, fractions in [0, 1]; empty where there is no number.

    Of each sequence how many runs, then `newest`, `change` and `average` (over all its tasks) with their standard
    deviations.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for tasks in rows[0].outcomes for name in _csv_names(sequence_title(tasks))]
    writer.writerow(["method", *names, "mean drop", "against finetune"])
    for row in rows:
        numbers = [number for found in row.outcomes.values() for number in _csv_numbers(found)]
        writer.writerow([row.method, *numbers, row.mean_drop, row.against_finetune])
    return text.getvalue()


def _csv_names(title: str) -> list[str]:
    return [f"{title}{end}" for end in (" runs", *(f" {m}{std}" for m in MEASURES for std in ("", " std")))]


def _csv_numbers(found: Outcome | None) -> Iterator[float | None]:
    yield found.runs if found else None
    for measure in MEASURES:
        value = getattr(found, measure, None)
        yield from (value.mean, value.std) if value else (None, None)
