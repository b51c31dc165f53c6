"""The commands. Each imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tripletcl.cli.drift import drift, upgrade
from tripletcl.cli.field import adapt, tasks, teach
from tripletcl.cli.index import index_app
from tripletcl.cli.options import AsJson, ConfigArgument, Overrides, RunArgument, Stage, ready
from tripletcl.cli.query import describe, query
from tripletcl.cli.recognise import recognise
from tripletcl.cli.serve import serve
from tripletcl.cli.unseen import print_unseen
from tripletcl.errors import UserError

if TYPE_CHECKING:
    from tripletcl.data import CheckReport
    from tripletcl.evaluation import RunResult

ROWS_SHOWN = 8

app = typer.Typer(
    name="tripletcl",
    help="Learn <subject, predicate, object> facts from images, task after task, without forgetting, and query them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
data_app = typer.Typer(help="Look at data before training on it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
app.add_typer(index_app, name="index")
for command in (query, describe, recognise, adapt, teach, tasks, drift, serve):
    app.command()(command)
index_app.command()(upgrade)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the runs and the page.")] = Path("runs/demo"),
    overrides: Overrides = None,
) -> None:
    """Learn four groups of facts on drawn scenes by fine-tuning, MAS and jointly; write a page with what happened."""
    _compare("demo", overrides, out, as_json=False)


@app.command()
def train(
    config: Annotated[
        str | None, typer.Argument(help="A YAML file, or the name of a shipped config; with --continue a table.")
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; an interrupted run there goes on.")] = None,
    go_on: Annotated[
        Path | None,
        typer.Option("--continue", metavar="RUN", help="Learn a further table as one more task of this run."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train one method on a sequence of tasks; the same command again goes on where it stopped.

    A finished run learns on: tripletcl train --continue RUN TABLE.csv
    """
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.cpu import keep_freed_memory
    from tripletcl.report import print_tables

    keep_freed_memory()
    with progress_bars(console):
        result, folder = _train(config, overrides or [], out, go_on)
    if as_json:
        print(json.dumps(result.to_dict()))
    elif not quiet:
        print_tables([result])
        print(f"run folder: {folder}")


def _train(config: str | None, overrides: list[str], out: Path | None, go_on: Path | None) -> tuple[RunResult, Path]:
    """Train a config, or go on with a run; the result and the run's folder."""
    from tripletcl.config import load_config
    from tripletcl.methods import method_name
    from tripletcl.runs.continue_run import continue_run
    from tripletcl.runs.train import train

    if go_on is not None:
        if out is not None:
            raise UserError("a run that goes on stays where it is: --continue and --out do not go together")
        if config is not None and "=" in config:  # a setting, and no table
            overrides, config = [config, *overrides], None
        table = None if config is None else Path(config)
        return continue_run(go_on, table, overrides), go_on
    if config is None:
        raise UserError("name a config to train, or a run to go on with: tripletcl train --continue RUN TABLE")
    settings = load_config(config, overrides)
    folder = out or Path("runs") / f"{Path(config).stem}-{method_name(settings.method)}-seed{settings.seed}"
    return train(settings, folder), folder


@app.command()
def compare(
    config: ConfigArgument,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs, the tables and the page.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the config's methods on its splits with its seeds, side by side; leave one table and one page."""
    _compare(config, overrides, out or Path("runs") / Path(config).stem, as_json)


@app.command()
def evaluate(
    run: RunArgument,
    stage: Stage = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="Only facts never taught, of units that were.")] = False,
    as_json: AsJson = False,
) -> None:
    """Embed the test images with a run's model and print MAP per task and over all, recall and the rest.

    Of a run that learned to recognise objects: the accuracy on each task, and their average.
    """
    console = ready()
    if unseen:
        print_unseen(run, stage, as_json)
        return
    from tripletcl.cli.progress import progress_bars
    from tripletcl.runs.evaluate import evaluate as compute

    with progress_bars(console):
        scores = compute(run, stage)
    if as_json:
        print(json.dumps([scores]))
    elif "accuracy_tasks" in scores:
        _print_accuracies(f"{run}, after task {scores['stage']}", scores)
    else:
        _print_maps(f"{run}, after task {scores['stage']}", scores)


def _print_accuracies(title: str, scores: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tripletcl.report.formatting import percent

    table = Table(title=title, show_footer=True)
    table.add_column("task", "average of those learned")
    table.add_column("accuracy, %", percent(scores["average_accuracy"]), justify="right")
    for task, accuracy in zip(scores["tasks"], scores["accuracy_tasks"], strict=True):
        table.add_row(task, percent(accuracy))
    Console().print(table)


def _print_maps(title: str, scores: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tripletcl.report.formatting import fraction

    table = Table(title=title)
    for column in ("gallery", *scores["tasks"], "all facts"):
        table.add_column(column, justify="right")
    table.add_row("own images", *map(fraction, scores["map_tasks"]), "")
    table.add_row("all test images", *map(fraction, scores["map_tasks_all"]), fraction(scores["map_all"]))
    Console().print(table)
    recall = ", ".join(f"recall@{k} {fraction(value)}" for k, value in scores["recall"].items())
    print(f"image to fact: {recall}, MRR {fraction(scores['mrr'])}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file; default report.html beside the first run.")] = None,
) -> None:
    """Write one self-contained page: table, task x stage matrices, curves, forgetting, example queries."""
    ready()
    from tripletcl.compare.write import write_summary

    target = out or runs[0] / "report.html"
    write_summary(runs, target)
    print(f"page: {target}")


