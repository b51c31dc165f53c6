"""What the numbers say, in words: chosen from the data, right also when the method one hoped for is worse."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, RunResult, Spread
from tripletcl.report.comparison import Row, comparison_rows
from tripletcl.report.formatting import counted, megabytes, method_label, short_fraction, shortened
from tripletcl.report.grouping import (
    CONTROLS,
    Groups,
    ap_by_fact,
    group_by_method,
    learned_and_final,
    mean,
    task_names,
)
from tripletcl.report.metric import METRICS, Metric, metric_of
from tripletcl.report.sequences import SequenceRow

SHOWN = 5
"""At most so many methods are shown where each takes a row of pictures."""


def headline(runs: Sequence[RunResult]) -> str:
    """The report's first sentence: what becomes of the first task, with the best method and the plain one."""
    groups = group_by_method(runs)
    tasks, metric = len(runs[0].tasks), metric_of(runs)
    shown = featured(groups)
    if not shown or tasks == 1:
        everything = "both tasks" if tasks == 2 else f"all {counted(tasks, 'task')}"
        how = "On one task" if tasks == 1 else f"Trained on {everything} at once"
        first, *rest = [(method_label(m), metric.short(_mean_final(groups[m]))) for m in shown or groups]
        others = "".join(f", {name} {value}{metric.unit}" for name, value in rest)
        return f"{how}, {first[0]} reaches {metric.reached.format(first[1])}{others}."
    kept = [f"{method_label(method)} {_keeps(metric, *learned_and_final(groups[method], 0))}" for method in shown]
    first_task = metric.first.format(shortened(task_names(runs)[0], 24))
    return f"After {counted(tasks, 'task')}, {'; '.join([f'{kept[0]} on {first_task}', *kept[1:]])}."


def sequences_headline(rows: Sequence[SequenceRow]) -> str:
    """The first sentence about several sequences: what earlier tasks lost, by the plain method and by the best."""
    metric, count = METRICS[rows[0].metric], counted(len(rows[0].outcomes), "sequence")
    shown = [row for row in _featured_rows(rows) if row.mean_drop is not None]
    if not shown:
        return f"{count.capitalize()} of tasks, {counted(len(rows), 'method')}."
    parts = [f"{method_label(row.method)} {_loses(metric, row.mean_drop or 0.0)}" for row in shown]
    return f"Over {count}, {'; '.join([f'{parts[0]} on each earlier task', *parts[1:]])}."


def _loses(metric: Metric, drop: float) -> str:
    """`loses 12.3 points`, `gains 0.4 points`, `loses nothing` where that is what is printed."""
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
    """A method's mean score of all tasks at the end, over the sequences; one that lacks it stands last."""
    known = [found.average.mean for found in row.outcomes.values() if found and found.average]
    return statistics.fmean(known) if len(known) == len(row.outcomes) else -math.inf


def sequences_findings(rows: Sequence[SequenceRow]) -> list[str]:
    """The sentences below it: all tasks, the price on the newest, and how sure one can be."""
    metric, shown = METRICS[rows[0].metric], _featured_rows(rows)
    ends = [row for row in (*shown, *(r for r in rows if r.method == UPPER_BOUND)) if math.isfinite(_average(row))]
    said = ", ".join(f"{method_label(row.method)} {metric.short(_average(row))}{metric.unit}" for row in ends)
    return [
        *([f"{metric.title} at the end, on average over tasks and sequences: {said}."] if shown and said else []),
        *(_against_plain(metric, *shown) if len(shown) == 2 else []),
        *_best_of_rows(rows, shown),
        *_repeated(rows, metric),
    ]


def _against_plain(metric: Metric, plain: SequenceRow, best: SequenceRow) -> list[str]:
    names = method_label(best.method), method_label(plain.method)
    worse = [] if _average(best) > _average(plain) else [f"{names[0]} does not beat {names[1]} there."]
    cost = best.against_finetune
    if cost is None or plain.method != LOWER_BOUND:
        return worse
    amount, where = metric.short(abs(cost)), "above" if cost > 0 else "below"
    stands = "level with" if amount == metric.short(0.0) else f"{amount}{metric.points} {where}"
    return [*worse, f"On the newest task {names[0]} is {stands} {names[1]}."]


