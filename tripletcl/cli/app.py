"""All commands, and those that train; each imports what it needs when it runs, so that `--help` is fast."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tripletcl.cli.data import data_app
from tripletcl.cli.duplicates import duplicates
from tripletcl.cli.embed import embed
from tripletcl.cli.evaluate import drift, evaluate
from tripletcl.cli.index import index_app
from tripletcl.cli.options import AsJson, ConfigArgument, Overrides, existing_run
from tripletcl.cli.output import ready, say, silent, working
from tripletcl.cli.photos import photos
from tripletcl.cli.query import RequestCommand, describe, query, recognise
from tripletcl.cli.serve import serve
from tripletcl.cli.teach import adapt, tasks, teach
from tripletcl.errors import UserError

if TYPE_CHECKING:
    from tripletcl.evaluation import RunResult

app = typer.Typer(
    name="tripletcl",
    help="Learn <subject, predicate, object> facts from images, task after task, without forgetting, and query them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the runs and the page.")] = Path("runs/demo"),
    overrides: Overrides = None,
) -> None:
    """Learn four groups of facts on drawn scenes by fine-tuning, by MAS and jointly, and write a page of results."""
    _compare("demo", overrides, out, as_json=False)


def train(
    config: Annotated[
        str | None, typer.Argument(help="A YAML file, or the name of a shipped config; with --continue a table.")
    ] = None,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; an interrupted run in it is resumed.")] = None,
    go_on: Annotated[
        Path | None,
        typer.Option(
            "--continue",
            metavar="RUN",
            help="Learn a further table as one more task of this run.",
            callback=existing_run,
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train one method on a sequence of tasks; the same command again resumes an interrupted run.

    A finished run learns one more task from a table: tripletcl train --continue RUN TABLE.csv

    Several processes train one run together: torchrun --nproc-per-node=4 -m tripletcl train ...
    """
    from tripletcl import group
    from tripletcl.cpu import keep_freed_memory

    with group.joined():
        with silent() if group.rank() else working():
            keep_freed_memory()
            result, folder = _train(config, overrides or [], out, go_on)
        if group.rank():
            return
    if as_json:
        say(json.dumps(result.to_dict()))
    elif not quiet:
        from tripletcl.report import print_tables

        print_tables([result])
        say(f"run folder: {folder}")


def _train(config: str | None, overrides: list[str], out: Path | None, go_on: Path | None) -> tuple[RunResult, Path]:
    """Train a config, or continue a run; returns the result and the run's folder."""
    from tripletcl import group
    from tripletcl.config import load_config_to_train
    from tripletcl.methods import method_name
    from tripletcl.runs.continue_run import continue_run
    from tripletcl.runs.train import train

    if go_on is not None:
        if group.size() > 1:
            raise UserError("--continue learns by one process only; torchrun is for the first training of a run")
        if out is not None:
            raise UserError("--continue and --out do not go together: a run is continued in its own folder")
        if config is not None and "=" in config:  # a setting, and no table
            overrides, config = [config, *overrides], None
        table = None if config is None else Path(config)
        return continue_run(go_on, table, overrides), go_on
    if config is None:
        raise UserError("name a config to train, or a run to continue: tripletcl train --continue RUN TABLE")
    settings = load_config_to_train(config, overrides)
    folder = out or Path("runs") / f"{Path(config).stem}-{method_name(settings.method)}-seed{settings.seed}"
    return train(settings, folder), folder


def compare(
    config: ConfigArgument,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the runs, the tables and the page.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="local, slurm (a job array) or ray (tasks); default compare.engine, which has its settings."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train the config's methods on its splits with its seeds; write one table and one page of all results."""
    _compare(config, overrides, out or Path("runs") / Path(config).stem, as_json, engine)


def _compare(config: str, overrides: list[str] | None, out: Path, as_json: bool, engine: str | None = None) -> None:
    console = ready()
    from tripletcl import group

    with group.joined():
        if group.size() > 1:
            raise UserError("compare starts a process for each run: call it without torchrun")
    from tripletcl.compare.plan import RunsFailed, comparison_objects, method_properties, plan
    from tripletcl.compare.plan import compare as run_all
    from tripletcl.compare.write import write_page, write_tables
    from tripletcl.config import load_config
    from tripletcl.report import print_tables

    settings = load_config(config, overrides or ())
    if engine is not None and engine != settings.compare.engine.name:  # else with the settings that the config has
        settings = load_config(config, [*(overrides or ()), f"compare.engine={engine}"])
    failure = None
    try:
        run_all(settings, out, lambda text: console.print(text, style="dim", markup=False, highlight=False))
    except RunsFailed as error:
        failure = error
    by_folder = {run.folder: result for run in plan(settings, out) if (result := run.result) is not None}
    if results := list(by_folder.values()):
        failed = {} if failure is None else failure.reasons
        write_tables(results, method_properties(settings), out, failed)
        words = ["tripletcl", "compare", config, *(overrides or ()), "--out", str(out)]
        page = write_page(by_folder, out / "report.html", command=shlex.join(words))
        if as_json:
            say(json.dumps(comparison_objects(results)))
        else:
            print_tables(results)
            say(f"page: {page}\ntables: {out}/table.md, table.csv, table.tex, properties.md; compare.json")
    if failure is not None:
        raise failure


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.")],
    out: Annotated[
        Path | None, typer.Option(help="The HTML file; default report.html in the first of these folders.")
    ] = None,
) -> None:
    """Write one self-contained page about runs: table, task x stage matrices, curves, forgetting, example queries."""
    ready()
    from tripletcl.compare.write import write_summary

    page = out or runs[0] / "report.html"
    write_summary(runs, page)
    say(f"page: {page}")


def methods(
    names: Annotated[
        list[str] | None, typer.Argument(help="Only these; a class of your own as package.module:Class.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the methods: their properties, and their settings with defaults."""
    ready()
    from tripletcl.report import described_methods

    described = described_methods(names or ())
    if as_json:
        say(json.dumps(described))
        return
    for method in described:
        _print_method(method)


def _print_method(method: dict[str, Any]) -> None:
    import textwrap

    from tripletcl.report import PROPERTY_TITLES

    properties = [PROPERTY_TITLES[key] for key, value in method["properties"].items() if value and not method["joint"]]
    say(f"{method['name']}: {method['summary']}")
    settings = [f"{key} {_setting(setting)}" for key, setting in method["settings"].items()]
    for title, entries in (("properties", properties), ("settings", settings)):
        if entries:
            whole = ", ".join(entry.replace(" ", "\N{NO-BREAK SPACE}") for entry in entries)  # lines break between them
            lines = textwrap.fill(f"{title}: {whole}", 96, initial_indent="  ", subsequent_indent="    ")
            say(lines.replace("\N{NO-BREAK SPACE}", " "))


def _setting(setting: dict[str, Any]) -> str:
    """The default, and the other choices where they can be listed."""
    others = [choice for choice in setting["choices"] if choice != setting["default"]]
    return " | ".join(json.dumps(value).strip('"') for value in [setting["default"], *others])


app.add_typer(data_app, name="data")
index_app.command()(duplicates)
app.add_typer(index_app, name="index")
LEARNING = (demo, train, compare, evaluate, report, methods, adapt, teach, tasks, drift)
app.command(cls=RequestCommand)(query)
for command in (*LEARNING, photos, describe, recognise, embed, serve):
    app.command()(command)
