"""Tables and the page of finished runs, from their folders; no model is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tripletcl.config import dump_config
from tripletcl.data import Fact, FactTable
from tripletcl.data.images import Photo
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult, cosine_sums, unit_blocks
from tripletcl.files import read_json, write_text
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

EXAMPLE_HITS = 8
"""The number of results of an example query."""

TRAINING_IMAGES = 8
"""Most training images of a task."""


def write_tables(
    results: Sequence[RunResult], properties: MethodProperties, out: Path, failed: Mapping[str, str] | None = None
) -> None:
    """Write the comparison as Markdown, CSV and LaTeX, and the properties of its methods as Markdown.

    Args:
        failed: The reason of each run that failed, by its name.
    """
    for name, text in written_tables(results, failed).items():
        write_text(out / name, text)
    write_text(out / "properties.md", markdown_table(properties_table(properties)))


def write_summary(folders: Sequence[Path], page: Path, command: str | None = None) -> Path:
    """Write one self-contained page of the finished runs in some folders.

    Args:
        folders: Run folders, or folders with runs in them.
        page: The HTML file.
        command: The command that repeats the runs.

    Raises:
        UserError: no run there is finished, or as `write_page`.
    """
    runs = [run for folder in folders for run in _runs(folder)]
    results = {run.path: result for run in runs if (result := named_result(run)) is not None}
    if not results:
        raise UserError(f"no finished run in {', '.join(map(str, folders))}")
    if without := [path for path, result in results.items() if not result.tasks]:
        raise UserError(f"{without[0]} has learned no task yet, so there is nothing to report")
    return write_page(results, page, command)


def _runs(folder: Path) -> list[StoredRun]:
    if (folder / SETTINGS).exists():
        return [open_run(folder)]
    runs = [open_run(path) for path in run_folders(folder)]
    return runs or [open_run(folder)]  # the latter names the problem of the folder


def named_result(run: StoredRun) -> RunResult | None:
    """The run's figures; under the label in its folder's name where it is that of a run of a comparison.

    Such a folder is called `mas-lam3-split0-seed0`.
    """
    if (result := run.result) is None:
        return None
    label = re.sub(r"-split-?\d+-seed-?\d+$", "", run.path.name.removesuffix(run.settings.suffix))
    return replace(result, method=label) if label.startswith(f"{result.method}-") else result


def write_page(results: Mapping[Path, RunResult], page: Path, command: str | None = None) -> Path:
    """Write one self-contained page of finished runs.

    Args:
        results: The figures of each run by its folder, under the name that the method has on the page.
        page: The HTML file.
        command: The command that repeats the runs.

    Raises:
        UserError: some of the runs learned facts and some objects, or from other tables.
    """
    runs = [open_run(folder) for folder in results]
    if len({run.learns for run in runs}) > 1:
        raise UserError("some of these runs learned facts and some objects: a page is of either")
    check_same_data(runs)
    environment = read_json(runs[0].path / ENVIRONMENT)
    write_report(
        page,
        list(results.values()),
        settings=dump_config(runs[0].settings),
        environment=environment,
        properties={results[run.path].method: properties_of(run.settings.method) for run in runs},
        command=command,
        sweeps=_sweeps(runs, results),
        **CONTENTS[runs[0].learns](runs, results),
    )
    return page


def check_same_data(runs: Sequence[StoredRun]) -> None:
    """Check that runs learned from the same rows and photos, as far as that is known: figures of others do not compare.

    Raises:
        UserError: two of them did not.
    """
    known: dict[str, tuple[str, StoredRun]] = {}
    for run in runs:
        for name, digest in run.data_digests.items():
            other, first = known.setdefault(name, (digest, run))
            if other != digest:
                raise UserError(
                    f"{first.path} and {run.path} learned from other rows or images, so their figures do not compare"
                )


def _sweeps(runs: Sequence[StoredRun], results: Mapping[Path, RunResult]) -> dict[str, dict[str, float]]:
    """Methods whose runs differ in one lam: by the label without it, the lam of each label."""
    sweeps: dict[str, dict[str, float]] = {}
    for run in runs:
        label = results[run.path].method
        for lam in (settings.get("lam") for settings in run.settings.method):
            if isinstance(lam, float) and (name := label.replace(f"-lam{lam}", "")) != label:
                sweeps.setdefault(name, {})[label] = lam
    return sweeps


def _objects(runs: Sequence[StoredRun], results: Mapping[Path, RunResult]) -> dict[str, Any]:
    """Title and training images of runs that learned objects, without images that are missing by now."""
    images: dict[str, list[str]] = {}
    for run in runs:
        for task in run.read_tasks():
            images.setdefault(task["name"], task["images"])
    return {
        "title": "Objects learned task after task",
        "scenes": [(task, path) for task, paths in images.items() for path in map(Path, paths) if path.exists()],
    }


def _facts(runs: Sequence[FactRun], results: Mapping[Path, RunResult]) -> dict[str, Any]:
    """Title, example queries and training images of runs that learned facts; of the first sequence, split and seed."""
    first = results[runs[0].path]
    same = [run for run in runs if _sample(results[run.path]) == _sample(first)]
    table = runs[0].table()
    vectors = {results[run.path].method: run.vectors() for run in same}
    tasks = same[0].read_tasks()[: len(first.tasks)]
    return {
        "title": "Facts learned task after task",
        "examples": [_example(fact, task, table, vectors) for task, fact in enumerate(example_facts(table, tasks), 1)],
        "scenes": [(f"task {t}", path) for t, facts in enumerate(tasks, 1) for path in _training_images(table, facts)],
        "drifts": _drifts(runs, results),
    }


CONTENTS: dict[str, Callable[[Any, Mapping[Path, RunResult]], dict[str, Any]]] = {"facts": _facts, "objects": _objects}
"""The parts of the page that depend on what the runs learn."""


def _sample(result: RunResult) -> tuple[Any, ...]:
    """The property that runs on the same images share."""
    return result.split, result.seed, *result.tasks


def _drifts(runs: Sequence[FactRun], results: Mapping[Path, RunResult]) -> dict[str, list[dict[str, Any]]]:
    """The measurements of `tripletcl drift` on the runs, by method."""
    drifts: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if (measured := read_drift(run.path)) is not None:
            drifts.setdefault(results[run.path].method, []).append(measured)
    return drifts


def example_facts(table: FactTable, tasks: Sequence[Sequence[int]]) -> list[int]:
    """Choose a fact of each task as its example: the one with most units and then most test images.

    The choice depends on no result.

    Args:
        table: The facts and their images.
        tasks: The ids of the facts of each task.
    """
    count = np.bincount(table.rows_of("test")[:, 1], minlength=len(table.facts))
    facts = table.facts
    return [int(max(group, key=lambda fact: (facts[fact].order, count[fact], -fact))) for group in tasks]


def _example(fact: int, task: int, table: FactTable, vectors: Mapping[str, Mapping[str, Tensor]]) -> ExampleQuery:
    """The results of each method for a fact; vectors are `FactRun.vectors` by method."""
    results = {method: _hits(fact, table, stage) for method, stage in vectors.items()}
    return ExampleQuery(_as_query(table.facts[fact]), f"task {task}", results)


def _hits(fact: int, table: FactTable, vectors: Mapping[str, Tensor]) -> list[ExampleHit]:
    images = vectors["image_ids"].numpy()
    scores = cosine_sums(unit_blocks(vectors["images"]), unit_blocks(vectors["facts"][[fact]]))[:, 0].numpy()
    if "closed" in vectors:  # the evaluation adds it to the mean cosine, so here to the sum as often as there are units
        scores = scores + table.facts[fact].order * vectors["closed"][:, fact].numpy()
    relevant = table.relevance("test", images, np.array([fact])).toarray()[:, 0]
    existing = (i for i in np.argsort(-scores, kind="stable") if table.photos[images[i]].exists())
    best = islice(existing, EXAMPLE_HITS)
    return [ExampleHit(table.photos[images[i]], float(scores[i]), bool(relevant[i])) for i in best]


def _training_images(table: FactTable, facts: Sequence[int]) -> list[Photo]:
    """At most `TRAINING_IMAGES` of a task's training images, evenly spaced among those that still exist."""
    images = np.unique(table.rows_of("train", np.array(facts))[:, 0])
    photos = [table.photos[image] for image in images if table.photos[image].exists()]
    places = np.linspace(0, len(photos) - 1, min(TRAINING_IMAGES, len(photos))).astype(int)
    return [photos[place] for place in places]


def _as_query(fact: Fact) -> str:
    return " ".join(f'"{unit}"' if " " in unit else unit for unit in fact.units if unit is not None)