def _best_of_rows(rows: Sequence[SequenceRow], shown: Sequence[SequenceRow]) -> list[str]:
    """A best of many is named as such."""
    others = [row for row in rows if row.mean_drop is not None and row.method not in (*CONTROLS, shown[0].method)]
    if len(shown) < 2 or len(others) < 2:
        return []
    best, plain = method_label(shown[1].method), method_label(shown[0].method)
    return [f"{best} is the best of {counted(len(others), 'method')} compared with {plain}."]


def _repeated(rows: Sequence[SequenceRow], metric: Metric) -> list[str]:
    if any(found.runs > 1 for row in rows for found in row.outcomes.values() if found):
        return []
    return [f"Not repeated with other {metric.repeats}: how far chance moves these numbers is not known."]


def featured(groups: Groups) -> list[str]:
    """The methods a headline compares: the plain one (finetune, or else the lowest) and the best other in sequence."""
    candidates = [method for method, group in groups.items() if group[0].in_sequence]
    learners = [method for method in candidates if method not in CONTROLS] or candidates
    ranked = sorted(learners, key=lambda method: _rank(groups[method]))
    if not ranked:
        return []
    baseline = LOWER_BOUND if LOWER_BOUND in learners else ranked[0]
    others = [method for method in ranked if method != baseline]
    return [baseline, others[-1]] if others else [baseline]


def best_method(groups: Groups) -> str:
    """The method with the highest overall score of those that learn in sequence; joint where there is none."""
    shown = featured(groups)
    return max(shown, key=lambda method: _rank(groups[method])) if shown else next(iter(groups))


def exemplars(groups: Groups) -> list[str]:
    """The methods whose answers to single queries are shown: all of a few; of many the plain one, the best, and joint.

    Rows of pictures of a dozen methods would make an endless page.
    """
    if len(groups) <= SHOWN:
        return list(groups)
    ranked = sorted(groups, key=lambda method: -_rank(groups[method]))
    learners = [m for m in ranked if groups[m][0].in_sequence and m not in CONTROLS]
    others = [method for method in learners if method not in featured(groups)[:1]]
    shown = [*featured(groups)[:1], *others[: SHOWN - 2], UPPER_BOUND]
    return [method for method in groups if method in shown]


def _mean_final(group: Sequence[RunResult]) -> float | None:
    return mean(run.final for run in group)


def _rank(group: Sequence[RunResult]) -> float:
    """A key to rank methods by; one without the number stands last."""
    found = _mean_final(group)
    return -math.inf if found is None else found


def _keeps(metric: Metric, learned: float | None, final: float | None) -> str:
    """`keeps .31 of .62`, `holds .62` where both print the same, `rises from 61.2 to 64.8 %`."""
    before, after, unit = metric.short(learned), metric.short(final), metric.unit
    if learned is None or final is None or before == after:
        return f"holds {after}{unit}"
    return f"keeps {after} of {before}{unit}" if final < learned else f"rises from {before} to {after}{unit}"


def findings(runs: Sequence[RunResult]) -> list[str]:
    """The sentences below the headline: all facts, the price on the newest task, and how sure one can be."""
    groups, metric = group_by_method(runs), metric_of(runs)
    rows = {row["method"]: row for row in comparison_rows(runs)}
    shown = featured(groups)
    sentences = [
        _over_all_tasks(rows, shown, metric),
        _gap(rows, shown),
        _newest_task(groups, shown, metric),
        _selected(groups, shown),
        _frozen(rows, shown, metric),
        _certainty(rows, shown, metric),
    ]
    return [sentence for sentence in sentences if sentence]


def _over_all_tasks(rows: dict[str, Row], shown: list[str], metric: Metric) -> str:
    methods = list(dict.fromkeys([*shown, *(method for method in rows if method == UPPER_BOUND)]))
    if not shown:
        return ""
    parts = [f"{method_label(method)} {metric.text(_mean(rows[method]['overall']))}" for method in methods]
    return f"{metric.overall_said}: {', '.join(parts)}."


