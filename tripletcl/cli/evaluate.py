"""Commands that measure a run again: on its test images, and what its photo index is worth after more was learned."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from tripletcl.cli.options import AsJson, RunArgument, Stage
from tripletcl.cli.output import print_table, ready, say, working
from tripletcl.errors import UserError


def evaluate(
    run: RunArgument,
    stage: Stage = None,
    unseen: Annotated[
        bool, typer.Option("--unseen", help="Only facts that were never taught, made of units that were.")
    ] = False,
    probe: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="NAME ROOT",
            help="Photos that show a fact against photos verified not to: vsr or vsr_zeroshot (VSR, by relation) or "
            "svo (SVO-Probes, by the unit that is wrong), in the folder ROOT as published.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Embed the test images with a run's model and print MAP per task and over all facts, recall and MRR.

    For a run that learned to recognise objects: the accuracy on each task, and their average.
    """
    if unseen:
        ready()
        _evaluate_unseen(run, stage, as_json)
        return
    if probe is not None:
        _evaluate_probe(run, stage, *probe, as_json)
        return
    with working():
        from tripletcl.runs.evaluate import evaluate as compute

        scores = compute(run, stage)
    title = f"{run}, after task {scores['stage']}"
    if as_json:
        say(json.dumps([scores]))
    elif "accuracy_tasks" in scores:
        _print_accuracies(title, scores)
    else:
        _print_maps(title, scores)


def _print_accuracies(title: str, scores: dict[str, Any]) -> None:
    from tripletcl.report.formatting import percent

    tasks = zip(scores["tasks"], map(percent, scores["accuracy_tasks"]), strict=True)
    average = ("average of learned tasks", percent(scores["average_accuracy"]))
    print_table(["task", "accuracy, %"], [*tasks, average], title)


def _print_maps(title: str, scores: dict[str, Any]) -> None:
    from tripletcl.report.formatting import fraction, negatives, total

    own, of_all = ([fraction(score) for score in scores[key]] for key in ("map_tasks", "map_tasks_all"))
    rows = [["own images", *own, ""], ["all test images", *of_all, fraction(scores["map_all"])]]
    rows.append(["negatives", *map(negatives, scores["verified"]), negatives(total(scores["verified"]))])
    print_table(["gallery", *scores["tasks"], "all facts"], rows, title)
    recall = ", ".join(f"recall@{k} {fraction(value)}" for k, value in scores["recall"].items())
    say(f"image to fact: {recall}, MRR {fraction(scores['mrr'])}")


def _evaluate_probe(path: Path, stage: int | None, name: str, root: Path, as_json: bool) -> None:
    with working():
        from tripletcl.report.formatting import fraction
        from tripletcl.runs.probe import probe

        scores = probe(path, name, root, stage)
    if as_json:
        say(json.dumps([scores]))
        return
    groups = [key.partition("/")[2] for key in scores if key.startswith("accuracy")]
    keys = [(group or "all", f"/{group}" if group else "") for group in groups]
    rows = [(group, fraction(scores[f"accuracy{key}"]), fraction(scores[f"auc{key}"])) for group, key in keys]
    print_table(["photos that do not show the fact", "accuracy", "AUC"], rows, f"{path}: probe {name}")
    counts = f"{scores['facts']:.0f} facts, {scores['shown']:.0f} photos that show them, {scores['not_shown']:.0f} that"
    say(f"{counts} do not; chance {fraction(0.5)}")


def _evaluate_unseen(path: Path, stage: int | None, as_json: bool) -> None:
    """Print how well a stage finds facts that it was never taught, next to those it was and to chance.

    Raises:
        UserError: there is no such fact, no such stage, or the run's table is missing.
    """
    from tripletcl.report.formatting import fraction
    from tripletcl.runs.calibrate import stage_unseen
    from tripletcl.runs.stored import FactRun

    run = FactRun.open(path)
    number = run.stage(stage)
    scores = stage_unseen(run, number)
    if as_json:
        say(json.dumps([{"stage": number, **asdict(scores)}]))
        return
    if scores.map_unseen is None:
        raise UserError(
            f"at stage {number} of {path} no fact with a test image is unseen: every fact whose units were taught was "
            "taught itself; choose an earlier stage with --stage, or train with data.unseen"
        )
    rows = [
        ("never taught, of units that were", str(scores.unseen), fraction(scores.map_unseen)),
        ("taught", str(scores.taught), fraction(scores.map_taught)),
    ]
    print_table(["facts", "number", "MAP"], rows, f"{path}, after task {number}")
    say(f"chance {fraction(scores.chance)}; by vectors only, over all test images")
    for fact, ap in sorted(scores.ap, key=lambda pair: -pair[1]):
        say(f"{fraction(ap)}  {fact}")


def drift(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    stage: Annotated[
        list[int] | None,
        typer.Option(help="Stage of an index to measure; may be repeated; default all but the last."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again what has been measured.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure what a photo index is worth after more was learned: stale, upgraded, or with all photos re-embedded."""
    with working():
        from tripletcl.runs.drift import measure_drift, read_drift

        results = []
        for run in runs:
            stored = None if again or stage else read_drift(run)
            results.append({"run": str(run), **(stored or measure_drift(run, stage))})
    if as_json:
        say(json.dumps(results))
        return
    for result in results:
        _print_drift(result)


def _print_drift(result: dict[str, Any]) -> None:
    from tripletcl.evaluation.compatibility import GROUPS
    from tripletcl.report.formatting import MISSING, fraction
    from tripletcl.runs.drift import WAYS

    rows = []
    for upgrade in result["upgrades"]:
        for group in GROUPS:
            maps = [fraction(upgrade["map"].get(way, {}).get(group)) for way in WAYS]
            recovered = fraction(upgrade["recovered"][group], 2)
            rows.append([f"stage {upgrade['from']}", upgrade.get("how", MISSING), group, *maps, recovered])
    title = f"{result['run']}: MAP of queries by the model of stage {result['stages'][-1]}"
    ways = ["re-embedded" if way == "reembedded" else way for way in WAYS]
    print_table(["index", "map", "facts", *ways, "recovered"], rows, title)
    figures = [
        f"{name} {fraction(result[name.lower()][group])} ({group} facts)"
        for name in ("AC", "AA")
        for group in ("all", "old")
    ]
    say(f"backward compatibility of the {len(result['stages'])} stages: {', '.join(figures)}")
