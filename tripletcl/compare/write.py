"""From run folders to tables and the page: reads what runs left behind, needs no model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tripletcl.config import dump_config
from tripletcl.data import Fact, FactTable
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult, cosine_sums, unit_blocks
from tripletcl.files import write_text
from tripletcl.report import (
    ExampleHit,
    ExampleQuery,
    MethodProperties,
    markdown_table,
    properties_of,
    properties_table,
    write_report,
    written_tables,
)
from tripletcl.runs.drift import read_drift
from tripletcl.runs.kinds import open_run
from tripletcl.runs.layout import ENVIRONMENT, SETTINGS, run_folders
from tripletcl.runs.stored import FactRun, StoredRun

HITS_SHOWN = 8
TRAINING_IMAGES_SHOWN = 8


def write_tables(results: Sequence[RunResult], properties: MethodProperties, out: Path) -> None:
    """The comparison as Markdown, CSV and LaTeX, and the properties of its methods as Markdown."""
    for name, text in written_tables(results).items():
        write_text(out / name, text)
    write_text(out / "properties.md", markdown_table(properties_table(properties)))


def write_summary(folders: Sequence[Path], page: Path, command: str | None = None) -> Path:
    """One self-contained page of finished runs.

    Args:
        folders: Run folders, or folders with runs in them.
        command: What made the runs, for the reader who wants to repeat it.

    Raises:
        UserError: no run there is finished, or some learned facts and some objects.
    """
    runs = [run for folder in folders for run in _runs(folder)]
    results = {run.path: result for run in runs if (result := named_result(run)) is not None}
    if not results:
        raise UserError(f"no finished run in {', '.join(map(str, folders))}")
    finished = [run for run in runs if run.path in results]
    of_facts = [run for run in finished if isinstance(run, FactRun)]
    if 0 < len(of_facts) < len(finished):
        raise UserError("some of these runs learned facts and some objects: a page is of either")
    environment = json.loads((finished[0].path / ENVIRONMENT).read_text(encoding="utf-8"))
    write_report(
        page,
        list(results.values()),
        settings=dump_config(finished[0].settings),
        environment=environment,
        properties={results[run.path].method: properties_of(run.settings.method) for run in finished},
        command=command,
        sweeps=_sweeps(finished, results),
        **(_about_facts(of_facts, results) if of_facts else _about_objects(finished)),
    )
    return page


def _about_facts(runs: Sequence[FactRun], results: dict[Path, RunResult]) -> dict[str, Any]:
    """What the page shows of the images: those of the first run's sequence, split and seed."""
    first = results[runs[0].path]  # of the same tasks are those of the same split alone
    key = (first.split, first.seed, first.tasks)
    shown = [run for run in runs if (of := results[run.path]) and (of.split, of.seed, of.tasks) == key]
    table = runs[0].table()
    vectors = {results[run.path].method: run.vectors() for run in shown}
    groups = _groups(shown[0], len(first.tasks))
    return {
        "title": "Facts learned task after task",
        "examples": [_example(fact, task, table, vectors) for task, fact in enumerate(example_facts(table, groups))],
        "scenes": [(f"task {t + 1}", path) for t, of in enumerate(groups) for path in _training_images(table, of)],
        "drifts": _drifts(runs, results),
    }


def _about_objects(runs: Sequence[StoredRun]) -> dict[str, Any]:
    """Of each task that any run learned some training images, those that are still there."""
    images: dict[str, list[str]] = {}
    for run in runs:
        for task in run.read_tasks():
            images.setdefault(task["name"], task["images"])
    return {
        "title": "Objects learned task after task",
        "scenes": [(name, path) for name, of in images.items() for path in map(Path, of) if path.exists()],
    }


def _sweeps(runs: Sequence[StoredRun], results: dict[Path, RunResult]) -> dict[str, dict[str, float]]:
    """Of methods whose runs differ in one lam, the lam of each label; by the label without it."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        label = results[run.path].method
        for lam in (settings.get("lam") for settings in run.settings.method):
            if isinstance(lam, float) and (name := label.replace(f"-lam{lam}", "")) != label:
                found.setdefault(name, {})[label] = lam
    return found


def _runs(folder: Path) -> list[StoredRun]:
    if (folder / SETTINGS).exists():
        return [open_run(folder)]
    found = [open_run(path) for path in run_folders(folder)]
    return found or [open_run(folder)]  # the latter says what is wrong with the folder


def named_result(run: StoredRun) -> RunResult | None:
    """The run's figures under the name of its folder where a comparison gave it one (`mas-lam3-split0-seed0`)."""
    if (result := run.result) is None:
        return None
    label = re.sub(r"-split-?\d+-seed-?\d+$", "", run.path.name.removesuffix(run.settings.suffix))
    return replace(result, method=label) if label.startswith(f"{result.method}-") else result


def _drifts(runs: Sequence[FactRun], results: dict[Path, RunResult]) -> dict[str, list[dict[str, Any]]]:
    """What `tripletcl drift` measured on runs, by method."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if (measured := read_drift(run.path)) is not None:
            found.setdefault(results[run.path].method, []).append(measured)
    return found


def _groups(run: FactRun, tasks: int) -> list[np.ndarray]:
    """The fact ids of each task."""
    groups = run.read_tasks()
    return [np.array(group) for group in groups[:tasks]]


def example_facts(table: FactTable, groups: Sequence[Sequence[int] | np.ndarray]) -> list[int]:
    """Choose a fact of each task as its example: the one with most units and then most test images.

    The choice depends on no result.
    """
    count = np.bincount(table.rows_of("test")[:, 1], minlength=len(table.facts))
    facts = table.facts
    return [int(max(group, key=lambda fact: (facts[fact].order, count[fact], -fact))) for group in groups]


def _example(fact: int, task: int, table: FactTable, vectors: dict[str, dict[str, Tensor]]) -> ExampleQuery:
    """What each method finds for a fact; vectors are `FactRun.vectors` by method."""
    found = {method: _hits(fact, table, of_method) for method, of_method in vectors.items()}
    return ExampleQuery(_as_query(table.facts[fact]), f"task {task + 1}", found)


def _hits(fact: int, table: FactTable, vectors: dict[str, Tensor]) -> list[ExampleHit]:
    images = vectors["image_ids"].numpy()
    scores = cosine_sums(unit_blocks(vectors["images"]), unit_blocks(vectors["facts"][[fact]]))[:, 0].numpy()
    if "closed" in vectors:  # as in the evaluation: added to the mean cosine, so as often as there are units to the sum
        scores = scores + table.facts[fact].order * vectors["closed"][:, fact].numpy()
    relevant = table.relevance("test", images, np.array([fact]))[:, 0]
    there = (i for i in np.argsort(-scores, kind="stable") if table.paths[images[i]].exists())
    best = list(islice(there, HITS_SHOWN))
    return [ExampleHit(table.paths[images[i]], float(scores[i]), bool(relevant[i])) for i in best]


def _training_images(table: FactTable, facts: np.ndarray) -> list[Path]:
    """Some of a task's training images, spread evenly over those that are still there."""
    images = np.unique(table.rows_of("train", facts)[:, 0])
    images = images[[table.paths[image].exists() for image in images]]
    if not len(images):
        return []
    chosen = images[np.linspace(0, len(images) - 1, min(TRAINING_IMAGES_SHOWN, len(images))).astype(int)]
    return [table.paths[i] for i in chosen]


def _as_query(fact: Fact) -> str:
    return " ".join(f'"{unit}"' if " " in unit else unit for unit in fact.units if unit is not None)
