"""Plans and runs a comparison: methods x sequences x seeds. Finished runs are reused, interrupted ones resume."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tripletcl.compare.cluster import cluster
from tripletcl.compare.processes import Environment, Job, run_jobs
from tripletcl.config import Config, parse_config
from tripletcl.config.base import Compare
from tripletcl.continual import Properties, RunFolder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult, gap_closed_among, new_tasks_among
from tripletcl.files import write_text
from tripletcl.methods import MethodSettings, build_method, method_name
from tripletcl.report import properties_of
from tripletcl.report.formatting import duration
from tripletcl.report.metric import METRICS
from tripletcl.runs.kinds import KINDS
from tripletcl.runs.layout import COMPARISON, SETTINGS, TRAIN_LOG
from tripletcl.runs.stored import read_result


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison; `str` names it in messages."""

    label: str
    config: Config
    folder: Path

    def __str__(self) -> str:
        return f"{self.label}, {self.config.sequence}, seed {self.config.seed}"

    @property
    def result(self) -> RunResult | None:
        """The figures under the run's label, or None while it is not finished."""
        result = read_result(RunFolder(self.folder))
        return None if result is None else replace(result, method=self.label)

    def claim(self) -> None:
        """Create the run's folder, or check that it holds this run.

        Raises:
            UserError: it holds a run of other settings or other data, or something else.
        """
        KINDS[self.config.learns].run.create(self.folder, self.config)

    @property
    def log(self) -> Path:
        """The file of the run's output while others run in parallel."""
        return self.folder / TRAIN_LOG


def plan(config: Config, out: Path) -> list[PlannedRun]:
    """List the runs of every method on every sequence of tasks with every seed, the methods changing fastest.

    Raises:
        UserError: a method is listed twice.
    """
    return [
        planned_run(config, label, method, {**sequence, **importance}, seed, out)
        for sequence in config.sequences()
        for seed in config.compare.seeds
        for label, method, importance in variants(config.compare)
    ]


def variants(compare: Compare) -> list[tuple[str, MethodSettings, dict[str, Any]]]:
    """List each method's label and settings, once with each change of `data` that has an effect on it."""
    entries: list[tuple[str, MethodSettings, dict[str, Any]]] = []
    for label, method in zip(method_labels(compare.methods), compare.methods, strict=True):
        if compare.importance and build_method(method).properties.adaptive:
            entries += [(f"{label}-{images}", method, {"importance": images}) for images in compare.importance]
        else:
            entries.append((label, method, {}))
    return entries


def planned_run(
    config: Config, label: str, method: MethodSettings, data: dict[str, Any], seed: int, out: Path
) -> PlannedRun:
    """Plan the run of one method, with changes to the settings of `data`; seed is added to the config's."""
    values = config.model_dump(mode="json", exclude={"compare"})
    values |= {"method": method, "seed": config.seed + seed, "data": values["data"] | data}
    single = parse_config(values, "compare")
    return PlannedRun(label, single, out / f"{label}{single.suffix}")


def method_labels(methods: Iterable[MethodSettings]) -> list[str]:
    """Return each method's name, with settings if a name occurs twice: `mas`, or `mas-lam1.0` and `mas-lam3.0`."""
    methods = list(methods)
    names = [method_name(m) for m in methods]
    if len({json.dumps(m, sort_keys=True) for m in methods}) < len(methods):
        raise UserError(f"compare.methods has the same method with the same settings twice: {', '.join(names)}")
    return [
        name if names.count(name) == 1 else _with_settings(m, [n for n in methods if method_name(n) == name])
        for name, m in zip(names, methods, strict=True)
    ]


def _with_settings(method: MethodSettings, same: list[MethodSettings]) -> str:
    """Return a method's name with the settings in which it differs from others of the same name."""
    parts = [
        value if isinstance(value, str) else f"{key}{value}"  # words need no key: mas-local, imm-mean
        for position, settings in enumerate(method)
        for key, value in settings.items()
        if len({str(other[position].get(key)) for other in same}) > 1
    ]
    return "-".join([method_name(method), *parts])


def method_properties(config: Config) -> dict[str, Properties | None]:
    """Return the properties of each method of the comparison, by its label; None for joint training."""
    return {label: properties_of(method) for label, method, _ in variants(config.compare)}


class RunsFailed(UserError):
    """Raised where runs of a comparison failed, once all have ended.

    Attributes:
        reasons: By the name of each failed run the last line of its log; empty if it has none.
    """

    def __init__(self, message: str, reasons: dict[str, str]) -> None:
        super().__init__(message)
        self.reasons = reasons


