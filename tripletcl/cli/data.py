"""Commands for data: check a fact table, draw the scenes, list the published sets, export one as a table."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tripletcl.cli.options import AsJson, existing_file
from tripletcl.cli.output import print_table, say, working

if TYPE_CHECKING:
    from tripletcl.data import CheckReport

MOST_ROWS = 8
"""Row numbers that are printed of each problem."""

data_app = typer.Typer(help="Check or make data before training.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A CSV, JSON Lines or Parquet file.", callback=existing_file)],
    root: Annotated[Path | None, typer.Option(help="Folder that the image paths are relative to.")] = None,
    task_column: Annotated[str | None, typer.Option(help="Column with the task of each row's fact.")] = None,
    text: Annotated[str, typer.Option(help="Text encoder that has to tell the words apart.")] = "minilm",
    as_json: AsJson = False,
) -> None:
    """Count a fact table and report its problems with row numbers: missing and broken images, facts without a test
    image, images in both splits, words that the text encoder cannot tell apart."""
    with working():
        from tripletcl.data import check_table
        from tripletcl.embedding.text_encoders import build_text_encoder
        from tripletcl.embedding.words import words_alike

        encoder = build_text_encoder(text)
        report = check_table(file, root, task_column, partial(words_alike, encoder.encode))
    if as_json:
        say(json.dumps(report.to_dict()))
    else:
        _print_report(report)
    if not report.ok:
        raise typer.Exit(1)


def _print_report(report: CheckReport) -> None:
    from tripletcl.data.folding import describe_folds

    say(f"{report.path}: {report.rows} rows, {report.images} images, {report.facts} facts")
    orders = ", ".join(f"{count} of order {order}" for order, count in report.facts_by_order.items())
    spread = ", ".join(f"{name} {value:.3g}" for name, value in report.rows_per_image.items())
    say(f"facts: {orders}; rows per image: {spread}")
    counts = ("rows", "images", "facts")
    splits = report.splits.items()
    print_table(["split", *counts], [[split, *(str(of_split[key]) for key in counts)] for split, of_split in splits])
    if report.folds:
        say(describe_folds(report.folds))
    for problem in report.problems:
        rows = ", ".join(map(str, problem.rows[:MOST_ROWS])) + (", ..." if len(problem.rows) > MOST_ROWS else "")
        say(f"{problem.kind} ({report.counted_in} {rows}): {problem.message}")
    count = len(report.problems)
    say("no problem found" if report.ok else f"{count} problem{'s' * (count > 1)}")


@data_app.command()
def scenes(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    facts: Annotated[int, typer.Option(help="Number of facts.")] = 150,
    train: Annotated[int, typer.Option(help="Training images of each fact.")] = 12,
    test: Annotated[int, typer.Option(help="Test images of each fact.")] = 5,
    size: Annotated[int, typer.Option(help="Side of the images, in pixels.")] = 128,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Draw the scenes data set into a folder: images and facts.csv."""
    with working():
        from tripletcl.scenes import write_scenes

        table = write_scenes(folder, facts=facts, train=train, test=test, size=size, seed=seed)
    say(table)


@data_app.command()
def sets(as_json: AsJson = False) -> None:
    """List the sets of facts and of objects that can be read: where each is published, and the files below its
    root."""
    from tripletcl.data.fact_sets import FACT_SETS
    from tripletcl.data.sets import OBJECT_SETS

    keys = ("what", "address", "layout")
    if as_json:
        about = (*keys, "licence", "verified", "variants")
        facts = [{"set": kind, "learns": "facts", **_values(of, about)} for kind, of in FACT_SETS.items()]
        objects = [
            {"set": kind, "learns": "objects", **_values(of, keys), "download": of.download is not None}
            for kind, of in OBJECT_SETS.items()
        ]
        say(json.dumps([*facts, *objects]))
        return
    say("sets of facts: data.table={set: NAME, root: FOLDER}")
    for kind, of in FACT_SETS.items():
        variants = f"\n  variants: {', '.join(of.variants)}" if of.variants else ""
        say(f"{kind}: {of.what}\n  from: {of.address}\n  below the root: {of.layout}{variants}")
        say(f"  licence as stated: {of.licence}\n  verified against real files: {of.verified}")
    say("\nsets of objects: data.sets=[{set: NAME, root: FOLDER}]")
    for kind, source in OBJECT_SETS.items():
        download = "; `download: true` downloads it" if source.download is not None else ""
        say(f"{kind}: {source.what}\n  from: {source.address}{download}\n  below the root: {source.layout}")


def _values(source: object, keys: tuple[str, ...]) -> dict[str, object]:
    return {key: getattr(source, key) for key in keys}


@data_app.command()
def export(
    name: Annotated[str, typer.Argument(metavar="SET", help="A set of facts: `tripletcl data sets` lists them.")],
    root: Annotated[Path, typer.Argument(help="The folder of the set.")],
    out: Annotated[Path, typer.Argument(help="A new .csv or .parquet file.")],
    settings: Annotated[
        list[str] | None,
        typer.Argument(help="Settings of data.table: region=union, min_train=10, orders=[3] and others."),
    ] = None,
) -> None:
    """Write a table of a published set of facts, with boxes if region=union. Image paths are relative to ROOT."""
    with working():
        from tripletcl.config import FactConfig, change_config, parse_config
        from tripletcl.data.fact_sets import FactSetSpec, export_fact_set

        config = parse_config({"data": {"table": {"set": name, "root": str(root)}}}, "the set given")
        assert isinstance(config, FactConfig)
        spec = change_config(config, [f"data.table.{setting}" for setting in settings or []]).data.table
        assert isinstance(spec, FactSetSpec)
        table = export_fact_set(spec, out)
    say(f"{out}: {len(table)} rows, {len(table.images)} images, {len(table.facts)} facts")
    say(f"image paths are relative to {root}: train on it with data.table={out} data.root={root}")
