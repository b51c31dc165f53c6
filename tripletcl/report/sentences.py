"""The headline and the findings of a report; they follow the data, also where a method is worse than expected."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, RunResult, Spread
from tripletcl.report.comparison import Row, comparison_rows
from tripletcl.report.formatting import counted, method_label, negatives, shortened, total
from tripletcl.report.grouping import (
    CONTROLS,
    Groups,
    featured,
    group_by_method,
    learned_and_final,
    mean_final,
    task_names,
)
from tripletcl.report.metric import METRICS, Metric, metric_of
from tripletcl.report.sequences import SequenceRow


def headline(runs: Sequence[RunResult]) -> str:
    """The report's first sentence: what finetune and the best method keep of the first task."""
    groups, metric = group_by_method(runs), metric_of(runs)
    tasks, methods = len(runs[0].tasks), featured(groups)
    if not methods or tasks == 1:
        everything = "both tasks" if tasks == 2 else f"all {counted(tasks, 'task')}"
        how = "On one task" if tasks == 1 else f"Trained on {everything} at once"
        first, *rest = [(method_label(m), metric.short(mean_final(groups[m]))) for m in methods or groups]
        others = "".join(f", {name} {value}{metric.unit}" for name, value in rest)
        return f"{how}, {first[0]} reaches {metric.reached.format(first[1])}{others}."
    parts = [f"{method_label(method)} {_keeps(metric, *learned_and_final(groups[method], 0))}" for method in methods]
    first_task = metric.first.format(shortened(task_names(runs)[0], 24))
    return f"After {counted(tasks, 'task')}, {'; '.join([f'{parts[0]} on {first_task}', *parts[1:]])}."


def _keeps(metric: Metric, learned: float | None, final: float | None) -> str:
    """`keeps .31 of .62`, `holds .62` where both print the same, `rises from 61.2 to 64.8 %`."""
    before, after, unit = metric.short(learned), metric.short(final), metric.unit
    if learned is None or final is None or before == after:
        return f"holds {after}{unit}"
    return f"keeps {after} of {before}{unit}" if final < learned else f"rises from {before} to {after}{unit}"


def findings(runs: Sequence[RunResult]) -> list[str]:
    """The sentences below the headline: all tasks, the cost on the last task, and the spread of the runs."""
    groups, metric = group_by_method(runs), metric_of(runs)
    rows = {row["method"]: row for row in comparison_rows(runs)}
    methods = featured(groups)
    sentences = [
        _overall(rows, methods, metric),
        _gap(rows, methods),
        _last_task(groups, methods, metric),
        _rivals(methods, [method for method, group in groups.items() if group[0].in_sequence]),
        _frozen(rows, methods, metric),
        _certainty(rows, methods, metric),
        _negatives(runs),
    ]
    return [sentence for sentence in sentences if sentence]


def _overall(rows: dict[str, Row], methods: list[str], metric: Metric) -> str:
    if not methods:
        return ""
    ends = list(dict.fromkeys([*methods, *(method for method in rows if method == UPPER_BOUND)]))
    parts = [f"{method_label(method)} {metric.text(_mean(rows[method]['overall']))}" for method in ends]
    return f"{metric.overall}: {', '.join(parts)}."


def _mean(value: Spread | None) -> float | None:
    return value.mean if value else None


def _gap(rows: dict[str, Row], methods: list[str]) -> str:
    """The share of the gap between finetune and joint that the best other method closes."""
    if len(methods) < 2:
        return ""
    plain, best = (rows[method]["overall"] for method in methods)
    plain_name, name = map(method_label, methods)
    if plain is None or best is None:
        return ""
    if best.mean <= plain.mean:
        return f"{name} does not beat {plain_name} there."
    joint = rows[UPPER_BOUND]["overall"] if UPPER_BOUND in rows else None
    if joint and joint.mean <= plain.mean:
        return f"Joint training is not above {plain_name} here, so there is no gap to close."
    closed = rows[methods[1]]["gap_closed"] if joint else None
    return f"{name} closes {closed.mean:.0%} of the gap between {plain_name} and joint training." if closed else ""


def _last_task(groups: Groups, methods: list[str], metric: Metric) -> str:
    """The cost of remembering: the score on the task learned last."""
    last = len(next(iter(groups.values()))[0].tasks) - 1
    if last == 0 or len(methods) < 2:
        return ""
    scores = {method: metric.short(learned_and_final(groups[method], last)[1]) for method in methods}
    parts = [f"{method_label(method)} {value}{metric.unit}" for method, value in scores.items()]
    return f"On the last task: {', '.join(parts)}."


def _rivals(methods: list[str], learners: list[str]) -> str:
    """A sentence that says of how many methods the best was chosen, where it is of several."""
    others = [method for method in learners if method not in (*CONTROLS, *methods[:1])]
    if len(methods) < 2 or len(others) < 2:
        return ""
    best, plain = method_label(methods[1]), method_label(methods[0])
    return f"{best} is the best of {counted(len(others), 'method')} compared with {plain}."