def compare(config: Config, out: Path, announce: Callable[[str], None] = lambda text: None) -> list[RunResult]:
    """Run what is not finished, each run in a process of its own, and return all results.

    Args:
        announce: Called with a line when a run starts and when it ends.

    Raises:
        RunsFailed: runs failed; the results of the others are stored.
    """
    runs = plan(config, out)
    for run in runs:  # all folders before any training
        run.claim()
    unfinished = [run for run in runs if run.result is None]
    places = processes(config, len(unfinished))
    is_local = config.compare.engine.name == "local"
    jobs = [Job(_command(run), run.log if len(places) > 1 or not is_local else None) for run in unfinished]

    def started(index: int) -> None:
        announce(f"{index + 1}/{len(unfinished)} {unfinished[index]}: started")

    def ended(index: int) -> None:
        announce(
            f"{index + 1}/{len(unfinished)} {unfinished[index]}: {_outcome(unfinished[index].result, jobs[index])}"
        )

    if len(unfinished) < len(runs):
        announce(f"{len(runs) - len(unfinished)} of {len(runs)} runs are finished already")
    if is_local:
        run_jobs(jobs, places, started, ended, _threads if len(places) > 1 else None)
    elif jobs:
        at_once = None if config.compare.jobs == "auto" else config.compare.jobs
        cluster(config.compare.engine.name)(jobs, config.compare.engine, out, at_once, started, ended)
    results = [result for run in runs if (result := run.result) is not None]
    if results:
        write_text(out / COMPARISON, json.dumps(comparison_objects(results), indent=1))
    _check([(run, job.log) for run, job in zip(unfinished, jobs, strict=True) if run.result is None], len(runs))
    return results


def _command(run: PlannedRun) -> list[str]:
    # -P: a folder in the current one that is called like the package, as a clone of it, is not searched for modules.
    train = [sys.executable, "-P", "-m", "tripletcl.compare.child", "train", str(run.folder / SETTINGS)]
    return [*train, "--out", str(run.folder), "--quiet"]


def _outcome(result: RunResult | None, job: Job) -> str:
    if result is None:
        return f"failed: {reason}" if (reason := _reason(job.log)) else "failed"
    metric = METRICS[result.metric]
    return f"{duration(result.seconds)}, {metric.name} {metric.text(result.final)}{metric.unit}"


def _check(failed: Sequence[tuple[PlannedRun, Path | None]], count: int) -> None:
    """Raise an error that names the failed runs and their logs, and quotes the first.

    Args:
        failed: Each with its log.
        count: The number of all runs.
    """
    if not failed:
        return
    names = "; ".join(f"{run} ({log or 'see above'})" for run, log in failed)
    reasons = {str(run): _reason(log) for run, log in failed}
    first = next(iter(reasons.values()))
    raise RunsFailed(
        f"{len(failed)} of {count} runs failed: {names}" + (f"; the first says: {first}" if first else ""), reasons
    )


def _reason(log: Path | None) -> str:
    """Return the last line of a run's log, without the name of the command; empty without one."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log is not None and log.exists() else []
    return next((line.removeprefix("tripletcl: ") for line in reversed(lines) if line.strip()), "")


def processes(config: Config, runs: int) -> list[Environment]:
    """Return the variables of each parallel process, as many as `compare.jobs`; none for a single one.

    Each gets a GPU of its own while there are enough, and its share of the cores: two processes of one thread train
    more than one of two threads.
    """
    gpus = visible_gpus() if config.device != "cpu" else []
    jobs = config.compare.jobs if config.compare.jobs != "auto" else len(gpus) or _cores()
    jobs = min(jobs, runs)
    if jobs <= 1:
        return [{}]
    return [
        {"OMP_NUM_THREADS": str(_threads(jobs)), **({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {})}
        for i in range(jobs)
    ]


def _cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads(running: int) -> int:
    """Return the number of threads of each of some processes that run at the same time."""
    cores = _cores()
    allowed = int(os.environ.get("OMP_NUM_THREADS", "").partition(",")[0] or cores)
    return min(max(cores // running, 1), allowed)


def visible_gpus() -> list[str]:
    """Return the names of this process's GPUs in CUDA_VISIBLE_DEVICES."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return (named.split(",") if named else [str(number) for number in range(count)])[:count]


def comparison_objects(results: list[RunResult]) -> list[dict[str, Any]]:
    """Return the figures of each run for scripts.

    `gap_closed` compares with the finetune and joint runs of the same split and seed, and `new_tasks` (objects only)
    with the finetune run.
    """
    return [
        {
            "method": run.method,
            "seed": run.seed,
            "split": run.split,
            **(_fact_figures(run) if run.metric == "MAP" else _object_figures(run, results)),
            "forgetting": run.forgetting,
            "backward_transfer": run.backward_transfer,
            "gap_closed": gap_closed_among(run, results),
            "seconds": run.seconds,
            "method_bytes": run.method_bytes,
            "lams": run.lams,
        }
        for run in results
    ]


def _fact_figures(run: RunResult) -> dict[str, Any]:
    return {
        "map_tasks": run.scores,
        "map_all": run.final,
        "forward_transfer": run.forward_transfer,
        "recall": run.recall,
        "mrr": run.mrr,
        "map_open": run.map_open,
        "map_subset": run.map_subset,
    }


def _object_figures(run: RunResult, results: list[RunResult]) -> dict[str, Any]:
    return {
        "tasks": run.tasks,
        "metric": run.metric,
        "accuracy_tasks": run.scores,
        "average_accuracy": run.final,
        "drops": run.drops,
        "new_tasks": new_tasks_among(run, results),
    }