def _mean(value: Spread | None) -> float | None:
    return value.mean if value else None


def _gap(rows: dict[str, Row], shown: list[str]) -> str:
    """How the best other method stands between finetune and joint."""
    if len(shown) < 2:
        return ""
    plain, best = (rows[method]["overall"] for method in shown)
    name, plain_name = method_label(shown[1]), method_label(shown[0])
    if plain is None or best is None:
        return ""
    if best.mean <= plain.mean:
        return f"{name} does not beat {plain_name} there."
    joint = rows[UPPER_BOUND]["overall"] if UPPER_BOUND in rows else None
    if joint is None:
        return ""
    if joint.mean <= plain.mean:
        return f"Joint training is not above {plain_name} here, so there is no gap to close."
    closed = rows[shown[1]]["gap_closed"]
    if closed is None:
        return ""
    return f"{name} closes {closed.mean:.0%} of the gap between {plain_name} and joint training."


def _newest_task(groups: Groups, shown: list[str], metric: Metric) -> str:
    """What remembering costs: the score on the task learned last."""
    tasks = len(next(iter(groups.values()))[0].tasks)
    if tasks == 1 or len(shown) < 2:
        return ""
    final = {method: metric.short(learned_and_final(groups[method], tasks - 1)[1]) for method in shown}
    parts = [f"{method_label(method)} {value}{metric.unit}" for method, value in final.items()]
    return f"On the newest task: {', '.join(parts)}."


def _selected(groups: Groups, shown: list[str]) -> str:
    """A best of many is named as such."""
    others = [m for m, group in groups.items() if group[0].in_sequence and m not in (*CONTROLS, *shown[:1])]
    if len(shown) < 2 or len(others) < 2:
        return ""
    return f"{method_label(shown[1])} is the best of {counted(len(others), 'method')} compared with {shown[0]}."


def _frozen(rows: dict[str, Row], shown: list[str], metric: Metric) -> str:
    """Learning nothing after the first task must not go unsaid where it does as well."""
    frozen = rows["frozen"]["overall"] if "frozen" in rows and "frozen" not in shown else None
    known = [value.mean for method in shown if (value := rows[method]["overall"])]
    if frozen is None or not known or frozen.mean < max(known):
        return ""
    return f"{metric.frozen}: {metric.text(frozen.mean)}{metric.unit}."


def _certainty(rows: dict[str, Row], shown: list[str], metric: Metric) -> str:
    if len(shown) < 2:
        return ""
    first, second = (rows[method]["overall"] for method in shown)
    if first is None or second is None:
        return ""
    if first.std is None or second.std is None:
        return f"Not repeated with other {metric.repeats}: how far chance moves these numbers is not known."
    if abs(first.mean - second.mean) > math.hypot(first.std, second.std):
        return ""
    names = " and ".join(method_label(method) for method in shown)
    return f"The difference between {names} is within the spread of the runs."


def matrix_title(method: str, group: Sequence[RunResult], short: bool = False) -> str:
    """`MAS forgets task 1: .62 → .58`; short, for small pictures: the name, and below it `.62 → .58`."""
    if not group[0].in_sequence or len(group[0].tasks) == 1:
        together = len(group[0].tasks) > 1 and method == UPPER_BOUND
        return method_label(method) + (("\n" if short else ": ") + "all tasks at once" if together else "")
    learned, final = learned_and_final(group, 0)
    metric = metric_of(group)
    if short:
        name = shortened(method_label(method), 20)
        return f"{name}\n{metric.short(learned)} → {metric.short(final)}{metric.unit}"
    return _change(metric, method, task_names(group)[0], learned, final)


def _change(metric: Metric, method: str, task: str, learned: float | None, final: float | None) -> str:
    before, after = metric.short(learned), metric.short(final)
    name, task = method_label(method), shortened(task, 24)
    if learned is None or final is None or before == after:
        return f"{name} holds {task}: {after}{metric.unit}"
    return f"{name} {'forgets' if final < learned else 'gains on'} {task}: {before} → {after}{metric.unit}"


