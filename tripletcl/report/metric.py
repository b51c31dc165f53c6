"""The two kinds of scores, MAP and accuracy: how reports write them, and their columns and words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from tripletcl.errors import UserError
from tripletcl.evaluation.result import RunResult
from tripletcl.report.formatting import (
    duration,
    fraction,
    fraction_tick,
    megabytes,
    percent,
    percent_tick,
    short_fraction,
    short_percent,
    signed,
    signed_percent,
)

Number = Callable[[float | None], str]
"""Writes a number; an en dash for None."""


@dataclass(frozen=True)
class Measure:
    """A column of numbers.

    Attributes:
        title: The column's title.
        short: Its title in a terminal.
        text: Writes a mean.
        std: Writes a standard deviation; None: it is not printed.
        better: +1 where higher is better, -1 where lower is, 0 where neither is.
        always: False: the column is left out where no run has the number.
        csv: Its title in CSV; None: its key.
    """

    title: str
    short: str
    text: Number
    std: Number | None = None
    better: int = 1
    always: bool = True
    csv: str | None = None


@dataclass(frozen=True)
class Metric:
    """The words, the numbers and the columns of one kind of score.

    Attributes:
        name: Its name within a sentence.
        title: Its name at the beginning of a sentence.
        text: Writes a score, or a difference of scores, in a table.
        short: Writes it with fewer digits, for sentences and figures.
        brief: Writes it to a tenth of a point of accuracy, or a thousandth of MAP.
        brief_signed: The same with its sign.
        tick: Writes a round score on an axis.
        unit: Follows a score in a sentence.
        points: Follows a difference in a sentence.
        axis: The axis of scores.
        overall_axis: The axis of overall scores.
        forgetting_axis: The axis of forgetting.
        drop_axis: The axis of drops.
        overall: Begins a list of the methods' overall scores as `text` writes them.
        reached: What a method reaches; `{}` is the overall score as `short` writes it.
        first: The first task in the headline; `{}` is its name.
        frozen: Begins the sentence on a model frozen after the first task that does as well.
        repeats: What runs are repeated with.
        split: What `RunResult.split` names.
        matrix: The scores of a task after each stage.
        curve: The curve of a task.
        caption: Sentences below every table.
        notes: Sentences below a table in which some run has the number of this key.
        measures: The columns in their order after a column for each task, by the key of the number.
        csv_task: Precedes a task's name in CSV.
        expendable: Keys of columns that a narrow terminal goes without, the first of them first.
        from_zero: True if curves start at zero, as those of scores near 1 must not: they would hide each other.
        task_bars: True if there are bars of each task's score.
    """

    name: str
    title: str
    text: Number
    short: Number
    brief: Number
    brief_signed: Number
    tick: Number
    unit: str
    points: str
    axis: str
    overall_axis: str
    forgetting_axis: str
    drop_axis: str
    overall: str
    reached: str
    first: str
    frozen: str
    repeats: str
    split: str
    matrix: str
    curve: str
    caption: Sequence[str]
    notes: Mapping[str, str]
    measures: Mapping[str, Measure]
    csv_task: str
    expendable: Sequence[str]
    from_zero: bool = True
    task_bars: bool = False


COSTS = {
    "seconds": Measure("time", "time", duration, better=0),
    "method_bytes": Measure("memory", "mem", megabytes, better=0, always=False),
}
COST_NOTES = {
    "method_bytes": "Memory: what the method stores after the last task, 1 MB = 10\N{SUPERSCRIPT SIX} bytes.",
    "lams": "Chosen lam: the weight of each task, or each run's median.",
}
GAP = "Gap closed = (method \N{MINUS SIGN} finetune) / (joint \N{MINUS SIGN} finetune) in"

METRICS = {
    "MAP": Metric(
        name="MAP",
        title="MAP",
        text=fraction,
        short=short_fraction,
        brief=fraction,
        brief_signed=signed,
        tick=fraction_tick,
        unit="",
        points="",
        axis="MAP",
        overall_axis="MAP over all facts, all test images",
        forgetting_axis="MAP lost a task since its best",
        drop_axis="MAP lost",
        overall="MAP over all facts and all test images",
        reached="MAP {} over all facts",
        first="the first",
        frozen="Learning only the first task does as well",
        repeats="splits or seeds",
        split="split",
        matrix="MAP of each task on its own test images",
        curve="MAP of one task on its own test images",
        caption=(
            "MAP after the last task: each task on its own test images, all facts on all test images.",
            "AP is divided by the number of images that show the fact in the gallery, "
            "and ties count against the query.",
            "Recall@5 and MRR go from image to fact: the rank of each true fact of a test image among all facts.",
        ),
        notes={
            "gap_closed": f"{GAP} MAP over all facts.",
            "map_open": "Open vocabulary: MAP over all facts from the vectors alone.",
            "map_subset": "Subset: MAP of the chosen facts on all test images.",
            **COST_NOTES,
        },
        measures={
            "mean_score": Measure("mean of tasks", "mean", fraction, fraction, csv="map_mean"),
            "overall": Measure("all facts", "all", fraction, fraction, csv="map_all"),
            "map_open": Measure("open vocabulary", "open", fraction, fraction, always=False),
            "map_subset": Measure("subset", "sub", fraction, fraction, always=False),
            "forgetting": Measure("forgetting", "lost", fraction, fraction, better=-1),
            "backward_transfer": Measure("backward transfer", "BWT", signed, fraction),
            "recall@5": Measure("recall@5", "R@5", fraction, fraction),
            "mrr": Measure("MRR", "MRR", fraction, fraction),
            "gap_closed": Measure("gap closed", "gap", fraction, fraction),
            **COSTS,
        },
        csv_task="map",
        expendable=(
            *("mrr", "recall@5", "backward_transfer", "tasks", "runs", "lams", "seconds", "method_bytes"),
            *("mean_score", "map_subset", "map_open", "gap_closed"),
        ),
    ),
    "accuracy": Metric(
        name="accuracy",
        title="Accuracy",
        text=percent,
        short=short_percent,
        brief=partial(percent, digits=1),
        brief_signed=partial(percent, digits=1, sign=True),
        tick=percent_tick,
        unit=" %",
        points=" points",
        axis="accuracy, %",
        overall_axis="average accuracy over all tasks, %",
        forgetting_axis="points lost a task since its best",
        drop_axis="points lost",
        overall="Average accuracy over all tasks, in percent",
        reached="{} % average accuracy over all tasks",
        first="{}",
        frozen="A model that is frozen after the first task does as well",
        repeats="seeds",
        split="sequence",
        matrix="Accuracy of each task on its own test images, in percent",
        curve="Accuracy of one task on its own test images, in percent,",
        caption=("Accuracy after the last task, in percent: each task on its own test images, and their average.",),
        notes={
            "drop": "Drop: points that an earlier task lost since it was just learned, on average.",
            "forgetting": "Forgetting: the same since its best.",
            "new_tasks": "New tasks: points by which tasks after the first, each just learned, are above finetune's.",
            "gap_closed": f"{GAP} average accuracy, in percent.",
            **COST_NOTES,
        },
        measures={
            "overall": Measure("average", "mean", percent, percent, csv="average_accuracy"),
            "drop": Measure("drop", "drop", percent, percent, better=-1),
            "forgetting": Measure("forgetting", "lost", percent, percent, better=-1),
            "new_tasks": Measure("new tasks", "new", signed_percent, percent, always=False),
            "gap_closed": Measure("gap closed", "gap", short_percent, short_percent, always=False),
            **COSTS,
        },
        csv_task="accuracy",
        expendable=("runs", "lams", "seconds", "method_bytes", "forgetting", "tasks", "gap_closed", "new_tasks"),
        from_zero=False,
        task_bars=True,
    ),
}
"""By the name in `RunResult.metric`."""


def metric_of(runs: Sequence[RunResult]) -> Metric:
    """The kind of the scores of the runs.

    Raises:
        UserError: no runs, or runs that were not all measured in the same way.
    """
    names = sorted({run.metric for run in runs})
    if not names:
        raise UserError("a report needs at least one run, and none was given")
    if len(names) > 1:
        raise UserError(f"runs measured in {' and in '.join(names)} cannot be in one report")
    return METRICS[names[0]]
