"""The commands. Each imports what it needs when it runs, so that `--help` answers at once."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

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

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped config.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings over the config's: section.key=value.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
Stage = Annotated[int | None, typer.Option(help="The model after this task (0: before training); default the last.")]
Top = Annotated[int, typer.Option("-k", "--top", min=1, help="How many results.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the runs and the page.")] = Path("runs/demo"),
    overrides: Overrides = None,
) -> None:
    """Learn four groups of facts on drawn scenes by fine-tuning, MAS and jointly; write a page with what happened."""
    _compare("demo", overrides, out, as_json=False)


@app.command()
def train(
    config: ConfigArgument,
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; an interrupted run there goes on.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no result.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train one method on a sequence of tasks; the same command again goes on where it stopped."""
    console = _ready()
    from tripletcl import runs
    from tripletcl.cli.progress import progress_bars
    from tripletcl.config import load_config
    from tripletcl.methods import method_name

    settings = load_config(config, overrides or ())
    folder = out or Path("runs") / f"{Path(config).stem}-{method_name(settings.method)}-seed{settings.seed}"
    with progress_bars(console) as bars:
        result = runs.train(settings, folder, progress=bars.step, preparing=bars.count)
    if as_json:
        print(json.dumps(result.to_dict()))
    elif not quiet:
        _print_results([result])
        print(f"run folder: {folder}")


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
def evaluate(run: RunArgument, stage: Stage = None, as_json: AsJson = False) -> None:
    """Embed the test images with a run's model and print MAP per task and over all, recall and the rest."""
    console = _ready()
    from tripletcl import runs
    from tripletcl.cli.progress import progress_bars

    with progress_bars(console) as bars:
        scores = runs.evaluate(run, stage, bars.count)
    if as_json:
        print(json.dumps([scores]))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{run}, after task {scores['stage']}")
    for column in ("gallery", *scores["tasks"], "all facts"):
        table.add_column(column, justify="right")
    table.add_row("own images", *map(_score, scores["map_tasks"]), "")
    table.add_row("all test images", *map(_score, scores["map_tasks_all"]), _score(scores["map_all"]))
    Console().print(table)
    recall = ", ".join(f"recall@{k} {_score(value)}" for k, value in scores["recall"].items())
    print(f"image to fact: {recall}, MRR {_score(scores['mrr'])}")


@app.command()
def index(
    run: RunArgument,
    images: Annotated[Path, typer.Argument(help="A folder of images.")],
    out: Annotated[Path | None, typer.Option(help="Index folder; default RUN/index.")] = None,
    stage: Stage = None,
) -> None:
    """Embed a folder of images with a run's model, so that `query` can search it."""
    console = _ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.retrieval import FactIndex

    embedder = _embedder(run, stage)
    with progress_bars(console) as bars:
        built = FactIndex.build(embedder, images, progress=lambda done, total: bars.count("embedding", done, total))
    folder = out or run / "index"
    built.save(folder)
    print(f"{len(built)} images indexed in {folder}")
    for path, reason in built.skipped:
        print(f"left out: {path}: {reason}")


