"""What several commands share: their arguments, and what each does first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from tripletcl.embedding import FactEmbedder

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped config.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings over the config's: section.key=value.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]
Stage = Annotated[int | None, typer.Option(help="The model after this task (0: before training); default the last.")]
Top = Annotated[int, typer.Option("-k", "--top", min=1, help="How many results.")]


def ready() -> Console:
    """What every working command does first: send the library's log to the terminal."""
    import logging
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from rich.console import Console

    logging.basicConfig(format="%(message)s")
    logging.getLogger("tripletcl").setLevel(logging.INFO)
    return Console(stderr=True)


def load_embedder(run: Path, stage: int | None) -> FactEmbedder:
    """The model of a run's stage, or of a `save_pretrained` folder."""
    from tripletcl.embedding import FactEmbedder
    from tripletcl.runs.layout import EMBEDDER
    from tripletcl.runs.stored import FactRun

    saved = (run / EMBEDDER).exists()
    return FactEmbedder.from_pretrained(run if saved else FactRun.open(run).stage_folder(stage))
