"""What the numbers say, in words: chosen from the data, right also when the method one hoped for is worse."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from tripletcl.evaluation.result import LOWER_BOUND, UPPER_BOUND, RunResult, Spread
from tripletcl.report.formatting import counted, fraction, megabytes, method_label, shortened
from tripletcl.report.runs import (
    CONTROLS,
    Groups,
    ap_by_fact,
    group_by_method,
    in_sequence,
    learned_and_final,
    mean,
    task_names,
)
from tripletcl.report.tables import Row, comparison_rows

SHOWN = 5
"""At most so many methods are shown where each takes a row of pictures."""


def headline(runs: Sequence[RunResult]) -> str:
    """The report's first sentence: what becomes of the first task, with the best method and the plain one."""
    groups = group_by_method(runs)
    tasks = len(runs[0].tasks)
    shown = featured(groups)
    if not shown or tasks == 1:
        everything = "both tasks" if tasks == 2 else f"all {counted(tasks, 'task')}"
        how = "On one task" if tasks == 1 else f"Trained on {everything} at once"
        first, *rest = [(method_label(m), fraction(_mean_map(groups[m]), 2)) for m in shown or groups]
        others = "".join(f", {name} {value}" for name, value in rest)
        return f"{how}, {first[0]} reaches MAP {first[1]} over all facts{others}."
    kept = [f"{method_label(method)} {_keeps(*learned_and_final(groups[method], 0))}" for method in shown]
    return f"After {counted(tasks, 'task')}, {'; '.join([f'{kept[0]} on the first', *kept[1:]])}."


def featured(groups: Groups) -> list[str]:
    """The methods a headline compares: the plain one (finetune, or else the lowest) and the best other in sequence."""
    candidates = [method for method, group in groups.items() if in_sequence(group[0])]
    learners = [method for method in candidates if method not in CONTROLS] or candidates
    by_map = sorted(learners, key=lambda method: _map_all(groups[method]))
    if not by_map:
        return []
    baseline = LOWER_BOUND if LOWER_BOUND in learners else by_map[0]
    others = [method for method in by_map if method != baseline]
    return [baseline, others[-1]] if others else [baseline]


def best_method(groups: Groups) -> str:
    """The method with the highest MAP over all facts of those that learn in sequence; joint where there is none."""
    shown = featured(groups)
    return max(shown, key=lambda method: _map_all(groups[method])) if shown else next(iter(groups))


def exemplars(groups: Groups) -> list[str]:
    """The methods whose answers to single queries are shown: all of a few; of many the plain one, the best, and joint.

    Rows of pictures of a dozen methods would make an endless page.
    """
    if len(groups) <= SHOWN:
        return list(groups)
    ranked = sorted(groups, key=lambda method: -_map_all(groups[method]))
    learners = [m for m in ranked if in_sequence(groups[m][0]) and m not in CONTROLS]
    others = [method for method in learners if method not in featured(groups)[:1]]
    shown = [*featured(groups)[:1], *others[: SHOWN - 2], UPPER_BOUND]
    return [method for method in groups if method in shown]


def _mean_map(group: Sequence[RunResult]) -> float | None:
    return mean(run.map_all_final for run in group)


def _map_all(group: Sequence[RunResult]) -> float:
    """A key to rank methods by; one without the number stands last."""
    found = _mean_map(group)
    return -math.inf if found is None else found


def _keeps(learned: float | None, final: float | None) -> str:
    """`keeps .31 of .62`, `holds .62` where both print the same, `rises from .62 to .65`."""
    before, after = fraction(learned, 2), fraction(final, 2)
    if learned is None or final is None or before == after:
        return f"holds {after}"
    return f"keeps {after} of {before}" if final < learned else f"rises from {before} to {after}"


def findings(runs: Sequence[RunResult]) -> list[str]:
    """The sentences below the headline: all facts, the price on the newest task, and how sure one can be."""
    groups = group_by_method(runs)
    rows = {row["method"]: row for row in comparison_rows(runs)}
    shown = featured(groups)
    sentences = [_over_all_facts(rows, shown), _gap(rows, shown), _newest_task(groups, shown), _selected(groups, shown)]
    return [sentence for sentence in [*sentences, _frozen(rows, shown), _certainty(rows, shown)] if sentence]