@app.command()
def query(
    run: RunArgument,
    units: Annotated[list[str], typer.Argument(help="subject predicate object; ? for any; quote or use commas.")],
    k: Top = 10,
    index: Annotated[Path | None, typer.Option(help="Index folder; default RUN/index.")] = None,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Find the images that show a fact: `tripletcl query RUN person riding horse`, `... ? riding ?`."""
    _ready()
    from tripletcl.retrieval import FactIndex, parse_query, unknown_units

    asked = parse_query(units)
    embedder = _embedder(run, stage)
    searched = FactIndex.load(index or run / "index", embedder)
    hits = searched.search(asked, k)
    notes = [
        f"{new.text!r} was never trained as a {new.unit}: answered by the text encoder (nearest known: {new.nearest})"
        for new in unknown_units(asked, embedder, embedder.vocabulary)
    ]
    if as_json:
        found = [{"path": str(hit.path), "score": hit.score} for hit in hits]
        print(json.dumps({"query": str(asked), "notes": notes, "hits": found}))
        return
    for note in notes:
        print(note)
    for hit in hits:
        print(f"{hit.score:.3f}  {hit.path}")


@app.command()
def describe(
    run: RunArgument,
    image: Annotated[Path, typer.Argument(help="An image.")],
    k: Top = 5,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Name the facts that an image shows, among those the run has learned."""
    _ready()
    from tripletcl.retrieval import describe as rank_facts

    embedder = _embedder(run, stage)
    vectors, present = embedder.encode_facts(embedder.facts)
    ranked = rank_facts(embedder.encode_images([image]), embedder.facts, vectors, present, k)[0]
    if as_json:
        print(json.dumps([{"fact": shown.fact.units, "score": shown.score} for shown in ranked]))
        return
    for shown in ranked:
        print(f"{shown.score:.3f}  {shown.fact}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or folders of runs.")],
    out: Annotated[Path | None, typer.Option(help="The HTML file; default report.html beside the first run.")] = None,
) -> None:
    """Write one self-contained page: table, task x stage matrices, curves, forgetting, example queries."""
    _ready()
    from tripletcl.summary import write_summary

    target = out or runs[0] / "report.html"
    write_summary(runs, target)
    print(f"page: {target}")


@app.command()
def methods(as_json: AsJson = False) -> None:
    """List the methods: what each is, what it promises, and its settings with their defaults."""
    _ready()
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
    console = _ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.data import check_table

    with progress_bars(console) as bars:
        found = check_table(file, root, progress=lambda done, total: bars.count("images", done, total))
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
    console = _ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.data import write_scenes

    with progress_bars(console) as bars:
        table = write_scenes(
            folder,
            facts=facts,
            train=train,
            test=test,
            size=size,
            seed=seed,
            progress=lambda done, total: bars.count("drawing", done, total),
        )
    print(table)


def _ready() -> Console:
    """What every working command does first: check the install, send the library's log to the terminal."""
    import logging
    import os

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # torch's and faiss's threads would spin against each other
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from rich.console import Console

    from tripletcl.embedding.torch_pair import check_torch_pair

    check_torch_pair()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tripletcl").setLevel(logging.INFO)
    return Console(stderr=True)


def _compare(config: str, overrides: list[str] | None, out: Path, as_json: bool) -> None:
    console = _ready()
    from tripletcl.comparison import compare as run_all
    from tripletcl.comparison import comparison_objects, method_promises, plan
    from tripletcl.config import load_config
    from tripletcl.summary import write_summary, write_tables

    settings = load_config(config, overrides or ())
    results = run_all(settings, out, lambda text: console.print(text, style="dim", highlight=False))
    write_tables(results, method_promises(settings), out)
    words = ["tripletcl", "compare", config, *(overrides or ()), "--out", str(out)]
    folders = [run.folder for run in plan(settings, out)]
    page = write_summary(folders, out / "report.html", command=shlex.join(words))
    if as_json:
        print(json.dumps(comparison_objects(results)))
        return
    _print_results(results)
    print(f"page: {page}\ntables: {out}/table.md, table.csv, table.tex, properties.md; compare.json")


def _embedder(run: Path, stage: int | None) -> Any:
    """The model of a run's stage, or of a `save_pretrained` folder."""
    from tripletcl.embedding import FactEmbedder
    from tripletcl.runs import Run

    saved = (run / "embedder.json").exists()
    return FactEmbedder.from_pretrained(run if saved else Run.open(run).stage_folder(stage))


def _print_results(results: list[RunResult]) -> None:
    from rich.console import Console

    from tripletcl.report import comparison_rows, table_caption, terminal_table

    rows, console = comparison_rows(results), Console()
    console.print(terminal_table(rows, width=console.width))
    print(table_caption(rows))


def _print_method(method: dict[str, Any]) -> None:
    import textwrap

    from tripletcl.report import PROPERTY_TITLES

    kept = [PROPERTY_TITLES[key] for key, value in method["properties"].items() if value and not method["joint"]]
    print(f"{method['name']}: {method['summary']}")
    settings = [f"{key} {_setting(setting)}" for key, setting in method["settings"].items()]
    for title, entries in (("promises", kept), ("settings", settings)):
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


def _score(value: float) -> str:
    return f"{value:.3f}".removeprefix("0")