def _frozen(rows: dict[str, Row], methods: list[str], metric: Metric) -> str:
    """A sentence that says so where a model that is frozen after the first task does as well."""
    frozen = rows["frozen"]["overall"] if "frozen" in rows and "frozen" not in methods else None
    known = [value.mean for method in methods if (value := rows[method]["overall"])]
    if frozen is None or not known or frozen.mean < max(known):
        return ""
    return f"{metric.frozen}: {metric.text(frozen.mean)}{metric.unit}."


def _certainty(rows: dict[str, Row], methods: list[str], metric: Metric) -> str:
    if len(methods) < 2:
        return ""
    first, second = (rows[method]["overall"] for method in methods)
    if first is None or second is None:
        return ""
    if first.std is None or second.std is None:
        return _not_repeated(metric)
    if abs(first.mean - second.mean) > math.hypot(first.std, second.std):
        return ""
    names = " and ".join(map(method_label, methods))
    return f"The difference between {names} is within the spread of the runs."


def _negatives(runs: Sequence[RunResult]) -> str:
    """A sentence that says what the facts of each task are ranked against."""
    verified = next((run.verified for run in runs if len(run.verified) == len(run.tasks)), [])
    kinds = {negatives(counts) for counts in verified if counts[1]}
    if len(kinds) == 1 and kinds < {"verified", "unlabelled"}:
        return "Negatives are verified." if kinds == {"verified"} else "Negatives are photos without the label."
    parts = [f"{name} {negatives(counts)}" for name, counts in zip(task_names(runs), verified, strict=False)]
    return f"Negatives ({negatives(total(verified))}): {', '.join(parts)}." if verified else ""


def _not_repeated(metric: Metric) -> str:
    return f"Not repeated with other {metric.repeats}: the influence of chance on these numbers is not known."


def sequences_headline(rows: Sequence[SequenceRow]) -> str:
    """The first sentence about several sequences: what finetune and the best method lose of earlier tasks."""
    metric, count = METRICS[rows[0].metric], counted(len(rows[0].outcomes), "sequence")
    parts = [f"{method_label(row.method)} {_loses(metric, row.mean_drop or 0.0)}" for row in _featured_rows(rows)]
    if not parts:
        return f"{count.capitalize()} of tasks, {counted(len(rows), 'method')}."
    return f"Over {count}, {'; '.join([f'{parts[0]} on each earlier task', *parts[1:]])}."


def _loses(metric: Metric, drop: float) -> str:
    """`loses 12.3 points`, `gains 0.4 points`, or `loses nothing` where the amount prints as zero."""
    amount = metric.short(abs(drop))
    if amount == metric.short(0.0):
        return "loses nothing"
    return f"{'loses' if drop > 0 else 'gains'} {amount}{metric.points}"


def _featured_rows(rows: Sequence[SequenceRow]) -> list[SequenceRow]:
    """As `featured`, of the methods that learned every sequence task after task."""
    learners = [row for row in rows if row.mean_drop is not None and row.method not in CONTROLS]
    ranked = sorted(learners, key=_average)
    plain = next((row for row in ranked if row.method == LOWER_BOUND), ranked[0] if ranked else None)
    return [row for row in (plain, *[row for row in ranked if row is not plain][-1:]) if row is not None]


def _average(row: SequenceRow) -> float:
    """A method's mean score of all tasks at the end, over the sequences; the lowest where a sequence lacks it."""
    known = [outcome.average.mean for outcome in row.outcomes.values() if outcome and outcome.average]
    return statistics.fmean(known) if len(known) == len(row.outcomes) else -math.inf


def sequences_findings(rows: Sequence[SequenceRow]) -> list[str]:
    """The sentences below it: all tasks, the cost on the last task, and whether runs were repeated."""
    metric, methods = METRICS[rows[0].metric], _featured_rows(rows)
    ends = [row for row in (*methods, *(r for r in rows if r.method == UPPER_BOUND)) if math.isfinite(_average(row))]
    scores = ", ".join(f"{method_label(row.method)} {metric.short(_average(row))}{metric.unit}" for row in ends)
    repeated = any(outcome.runs > 1 for row in rows for outcome in row.outcomes.values() if outcome)
    learners = [row.method for row in rows if row.mean_drop is not None]
    sentences = [
        f"{metric.title} at the end, on average over tasks and sequences: {scores}." if methods and scores else "",
        *(_against_plain(metric, *methods) if len(methods) == 2 else []),
        _rivals([row.method for row in methods], learners),
        "" if repeated else _not_repeated(metric),
    ]
    return [sentence for sentence in sentences if sentence]


def _against_plain(metric: Metric, plain: SequenceRow, best: SequenceRow) -> list[str]:
    name, plain_name = method_label(best.method), method_label(plain.method)
    worse = "" if _average(best) > _average(plain) else f"{name} does not beat {plain_name} there."
    cost = best.against_finetune
    if cost is None or plain.method != LOWER_BOUND:
        return [worse]
    amount, where = metric.short(abs(cost)), "above" if cost > 0 else "below"
    level = "level with" if amount == metric.short(0.0) else f"{amount}{metric.points} {where}"
    return [worse, f"On the last task {name} is {level} {plain_name}."]