def curve_title(groups: Groups, task: int) -> str:
    """What a task's curves show: who forgets it most and who keeps it best; for the last task, who learned it best."""
    runs = [run for group in groups.values() for run in group]
    name, metric = task_names(runs)[task], metric_of(runs)
    learners = [m for m, group in groups.items() if group[0].in_sequence and m not in CONTROLS]
    changes = {m: learned_and_final(groups[m], task) for m in learners}
    known = {m: (a, b) for m, (a, b) in changes.items() if a is not None and b is not None}
    if not known:
        return shortened(name, 40)
    best = max(known, key=lambda method: known[method][1])
    has = f"{method_label(best)} has {metric.short(known[best][1])}{metric.unit}"
    if task == len(runs[0].tasks) - 1:
        return f"{shortened(name, 24)}, the newest: {has}"
    worst = max(known, key=lambda method: known[method][0] - known[method][1])
    title = _change(metric, worst, name, *known[worst])
    return title if best == worst else f"{title}; {has}"


def subset_title(groups: Groups) -> str:
    """`On the subset, MAS ends at .45, finetune at .28`: the best of those that go on learning, and the worst."""
    final = {method: mean(run.map_subset[-1] for run in group) for method, group in groups.items()}
    learners = [m for m, group in groups.items() if group[0].in_sequence and m not in CONTROLS]
    known = {method: value for method in learners if (value := final[method]) is not None}
    if not known:
        return "The subset"
    best, worst = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    title = f"On the subset, {method_label(best)} ends at {short_fraction(known[best])}"
    return title if best == worst else f"{title}, {method_label(worst)} at {short_fraction(known[worst])}"


def memory_title(groups: Groups) -> str:
    """`EBLL keeps most: 41 MB; MAS-alpha, which knows most, 27 MB`."""
    final = {method: mean(run.method_bytes[-1] for run in group) or 0.0 for method, group in groups.items()}
    most, best = max(final, key=final.__getitem__), max(groups, key=lambda method: _rank(groups[method]))
    if most == best:
        return f"{method_label(most)} keeps {'most: ' * (len(final) > 1)}{megabytes(final[most])}"
    knows = f"{method_label(best)}, which knows most, {megabytes(final[best])}"
    return f"{method_label(most)} keeps most: {megabytes(final[most])}; {knows}"


def forgetting_title(rows: Sequence[Row]) -> str:
    """`finetune forgets .240 a task, MAS .030`: the most and the least of those that go on learning."""
    metric = METRICS[rows[0]["metric"]]
    forgetting = {row["method"]: row["forgetting"].mean for row in rows if row["forgetting"]}
    known = {method: value for method, value in forgetting.items() if method not in CONTROLS} or forgetting
    if not known:
        return "Forgetting"
    most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    if known[most] <= 0:
        return (
            f"No method forgets; {method_label(least)} gains most, {metric.text(-known[least])}{metric.points} a task"
        )
    title = f"{method_label(most)} forgets {metric.text(known[most])}{metric.points} a task"
    return title if most == least else f"{title}, {method_label(least)} {metric.text(known[least])}"


def final_title(groups: Groups) -> str:
    """`In sequence, MAS knows most: .338`."""
    learned = [method for method, group in groups.items() if group[0].in_sequence] or list(groups)
    best = max(learned, key=lambda method: _rank(groups[method]))
    metric = metric_of(groups[best])
    value = f"{metric.text(_mean_final(groups[best]))}{metric.unit}"
    return (
        f"In sequence, {method_label(best)} knows most: {value}"
        if len(learned) > 1
        else f"{method_label(best)}: {value}"
    )


def ap_title(groups: Groups) -> str:
    """`Half the facts reach AP .34 with MAS, .21 with finetune`: the medians."""
    medians = [
        f"{short_fraction(statistics.median(aps))} with {method_label(method)}"
        for method in reversed(featured(groups) or list(groups)[:1])
        if (aps := list(ap_by_fact(groups[method]).values()))
    ]
    return f"Half the facts reach AP {', '.join(medians)}" if medians else "AP of each fact"
