"""Commands that keep an index of photos: `tripletcl index RUN IMAGES`, and what else there is to do with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

from tripletcl.cli.options import AsJson, RunArgument, Stage, ready
from tripletcl.errors import UserError

if TYPE_CHECKING:
    from tripletcl.embedding import FactEmbedder
    from tripletcl.retrieval import Changes, FactIndex

Out = Annotated[Path | None, typer.Option("--out", "--index", help="Index folder; default RUN/index.")]
Photos = Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")]


class SyncByDefault(TyperGroup):
    """`index RUN IMAGES` is `index sync RUN IMAGES`: what is no command is a run."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put the command in where there is none."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["sync", *args]
        return super().parse_args(ctx, args)


index_app = typer.Typer(
    cls=SyncByDefault,
    help="Embed a folder of photos with a run's model, so that `query` can search it: tripletcl index RUN IMAGES.",
    no_args_is_help=True,
    rich_markup_mode=None,
    subcommand_metavar="RUN IMAGES | COMMAND [ARGS]...",
)


@index_app.command()
def sync(
    run: RunArgument,
    images: Annotated[Path, typer.Argument(help="A folder of photos.")],
    out: Out = None,
    stage: Stage = None,
    kind: Annotated[
        str | None, typer.Option(help="auto (by size), flat, hnsw or ivfpq; default auto, or what it was.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Embed what is new or changed in a folder.

    Photos that are gone leave the index; those of other folders stay. `tripletcl index RUN IMAGES` does the same.
    """
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.retrieval import writing

    folder, (embedder, number) = _index(run, out), _model(run, stage)
    with writing(folder, embedder, stage=number, kind=kind) as index, progress_bars(console):
        changes = index.sync(_absolute(images))
    _print_changes(folder, index, changes, as_json)


@index_app.command()
def add(run: RunArgument, photos: Photos, out: Out = None, as_json: AsJson = False) -> None:
    """Embed photos that are new or changed.

    By the model that made the index, whichever stage of the run that is.
    """
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.data.images import list_images
    from tripletcl.retrieval import writing

    folder = _index(run, out)
    paths = [found for photo in photos for found in (list_images(photo) if photo.is_dir() else [photo])]
    if missing := [path for path in paths if not path.exists()]:
        raise UserError(f"there is no photo {missing[0]}")
    embedder = _model_of(folder, run)
    with writing(folder, embedder) as index, progress_bars(console):
        changes = index.add_photos(map(_absolute, paths))
    _print_changes(folder, index, changes, as_json)


@index_app.command()
def remove(run: RunArgument, photos: Photos, out: Out = None, as_json: AsJson = False) -> None:
    """Take photos out; their files stay."""
    ready()
    from tripletcl.retrieval import Changes, about_index, writing

    folder = _index(run, out)
    about_index(folder)  # there is one, or that is the mistake
    with writing(folder) as index:
        changes = Changes(removed=index.remove(map(_absolute, photos)))
    _print_changes(folder, index, changes, as_json)


@index_app.command()
def info(run: RunArgument, out: Out = None, as_json: AsJson = False) -> None:
    """Say what it holds, and of which kind it is."""
    ready()
    from tripletcl.retrieval import FactIndex

    folder = _index(run, out)
    index = FactIndex.load(folder)
    about = _described(folder, index) | {"skipped": _skipped(index.skipped)}
    if as_json:
        print(json.dumps(about))
        return
    for key in ("photos", "model", "stage", "features", "width", "kind", "bytes"):
        print(f"{key:9} {about[key]:,}" if isinstance(about[key], int) else f"{key:9} {about[key] or '-'}")
    print(index.why)
    for path, reason in index.skipped:
        print(f"skipped: {path}: {reason}")


def _model(run: Path, stage: int | None) -> tuple[FactEmbedder, int | None]:
    """The model of a run's stage, by default the last, and its number; a folder of one model has no stages."""
    from tripletcl.embedding import FactEmbedder
    from tripletcl.runs.layout import EMBEDDER
    from tripletcl.runs.stored import FactRun

    if (run / EMBEDDER).exists():
        return FactEmbedder.from_pretrained(run), None
    opened = FactRun.open(run)
    return FactEmbedder.from_pretrained(opened.stage_folder(stage)), opened.stage(stage)


def _model_of(folder: Path, run: Path) -> FactEmbedder:
    """The model that made an index, whichever stage of the run it is."""
    from tripletcl.embedding import FactEmbedder
    from tripletcl.runs.layout import EMBEDDER
    from tripletcl.runs.stored import FactRun

    if (run / EMBEDDER).exists():
        return FactEmbedder.from_pretrained(run)
    opened = FactRun.open(run)
    return FactEmbedder.from_pretrained(opened.stage_folder(opened.stage_of_index(folder)))


def _index(run: Path, out: Path | None) -> Path:
    from tripletcl.runs.layout import INDEX

    return out or run / INDEX


def _absolute(path: Path) -> Path:
    """An index outlives the working folder; links keep their names."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _print_changes(folder: Path, index: FactIndex, changes: Changes, as_json: bool) -> None:
    counts = {key: len(getattr(changes, key)) for key in ("added", "changed", "removed")}
    if as_json:
        print(json.dumps(_described(folder, index) | counts | {"skipped": _skipped(changes.skipped)}))
        return
    done = ", ".join(f"{count:,} {key}" for key, count in (counts | {"skipped": len(changes.skipped)}).items())
    print(f"{len(index):,} photos in {folder}: {done}")
    print(index.why)
    for path, reason in changes.skipped:
        print(f"skipped: {path}: {reason}")


def _described(folder: Path, index: FactIndex) -> dict[str, object]:
    return {
        "index": str(folder),
        "photos": len(index),
        "model": index.model,
        "stage": index.stage,
        "features": None if index.features is None else index.features.shape[1],
        "width": index.width,
        "kind": index.kind,
        "why": index.why,
        "bytes": sum(path.stat().st_size for path in folder.iterdir()),
    }


def _skipped(skipped: list[tuple[Path, str]]) -> list[dict[str, str]]:
    return [{"path": str(path), "reason": reason} for path, reason in skipped]
