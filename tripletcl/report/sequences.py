"""The table over several sequences (Aljundi et al., ECCV 2018, table 2): a row a method, a column a sequence."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, MetricName, RunResult, Spread, check_distinct
from tripletcl.report.comparison import contestants, exact_texts, number_cells, spread_sentence
from tripletcl.report.formatting import MISSING, method_label
from tripletcl.report.grouping import Tasks, arrows, exactly, group_by_sequence, method_order, spread_of
from tripletcl.report.metric import METRICS, Measure
from tripletcl.report.table import Cell, Column, Table

DROP = "Mean drop: the mean over the sequences of what the brackets lose."
AGAINST = "Against finetune: the last task's score minus finetune's, the mean over the sequences."
JOINT = "Joint training learns all tasks at once, so it has no brackets."
NOT_RUN = f"{MISSING}: not run, or not on every sequence."
BOLD = "Bold: the best means of the methods that learn in sequence, of the last task and of the brackets each."


@dataclass(frozen=True)
class Outcome:
    """A method's scores at the end of one sequence, fractions in [0, 1], over its runs.

    Attributes:
        last: The score of the task learned last.
        change: Mean over the earlier tasks of R[T, i] - R[i, i], the score after the last task minus the score just
            after the task was learned; negative where it was forgotten. None for joint training and for a single task.
        average: The mean score of all tasks.
        runs: The number of runs.
    """

    last: Spread | None
    change: Spread | None
    average: Spread | None
    runs: int


@dataclass(frozen=True)
class SequenceRow:
    """A method on every sequence of the table.

    Attributes:
        method: The method's name.
        metric: The kind of the scores.
        outcomes: One for each sequence, in the same order in all rows; None where the method was not run.
        mean_drop: The mean over the sequences of what the earlier tasks lost, lower is better. None where the method
            was not run on all of them: sequences differ in how much they make forget.
        against_finetune: The mean over the sequences of the last task's score minus finetune's, higher is better: the
            cost of remembering. None for finetune, and where a sequence lacks either method.
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
    sequences = group_by_sequence(runs)
    check_distinct(runs)
    methods = method_order(run.method for run in runs)
    outcomes = {
        method: {tasks: _outcome([run for run in group if run.method == method]) for tasks, group in sequences.items()}
        for method in methods
    }
    finetune = outcomes.get(LOWER_BOUND, {})
    return [_row(method, runs[0].metric, outcomes[method], finetune) for method in methods]


def _outcome(group: Sequence[RunResult]) -> Outcome | None:
    if not group:
        return None
    return Outcome(
        last=Spread.of([run.scores[-1] for run in group]),
        change=spread_of(group, "backward_transfer") if group[0].in_sequence else None,
        average=spread_of(group, "mean_score"),
        runs=len(group),
    )


def _row(
    method: str, metric: MetricName, outcomes: dict[Tasks, Outcome | None], finetune: dict[Tasks, Outcome | None]
) -> SequenceRow:
    drops = [0.0 - outcome.change.mean if outcome and outcome.change else None for outcome in outcomes.values()]
    gains = [_gain(outcome, finetune.get(tasks)) for tasks, outcome in outcomes.items()]
    against = None if method == LOWER_BOUND else _mean_of_all(gains)
    return SequenceRow(method, metric, outcomes, _mean_of_all(drops), against)


def _gain(outcome: Outcome | None, finetune: Outcome | None) -> float | None:
    """The score of the last task minus finetune's."""
    if not outcome or not finetune or not outcome.last or not finetune.last:
        return None
    return outcome.last.mean - finetune.last.mean


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def sequence_table(rows: Sequence[SequenceRow]) -> Table:
    """The table to read: the last task's score and the change of the earlier tasks in brackets, then the means."""
    methods, metric = [row.method for row in rows], METRICS[rows[0].metric]
    score = Measure("", "", metric.brief, metric.brief)
    change = replace(score, text=metric.brief_signed)
    columns = [Column("method", align="left")]
    cells = [[Cell(method_label(method)) for method in methods]]
    for index, tasks in enumerate(rows[0].outcomes):
        outcomes = [row.outcomes[tasks] for row in rows]
        last = number_cells(methods, [outcome.last if outcome else None for outcome in outcomes], score)
        changes = number_cells(methods, [outcome.change if outcome else None for outcome in outcomes], change)
        columns.append(Column(arrows(tasks), dropped=-index if index else None))  # the last is dropped first
        known = [outcome is not None and outcome.change is not None for outcome in outcomes]
        cells.append([replace(a, change=b if both else None) for a, b, both in zip(last, changes, known, strict=True)])
    drops = number_cells(methods, [exactly(row.mean_drop) for row in rows], replace(score, better=-1))
    against = number_cells(methods, [exactly(row.against_finetune) for row in rows], change)
    for title, column in (("mean drop", drops), ("new task against finetune", against)):
        if any(cell.text != MISSING for cell in column):
            columns.append(Column(title))
            cells.append(column)
    return Table(columns, list(zip(*cells, strict=True)), _caption(rows))


def _caption(rows: Sequence[SequenceRow]) -> str:
    """The meaning of a cell's numbers, over how many runs, and what is bold."""
    outcomes = [outcome for row in rows for outcome in row.outcomes.values()]
    runs = {outcome.runs for outcome in outcomes if outcome}
    sentences = {
        _cell_sentence(rows): True,
        JOINT: any(row.method == UPPER_BOUND for row in rows),
        DROP: any(row.mean_drop is not None for row in rows),
        AGAINST: any(row.against_finetune is not None for row in rows),
        NOT_RUN: None in outcomes,
        "One run a method and sequence." if runs == {1} else spread_sentence(runs): True,
        BOLD: len(contestants([row.method for row in rows])) > 1,
    }
    return " ".join(sentence for sentence, holds in sentences.items() if holds)


def _cell_sentence(rows: Sequence[SequenceRow]) -> str:
    unit, gained = (" in percent", "points") if rows[0].metric == "accuracy" else ("", "MAP")
    pairs = all(len(tasks) == 2 for tasks in rows[0].outcomes)
    which, each = ("the first task gained", "it") if pairs else ("the earlier tasks gained on average", "each")
    name = METRICS[rows[0].metric].title
    return (
        f"{name} of the last task{unit} and, in brackets, the {gained} that {which} since {each} was just learned: "
        "negative is forgotten."
    )


def exact_sequences(rows: Sequence[SequenceRow]) -> Table:
    """The table for CSV: full precision, fractions in [0, 1]; empty where there is no number.

    Of each sequence the number of runs, then the score of the last task (`newest`), the `change` of the earlier tasks
    and the `average` over all tasks, with their standard deviations.
    """
    measures = [f"{name}{std}" for name in ("newest", "change", "average") for std in ("", " std")]
    sequences = [f"{arrows(tasks)} {name}" for tasks in rows[0].outcomes for name in ("runs", *measures)]
    titles = ["method", *sequences, "mean drop", "against finetune"]
    return Table([Column(title) for title in titles], [_exact_cells(row) for row in rows])


def _exact_cells(row: SequenceRow) -> list[Cell]:
    texts = [row.method]
    for outcome in row.outcomes.values():
        texts.append(str(outcome.runs) if outcome else "")
        texts += exact_texts([outcome.last, outcome.change, outcome.average] if outcome else [None] * 3)
    means = [row.mean_drop, row.against_finetune]
    return list(map(Cell, [*texts, *("" if value is None else str(value) for value in means)]))
