"""Write the scenes as files: images, and a CSV of the facts that they show."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

from tripletcl.data.facts import Fact
from tripletcl.errors import UserError
from tripletcl.files import draft_of, translate_errors
from tripletcl.progress import report
from tripletcl.scenes.compose import draw_scene
from tripletcl.scenes.vocabulary import scene_facts

TABLE, SETTINGS, IMAGES = "facts.csv", "scenes.json", "images"
DRAWING = 1
"""Version of the drawings: raise it when the same settings give other pictures, so that older folders are refused."""
QUALITY = 92

Row = tuple[str, Fact, str]


def write_scenes(
    folder: str | Path,
    *,
    facts: int = 150,
    train: int = 12,
    test: int = 5,
    size: int = 128,
    seed: int = 0,
) -> Path:
    """Draw the scenes once into a folder; a finished folder of the same settings is used as it is.

    Every picture depends only on the seed, its fact, its split and its number, not on the number of the others.
    The folder is created atomically, and two processes may write it at the same time.

    Args:
        folder: Receives `facts.csv` (columns image, subject, predicate, object, split), `images/*.jpg` and the
            settings; must not exist, be empty, or be the finished folder of these settings.
        facts: The number of facts, see `scene_facts`.
        train: Training images of each fact.
        test: Test images of each fact.
        size: Side of the square images in pixels.
        seed: Everything random depends on it.

    Returns:
        The path of `facts.csv`.

    Raises:
        UserError: A setting is out of range, or the folder holds something else.
    """
    folder = Path(folder)
    for name, value in (("train", train), ("test", test)):
        if value < 1:
            raise UserError(f"scenes need at least 1 {name} image of each fact, not {value}")
    chosen = scene_facts(facts, seed)
    settings = {"drawing": DRAWING, "facts": facts, "train": train, "test": test, "size": size, "seed": seed}
    if _finished(folder, settings):
        return folder / TABLE
    target = Path(os.path.realpath(folder))
    with translate_errors(folder):
        target.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(target) as draft:
            _draw_all(draft, chosen, {"train": train, "test": test}, size, seed)
            (draft / SETTINGS).write_text(json.dumps(settings))
            _put_in_place(draft, target, settings)
    return folder / TABLE


def _finished(folder: Path, settings: dict[str, int]) -> bool:
    """True if the folder is finished with these settings; a folder with other content is refused."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    record = folder / SETTINGS
    if not record.is_file():
        raise UserError(f"{folder} holds something other than scenes; name a new or empty folder")
    try:
        found = json.loads(record.read_text())
    except ValueError:
        found = None
    if found != settings:
        raise UserError(
            f"{folder} holds scenes of other settings ({found}, not {settings}); name a new or empty folder"
        )
    return True


def _put_in_place(draft: Path, folder: Path, settings: dict[str, int]) -> None:
    """Rename the draft to the folder, unless another process has just done so with the same settings."""
    try:
        if os.name == "nt" and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()  # on other systems a rename replaces an empty folder
        draft.rename(folder)
    except OSError:
        if not _finished(folder, settings):
            raise


def _draw_all(
    folder: Path,
    facts: tuple[Fact, ...],
    counts: dict[str, int],
    size: int,
    seed: int,
) -> None:
    (folder / IMAGES).mkdir(parents=True)
    pictures = [(fact, split, k) for fact in facts for split, count in counts.items() for k in range(count)]
    rows: list[Row] = []
    for done, (fact, split, k) in enumerate(pictures, start=1):
        name = f"{IMAGES}/{_slug(fact)}-{split}-{k:03d}.jpg"
        picture = draw_scene(fact, size, random.Random(f"{seed}|{fact}|{split}|{k}"))
        picture.save(folder / name, quality=QUALITY)
        shown = [fact, *_entailed(fact, facts)] if split == "test" else [fact]
        rows += [(name, each, split) for each in shown]
        report("drawing scenes", done, len(pictures))
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("image", "subject", "predicate", "object", "split"))
        writer.writerows((name, *(unit or "" for unit in fact.units), split) for name, fact, split in rows)


def _slug(fact: Fact) -> str:
    return "-".join(unit.replace(" ", "_") for unit in fact.units if unit is not None)


def _entailed(fact: Fact, facts: tuple[Fact, ...]) -> Iterator[Fact]:
    """The other facts of the set that any picture of this fact shows too: its prefixes."""
    subject, predicate, _ = fact.units
    for prefix in dict.fromkeys((Fact(subject), Fact(subject, predicate))):
        if prefix != fact and prefix in facts:
            yield prefix