def _over_all_facts(rows: dict[str, Row], shown: list[str]) -> str:
    methods = list(dict.fromkeys([*shown, *(method for method in rows if method == UPPER_BOUND)]))
    if not shown:
        return ""
    parts = [f"{method_label(method)} {_number(rows[method]['map_all'])}" for method in methods]
    return f"MAP over all facts and all test images: {', '.join(parts)}."


def _number(value: Spread | None) -> str:
    return fraction(value.mean if value else None, 3)


def _gap(rows: dict[str, Row], shown: list[str]) -> str:
    """How the best other method stands between finetune and joint."""
    if len(shown) < 2:
        return ""
    plain, best = (rows[method]["map_all"] for method in shown)
    name, plain_name = method_label(shown[1]), method_label(shown[0])
    if plain is None or best is None:
        return ""
    if best.mean <= plain.mean:
        return f"{name} does not beat {plain_name} there."
    joint = rows[UPPER_BOUND]["map_all"] if UPPER_BOUND in rows else None
    if joint is None:
        return ""
    if joint.mean <= plain.mean:
        return f"Joint training is not above {plain_name} here, so there is no gap to close."
    closed = rows[shown[1]]["gap_closed"]
    if closed is None:
        return ""
    return f"{name} closes {closed.mean:.0%} of the gap between {plain_name} and joint training."


def _newest_task(groups: Groups, shown: list[str]) -> str:
    """What remembering costs: MAP on the task learned last."""
    tasks = len(next(iter(groups.values()))[0].tasks)
    if tasks == 1 or len(shown) < 2:
        return ""
    parts = [f"{method_label(m)} {fraction(learned_and_final(groups[m], tasks - 1)[1], 2)}" for m in shown]
    return f"On the newest task: {', '.join(parts)}."


def _selected(groups: Groups, shown: list[str]) -> str:
    """A best of many is named as such."""
    others = [m for m, group in groups.items() if in_sequence(group[0]) and m not in (*CONTROLS, *shown[:1])]
    if len(shown) < 2 or len(others) < 2:
        return ""
    return f"{method_label(shown[1])} is the best of {counted(len(others), 'method')} compared with {shown[0]}."


def _frozen(rows: dict[str, Row], shown: list[str]) -> str:
    """Learning nothing after the first task must not go unsaid where it does as well."""
    frozen = rows["frozen"]["map_all"] if "frozen" in rows and "frozen" not in shown else None
    known = [value.mean for method in shown if (value := rows[method]["map_all"])]
    if frozen is None or not known or frozen.mean < max(known):
        return ""
    return f"Learning only the first task does as well: {_number(frozen)}."


def _certainty(rows: dict[str, Row], shown: list[str]) -> str:
    if len(shown) < 2:
        return ""
    first, second = (rows[method]["map_all"] for method in shown)
    if first is None or second is None:
        return ""
    if first.std is None or second.std is None:
        return "Not repeated with other splits or seeds: how far chance moves these numbers is not known."
    if abs(first.mean - second.mean) > math.hypot(first.std, second.std):
        return ""
    names = " and ".join(method_label(method) for method in shown)
    return f"The difference between {names} is within the spread of the runs."


def matrix_title(method: str, group: Sequence[RunResult], short: bool = False) -> str:
    """`MAS forgets task 1: .62 → .58`; short, for small pictures: the name, and below it `.62 → .58`."""
    if not in_sequence(group[0]) or len(group[0].tasks) == 1:
        together = len(group[0].tasks) > 1 and method == UPPER_BOUND
        return method_label(method) + (("\n" if short else ": ") + "all tasks at once" if together else "")
    learned, final = learned_and_final(group, 0)
    if short:
        return f"{shortened(method_label(method), 20)}\n{fraction(learned, 2)} → {fraction(final, 2)}"
    return _change(method, task_names(group)[0], learned, final)


def _change(method: str, task: str, learned: float | None, final: float | None) -> str:
    before, after = fraction(learned, 2), fraction(final, 2)
    name, task = method_label(method), shortened(task, 24)
    if learned is None or final is None or before == after:
        return f"{name} holds {task}: {after}"
    return f"{name} {'forgets' if final < learned else 'gains on'} {task}: {before} → {after}"


