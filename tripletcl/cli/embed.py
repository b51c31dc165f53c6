"""`tripletcl embed`: vectors of a collection of any size, as Parquet parts."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Literal

import typer

from tripletcl.cli.options import AsJson, RunArgument, Stage
from tripletcl.cli.output import say, working


def embed(
    run: RunArgument,
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of photos, a Parquet or CSV file of paths, or WebDataset archives such as "
            "'photos/{000..041}.tar'; here or at an address such as s3://bucket/photos."
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder of the parts, here or at an address.")],
    input_format: Annotated[
        Literal["auto", "files", "list", "webdataset"],
        typer.Option(help="What SOURCE is; auto tells it by its name, and a folder is of photos."),
    ] = "auto",
    column: Annotated[str | None, typer.Option(help="The column of a file of paths; default path.")] = None,
    shard: Annotated[int, typer.Option(min=1, help="Photos of a part; an archive is one part.")] = 10_000,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="This process, or the workers of a Ray cluster (RAY_ADDRESS).")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Workers of the cluster; default one for each processor.")
    ] = None,
    layout: Annotated[
        Literal["parts", "clip-retrieval"],
        typer.Option(help="One Parquet file for each part, or the files that clip-retrieval and autofaiss read."),
    ] = "parts",
    stage: Stage = None,
    batch: Annotated[int, typer.Option(min=1, help="Photos of a forward pass.")] = 64,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where the model runs.")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Embed a collection of any size into parts; the same command again makes those that are missing.

    `tripletcl index import RUN OUT` makes an index of them.
    """
    with working():
        from tripletcl.gallery import embed_photos
        from tripletcl.runs.collection import open_model

        model = open_model(run, stage)
        result = embed_photos(
            model.folder,
            source,
            out,
            stage=model.stage,
            kind=None if input_format == "auto" else input_format,
            column=column,
            shard=shard,
            layout=layout,
            engine=engine,
            workers=workers,
            batch_size=batch,
            device=device,
        )
    if as_json:
        say(json.dumps(asdict(result)))
        return
    done = "" if result.computed == result.shards else f", {result.shards - result.computed:,} of them before"
    broken = f"; {result.broken:,} cannot be read, each with its reason" if result.broken else ""
    say(f"{result.photos:,} photos in {result.shards:,} parts in {result.out}{done}{broken}")
