"""A photo collection from a script: learn facts, index photos, ask, learn on, and bring the index along.

$ python examples/photo_collection.py [FOLDER]

draws everything that it needs into FOLDER (default: photo-collection). Each step is also a command: it stands above it.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from tripletcl.config import load_config
from tripletcl.embedding import FactEmbedder
from tripletcl.retrieval import answer, contact_sheet, describe_photos, notes_on, parse_request, writing
from tripletcl.runs.collection import open_collection
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.history import task_records
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach, undo
from tripletcl.runs.train import train
from tripletcl.runs.upgrade_index import upgrade_index
from tripletcl.scenes import write_scenes


def main(folder: Path, facts: int = 30, size: int = 96) -> None:
    """The life of a collection, printed as it goes."""
    run = folder / "run"
    first, second, (new_fact, photos) = draw(folder, facts, size)

    # tripletcl train demo data.table=first.csv data.tasks=2 method=analytic --out RUN
    settings = [f"data.table={first}", "data.tasks=2", f"model.image_size={size}"]
    result = train(load_config("demo", [*settings, "method={name: analytic, features: 1000}"]), run)
    print(f"learned {len(result.tasks)} tasks; MAP over all facts: {result.final:.2f}")

    # tripletcl index RUN IMAGES
    model = FactEmbedder.from_pretrained(FactRun.open(run).stage_folder())
    with writing(run / "index", model, stage=2) as index:
        changes = index.sync(folder / "scenes" / "images")
    print(f"indexed {len(changes.added)} photos")

    # tripletcl query RUN "..."
    known = max(model.facts, key=lambda fact: fact.order)
    found = ask(run, str(known).strip("<>"))
    ask(run, f'? ? "{known.object}" - {known.subject}')
    ask(run, "somebody on a bike")
    contact_sheet(found, folder / "found.png", title=str(known))

    # tripletcl describe RUN PHOTO
    for shown in describe_photos(model, [found[0].path], k=3, calibration=open_collection(run).calibration)[0]:
        print(f"{found[0].path.name} shows {shown.fact}: {shown.score:.2f}")

    # tripletcl train --continue RUN second.csv; tripletcl index upgrade RUN
    continue_run(run, second)
    upgraded = upgrade_index(run)
    print(f"the index went from stage {upgraded.from_stage} to {upgraded.stage}: {upgraded.upgraded.how}")

    # tripletcl teach RUN "..." PHOTOS; tripletcl teach RUN --undo
    lesson = teach(run, new_fact, photos)
    print(f"taught {lesson.fact} by {lesson.photos} photos in {lesson.seconds:.1f} s; the index was {lesson.index}")
    ask(run, new_fact)
    print_tasks(run)
    undo(run)
    print("taken back")
    print_tasks(run)


def ask(run: Path, words: str) -> list:
    """Ask an index in the words of a command line; the index says which stage's model that takes."""
    collection = open_collection(run)
    request = parse_request(words, collection.embedder.facts)
    print(f"{words!r} is understood as {request}")
    for note in notes_on(request, collection.embedder, collection.embedder.vocabulary):
        print(f"  {note}")
    hits = answer(collection.index, request, k=3, calibration=collection.calibration)
    for hit in hits:
        print(f"  {hit.score:.2f}  {hit.path.name}")
    return hits


def print_tasks(run: Path) -> None:
    """What the run knows."""
    for task in task_records(run):
        print(f"  {task.name}: {len(task.facts)} facts, MAP {task.map_then:.2f}, now {task.map_now:.2f}")


def draw(folder: Path, facts: int, size: int) -> tuple[Path, Path, tuple[str, list[Path]]]:
    """Drawn photos; a table of two thirds of the facts, one of the others, and a fact in neither with its photos."""
    whole = write_scenes(folder / "scenes", facts=facts, train=10, test=3, size=size)
    with whole.open(newline="") as file:
        header, *rows = csv.reader(file)
    names = list(dict.fromkeys(tuple(row[1:4]) for row in rows))
    groups = names[: 2 * facts // 3], names[2 * facts // 3 : -1]
    tables = [whole.with_name("first.csv"), whole.with_name("second.csv")]
    for table, group in zip(tables, groups, strict=True):
        with table.open("w", newline="") as file:
            csv.writer(file).writerows([header, *(row for row in rows if tuple(row[1:4]) in group)])
    photos = [whole.parent / row[0] for row in rows if tuple(row[1:4]) == names[-1] and row[4] == "train"]
    return tables[0], tables[1], (", ".join(unit for unit in names[-1] if unit), photos)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "photo-collection"))