@app.command()
def methods(as_json: AsJson = False) -> None:
    """List the methods: their properties, and their settings with defaults."""
    ready()
    from tripletcl.report import described_methods

    described = described_methods()
    if as_json:
        print(json.dumps(described))
        return
    for method in described:
        _print_method(method)


@data_app.command("check")
def data_check(
    file: Annotated[Path, typer.Argument(help="A CSV, JSON Lines or Parquet file.")],
    root: Annotated[Path | None, typer.Option(help="Folder that the image paths are relative to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Count a fact table and report missing and broken images, facts without a test image, leaks: with row numbers."""
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.data import check_table

    with progress_bars(console):
        found = check_table(file, root)
    if as_json:
        print(json.dumps(found.to_dict()))
    else:
        _print_check(found)
    if not found.ok:
        raise typer.Exit(1)


@data_app.command("scenes")
def data_scenes(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    facts: Annotated[int, typer.Option(help="How many facts.")] = 150,
    train: Annotated[int, typer.Option(help="Training images a fact.")] = 12,
    test: Annotated[int, typer.Option(help="Test images a fact.")] = 5,
    size: Annotated[int, typer.Option(help="Pixels.")] = 128,
    seed: int = 0,
) -> None:
    """Draw the scenes data set into a folder: images and facts.csv."""
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.scenes import write_scenes

    with progress_bars(console):
        table = write_scenes(
            folder,
            facts=facts,
            train=train,
            test=test,
            size=size,
            seed=seed,
        )
    print(table)


@data_app.command("sets")
def data_sets(as_json: AsJson = False) -> None:
    """List the object-recognition sets that can be read: where each is published, and what must lie under its root."""
    from tripletcl.data.sets import OBJECT_SETS

    if as_json:
        keys = ("what", "address", "layout")
        sets = [
            {"set": kind, **{key: getattr(source, key) for key in keys}, "download": source.download is not None}
            for kind, source in OBJECT_SETS.items()
        ]
        print(json.dumps(sets))
        return
    for kind, source in OBJECT_SETS.items():
        fetched = "; `download: true` fetches it" if source.download is not None else ""
        print(f"{kind}: {source.what}\n  from: {source.address}{fetched}\n  under the root: {source.layout}")


def _compare(config: str, overrides: list[str] | None, out: Path, as_json: bool) -> None:
    console = ready()
    from tripletcl.compare.plan import compare as run_all
    from tripletcl.compare.plan import comparison_objects, method_properties, plan
    from tripletcl.compare.write import write_page, write_tables
    from tripletcl.config import load_config
    from tripletcl.report import print_tables

    settings = load_config(config, overrides or ())
    results = run_all(settings, out, lambda text: console.print(text, style="dim", highlight=False))
    write_tables(results, method_properties(settings), out)
    words = ["tripletcl", "compare", config, *(overrides or ()), "--out", str(out)]
    by_folder = {run.folder: result for run, result in zip(plan(settings, out), results, strict=True)}
    page = write_page(by_folder, out / "report.html", command=shlex.join(words))
    if as_json:
        print(json.dumps(comparison_objects(results)))
        return
    print_tables(results)
    print(f"page: {page}\ntables: {out}/table.md, table.csv, table.tex, properties.md; compare.json")


def _print_method(method: dict[str, Any]) -> None:
    import textwrap

    from tripletcl.report import PROPERTY_TITLES

    kept = [PROPERTY_TITLES[key] for key, value in method["properties"].items() if value and not method["joint"]]
    print(f"{method['name']}: {method['summary']}")
    settings = [f"{key} {_setting(setting)}" for key, setting in method["settings"].items()]
    for title, entries in (("properties", kept), ("settings", settings)):
        if entries:
            whole = ", ".join(entry.replace(" ", "\N{NO-BREAK SPACE}") for entry in entries)  # lines break between them
            lines = textwrap.fill(f"{title}: {whole}", 96, initial_indent="  ", subsequent_indent="    ")
            print(lines.replace("\N{NO-BREAK SPACE}", " "))


def _setting(setting: dict[str, Any]) -> str:
    """The default, and what else is allowed where that can be counted."""
    others = [choice for choice in setting["choices"] if choice != setting["default"]]
    return " | ".join(json.dumps(value).strip('"') for value in [setting["default"], *others])


def _print_check(found: CheckReport) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"{found.path}: {found.rows} rows, {found.images} images, {found.facts} facts")
    orders = ", ".join(f"{count} of order {order}" for order, count in found.facts_by_order.items())
    spread = ", ".join(f"{name} {value:.3g}" for name, value in found.rows_per_image.items())
    print(f"facts: {orders}; rows an image: {spread}")
    table = Table("split", "rows", "images", "facts", box=None)
    for split, counts in found.splits.items():
        table.add_row(split, *(str(counts[key]) for key in ("rows", "images", "facts")))
    Console().print(table)
    for problem in found.problems:
        rows = ", ".join(map(str, problem.rows[:ROWS_SHOWN])) + (", ..." if len(problem.rows) > ROWS_SHOWN else "")
        print(f"{problem.kind} ({found.counted_in} {rows}): {problem.message}")
    count = len(found.problems)
    print("no problem found" if found.ok else f"{count} problem{'s' * (count > 1)}")