def curve_title(groups: Groups, task: int) -> str:
    """What a task's curves show: who forgets it most and who keeps it best; for the last task, who learned it best."""
    name = task_names([run for group in groups.values() for run in group])[task]
    learners = [m for m, group in groups.items() if in_sequence(group[0]) and m not in CONTROLS]
    changes = {m: learned_and_final(groups[m], task) for m in learners}
    known = {m: (a, b) for m, (a, b) in changes.items() if a is not None and b is not None}
    if not known:
        return shortened(name, 40)
    best = max(known, key=lambda method: known[method][1])
    if task == len(groups[learners[0]][0].tasks) - 1:
        return f"{shortened(name, 24)}, the newest: {method_label(best)} has {fraction(known[best][1], 2)}"
    worst = max(known, key=lambda method: known[method][0] - known[method][1])
    title = _change(worst, name, *known[worst])
    return title if best == worst else f"{title}; {method_label(best)} has {fraction(known[best][1], 2)}"


def subset_title(groups: Groups) -> str:
    """`On the subset, MAS ends at .45, finetune at .28`: the best of those that go on learning, and the worst."""
    final = {method: mean(run.map_subset[-1] for run in group) for method, group in groups.items()}
    learners = [m for m, group in groups.items() if in_sequence(group[0]) and m not in CONTROLS]
    known = {method: value for method in learners if (value := final[method]) is not None}
    if not known:
        return "The subset"
    best, worst = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    title = f"On the subset, {method_label(best)} ends at {fraction(known[best], 2)}"
    return title if best == worst else f"{title}, {method_label(worst)} at {fraction(known[worst], 2)}"


def memory_title(groups: Groups) -> str:
    """`EBLL keeps most: 41 MB; MAS-alpha, which knows most, 27 MB`."""
    final = {method: mean(run.method_bytes[-1] for run in group) or 0.0 for method, group in groups.items()}
    most, best = max(final, key=final.__getitem__), max(groups, key=lambda method: _map_all(groups[method]))
    if most == best:
        return f"{method_label(most)} keeps {'most: ' * (len(final) > 1)}{megabytes(final[most])}"
    knows = f"{method_label(best)}, which knows most, {megabytes(final[best])}"
    return f"{method_label(most)} keeps most: {megabytes(final[most])}; {knows}"


def forgetting_title(rows: Sequence[Row]) -> str:
    """`finetune forgets .240 a task, MAS .030`: the most and the least of those that go on learning."""
    forgetting = {row["method"]: row["forgetting"].mean for row in rows if row["forgetting"]}
    known = {method: value for method, value in forgetting.items() if method not in CONTROLS} or forgetting
    if not known:
        return "Forgetting"
    most, least = max(known, key=known.__getitem__), min(known, key=known.__getitem__)
    if known[most] <= 0:
        return f"No method forgets; {method_label(least)} gains most, {fraction(-known[least])} a task"
    title = f"{method_label(most)} forgets {fraction(known[most])} a task"
    return title if most == least else f"{title}, {method_label(least)} {fraction(known[least])}"


def final_title(groups: Groups) -> str:
    """`In sequence, MAS knows most: .338`."""
    learned = [method for method, group in groups.items() if in_sequence(group[0])] or list(groups)
    best = max(learned, key=lambda method: _map_all(groups[method]))
    value = fraction(_mean_map(groups[best]))
    return (
        f"In sequence, {method_label(best)} knows most: {value}"
        if len(learned) > 1
        else f"{method_label(best)}: {value}"
    )


def ap_title(groups: Groups) -> str:
    """`Half the facts reach AP .34 with MAS, .21 with finetune`: the medians."""
    medians = [
        f"{fraction(statistics.median(aps), 2)} with {method_label(method)}"
        for method in reversed(featured(groups) or list(groups)[:1])
        if (aps := list(ap_by_fact(groups[method]).values()))
    ]
    return f"Half the facts reach AP {', '.join(medians)}" if medians else "AP of each fact"
