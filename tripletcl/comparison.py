"""Several methods on the same sequence, process after process: finished runs are reused, cut-off ones go on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tripletcl.config import Config, dump_config, parse_config
from tripletcl.continual import RunFolder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult, gap_closed_among
from tripletcl.files import write_text
from tripletcl.methods import MethodSettings, method_name


@dataclass(frozen=True)
class PlannedRun:
    """One run of a comparison."""

    label: str
    seed: int
    config: Config
    folder: Path


def plan(config: Config, out: Path) -> list[PlannedRun]:
    """Every method with every seed, in the order they are run: all methods of a seed before the next seed."""
    labels = method_labels(config.compare.methods)
    return [
        PlannedRun(label, seed, single_run(config, method, seed), out / f"{label}-seed{seed}")
        for seed in config.compare.seeds
        for label, method in zip(labels, config.compare.methods, strict=True)
    ]


def single_run(config: Config, method: MethodSettings, seed: int) -> Config:
    """The comparison's config for one method and seed; the seed deals the facts anew, too."""
    values = config.model_dump(mode="json", exclude={"compare"})
    values |= {"method": method, "seed": config.seed + seed}
    values["data"]["split_seed"] += seed
    return parse_config(values, "compare")


def method_labels(methods: Iterable[MethodSettings]) -> list[str]:
    """A method's name, with its settings where a name comes twice: `mas`, or `mas-lam1.0` and `mas-lam3.0`."""
    methods = list(methods)
    names = [method_name(m) for m in methods]
    if len({json.dumps(m, sort_keys=True) for m in methods}) < len(methods):
        raise UserError(f"compare.methods names the same method with the same settings twice: {', '.join(names)}")
    return [
        name if names.count(name) == 1 else _with_settings(m, [n for n in methods if method_name(n) == name])
        for name, m in zip(names, methods, strict=True)
    ]


def _with_settings(method: MethodSettings, same: list[MethodSettings]) -> str:
    """The name and the settings in which it differs from others of the same name."""
    parts = [
        f"{key}{value}"
        for position, settings in enumerate(method)
        for key, value in settings.items()
        if len({str(other[position].get(key)) for other in same}) > 1
    ]
    return "-".join([method_name(method), *parts])


def compare(config: Config, out: Path, announce: Callable[[str], None] = lambda text: None) -> list[RunResult]:
    """Run what is not done yet, each run in a process of its own, and return all results.

    Raises:
        UserError: a run failed; the others' results are kept.
    """
    results = []
    runs = plan(config, out)
    for number, run in enumerate(runs, 1):
        folder = RunFolder(run.folder, dump_config(run.config))
        if folder.result is None:
            announce(f"{number}/{len(runs)}: {run.label}, seed {run.seed}")
            command = [sys.executable, "-m", "tripletcl", "train", str(run.folder / "config.yaml")]
            ended = subprocess.run([*command, "--out", str(run.folder), "--quiet"], check=False)
            if ended.returncode != 0 or folder.result is None:
                raise UserError(f"the run {run.label}, seed {run.seed} failed (see above); its folder is {run.folder}")
        assert folder.result is not None
        results.append(replace(RunResult.from_dict(folder.result), method=run.label))
    write_text(out / "compare.json", json.dumps(comparison_objects(results), indent=1))
    return results


def comparison_objects(results: list[RunResult]) -> list[dict[str, Any]]:
    """One object a run, for scripts. `gap_closed` is against the finetune and joint runs of the same seed."""
    return [
        {
            "method": r.method,
            "seed": r.seed,
            "split": r.split,
            "map_tasks": r.map_tasks,
            "map_all": r.map_all_final,
            "forgetting": r.forgetting,
            "backward_transfer": r.backward_transfer,
            "forward_transfer": r.forward_transfer,
            "recall": r.recall,
            "mrr": r.mrr,
            "gap_closed": gap_closed_among(r, results),
            "seconds": r.seconds,
        }
        for r in results
    ]
