"""Commands for the photo index of a run: `tripletcl index RUN IMAGES` and its subcommands."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer.core import TyperGroup

from tripletcl.cli.options import AsJson, Photos, RunArgument, Stage, existing_folder, photo_files
from tripletcl.cli.output import missing_note, print_skipped, ready, say, skipped_entries, working
from tripletcl.errors import UserError
from tripletcl.files.addresses import Place

if TYPE_CHECKING:
    from tripletcl.retrieval import Changes, FactIndex
    from tripletcl.runs.upgrade_index import IndexUpgraded

Out = Annotated[
    str | None,
    typer.Option("--out", "--index", "--store", help="Index folder, or the address of a store; default RUN/index."),
]


AsPrecision = Annotated[
    Literal["float32", "float16"] | None,
    typer.Option(help="Numbers that are stored: float32, or float16 in half the bytes; default: unchanged, float32."),
]


class SyncByDefault(TyperGroup):
    """Makes `index RUN IMAGES` stand for `index sync RUN IMAGES`: a first word that is no command is a run."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Insert the command if it is missing."""
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
    images: Annotated[Path, typer.Argument(help="A folder of photos.", callback=existing_folder)],
    out: Out = None,
    stage: Stage = None,
    kind: Annotated[
        str | None, typer.Option(help="auto (by size), flat, hnsw or ivfpq; default: unchanged, auto for a new index.")
    ] = None,
    precision: AsPrecision = None,
    watch: Annotated[bool, typer.Option("--watch", help="Follow the folder: embed what changes from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Embed new and changed photos of a folder.

    Photos whose file is missing are removed; those of other folders stay. `tripletcl index RUN IMAGES` does the same.
    """
    with working():
        from tripletcl.retrieval import writing
        from tripletcl.runs.collection import open_model

        folder, model = index_place(run, out), open_model(run, stage)
        with writing(folder, model.load(), stage=model.stage, kind=kind, precision=precision) as index:
            changes = index.sync(_absolute(images))
    _print_changes(folder, index, changes, as_json)
    if not as_json and (note := missing_note(run, index.missing(_absolute(images)))):
        say(note)
    if watch:
        _follow(run, folder, _absolute(images), as_json)


def _follow(run: Path, folder: Place, images: Path, as_json: bool) -> None:
    """Sync an index again whenever its folder of photos changes, until the user interrupts."""
    from tripletcl.retrieval import writing
    from tripletcl.runs.collection import open_model
    from tripletcl.runs.watch import watch

    def act() -> None:
        try:
            with writing(folder, open_model(run, index=folder).load()) as index:
                changes = index.sync(images)
        except UserError as error:  # a drive that is unplugged, a lesson that is learned: the next change tries again
            say(error)
        else:
            if changes.added or changes.changed or changes.removed:
                _print_changes(folder, index, changes, as_json)

    watch(images, act)


@index_app.command()
def add(run: RunArgument, photos: Photos, out: Out = None, as_json: AsJson = False) -> None:
    """Embed new and changed photos among those given, with the model that made the index."""
    with working():
        from tripletcl.retrieval import writing
        from tripletcl.runs.collection import open_model

        folder, files = index_place(run, out), photo_files(photos)
        with writing(folder, open_model(run, index=folder).load()) as index:
            changes = index.add_photos(map(_absolute, files))
    _print_changes(folder, index, changes, as_json)


@index_app.command("import")
def import_(
    run: RunArgument,
    parts: Annotated[str, typer.Argument(help="The folder of `tripletcl embed`, here or at an address.")],
    out: Out = None,
    stage: Stage = None,
    precision: AsPrecision = None,
    as_json: AsJson = False,
) -> None:
    """Add the photos that `tripletcl embed` embedded, without reading them again."""
    with working():
        from tripletcl.gallery import import_parts
        from tripletcl.retrieval import writing
        from tripletcl.runs.collection import open_model

        folder, model = index_place(run, out), open_model(run, stage)
        with writing(folder, model.load_text(), stage=model.stage, precision=precision) as index:
            changes = import_parts(index, parts)
    _print_changes(folder, index, changes, as_json)


@index_app.command()
def remove(
    run: RunArgument,
    photos: Annotated[list[Path], typer.Argument(help="Photos of the index.")],
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Remove photos from the index; their files stay."""
    ready()
    from tripletcl.retrieval import Changes, about_index, writing

    folder = index_place(run, out)
    about_index(folder)  # an error if there is no index: `writing` would create one
    with writing(folder) as index:
        changes = Changes(removed=index.remove(map(_absolute, photos)))
    _print_changes(folder, index, changes, as_json)


@index_app.command()
def info(run: RunArgument, out: Out = None, as_json: AsJson = False) -> None:
    """Print what the index holds, and its kind."""
    ready()
    from tripletcl.retrieval import FactIndex

    folder = index_place(run, out)
    index = FactIndex.load(folder)
    about = _describe(folder, index)
    if as_json:
        say(json.dumps(about | {"skipped": skipped_entries(index.skipped)}))
        return
    for key in ("photos", "model", "stage", "features", "width", "precision", "kind", "bytes"):
        say(f"{key:9} {about[key]:,}" if isinstance(about[key], int) else f"{key:9} {about[key] or '-'}")
    say(index.why)
    print_skipped(index.skipped)


@index_app.command()
def check(run: RunArgument, out: Out = None) -> None:
    """Compare every byte of the index with its checksums; searching does so only for files that were modified."""
    ready()
    from tripletcl.retrieval.stores.address import open_store

    folder = index_place(run, out)
    open_store(folder).check()
    say(f"{folder} is as it was written")


@index_app.command()
def upgrade(
    run: RunArgument,
    out: Out = None,
    stage: Stage = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Photos to learn the map from, without labels; default the later tasks' training photos."),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(help="Part of each old vector that is kept (0: follow the new model only); default 1/3."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the index to the run's latest stage, or another, without reading its photos."""
    with working():
        from tripletcl.retrieval.upgrade import KEEP
        from tripletcl.runs.upgrade_index import upgrade_index

        result = upgrade_index(run, out, stage, images, keep=KEEP if keep is None else keep)
    if as_json:
        say(json.dumps({"index": str(result.index), "from_stage": result.from_stage, **asdict(result.upgraded)}))
    else:
        _print_upgrade(result)


def _print_upgrade(result: IndexUpgraded) -> None:
    from tripletcl.report.formatting import fraction

    upgraded, photos = result.upgraded, f"{result.upgraded.photos:,} photos in {result.index}"
    if upgraded.how == "nothing":
        say(f"{photos} are of stage {result.stage} already")
        return
    moved = f"{photos}: stage {result.from_stage} -> {result.stage}"
    if upgraded.how == "exact":
        say(f"{moved}, exactly, from the features that the index stores")
        return
    kept = f"; {upgraded.keep:.0%} of each old vector is kept" if upgraded.keep else ""
    say(f"{moved} by the map {upgraded.how!r}, learned from {upgraded.learned_from:,} other photos{kept}")
    errors = sorted(upgraded.held_out_error.items(), key=lambda item: item[1])
    by_map = ", ".join(f"{name} {fraction(error)}" for name, error in errors)
    say(f"1 - cosine on {upgraded.held_out:,} held-out photos: {by_map}")


def index_place(run: Path, out: str | None) -> Place:
    """The index that is meant: the one that is given, or RUN/index."""
    from tripletcl.runs.layout import INDEX

    return out or run / INDEX


def _absolute(path: Path) -> Path:
    """The path from the root, symbolic links as they are: an index is used from other working folders."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _print_changes(folder: Place, index: FactIndex, changes: Changes, as_json: bool) -> None:
    counts = {key: len(getattr(changes, key)) for key in ("added", "changed", "removed")}
    if as_json:
        say(json.dumps(_describe(folder, index) | counts | {"skipped": skipped_entries(changes.skipped)}))
        return
    changed = ", ".join(f"{count:,} {key}" for key, count in (counts | {"skipped": len(changes.skipped)}).items())
    say(f"{len(index):,} photos in {folder}: {changed}")
    say(index.why)
    print_skipped(changes.skipped)


def _describe(folder: Place, index: FactIndex) -> dict[str, object]:
    from tripletcl.retrieval.stores.address import open_store

    return {
        "index": str(folder),
        "photos": len(index),
        "model": index.model,
        "stage": index.stage,
        "features": None if index.features is None else index.features.shape[1],
        "width": index.width,
        "precision": index.precision,
        "kind": index.kind,
        "why": index.why,
        "bytes": open_store(folder).size(),
    }
