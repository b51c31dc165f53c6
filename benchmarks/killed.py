"""`kill -9` at random moments of index, upgrade, adapt, teach, learning on: is anything lost, does the next one work?

$ python benchmarks/killed.py [--times 50]

Each operation runs in a process of its own on a copy of one small run with its index, and is killed at a moment drawn
uniformly from a little more than its duration. Then, in a fresh process: every former stage is there with the
fingerprint it had, the index opens and finds every former photo, and the same operation, given again, ends as an
undisturbed one does.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tripletcl.config import load_config
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, writing
from tripletcl.runs.adapt import adapt
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.photo_index import upgrade_index
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach
from tripletcl.runs.train import train
from tripletcl.scenes import write_scenes

SLACK = 1.1
"""Of an operation's duration: some kills come when it has just ended."""

Operation = Callable[[Path], object]
"""Done in a workplace: a folder with `run`, its index, `scenes`, and `more`, photos that the index does not have."""


def index_more(place: Path) -> None:
    run = FactRun.open(place / "run")
    stage = max(run.stages)
    with writing(place / "run" / "index", FactEmbedder.from_pretrained(run.stage_folder(stage)), stage=stage) as index:
        index.sync(place / "scenes" / "images", batch_size=8)
        index.add_photos(place / "more", batch_size=8)


def upgrade_back(place: Path) -> None:
    upgrade_index(place / "run", stage=1)


def adapt_once(place: Path) -> None:
    adapt(place / "run", place / "more", recompute=True)


def teach_fact(place: Path) -> None:
    teach(place / "run", "bear, juggling", sorted((place / "more").glob("*.jpg"))[:10])


def learn_on(place: Path) -> None:
    continue_run(place / "run", place / "more.csv")


OPERATIONS: dict[str, tuple[str, Operation]] = {
    "index": ("mas", index_more),
    "upgrade, a learned map": ("mas", upgrade_back),
    "upgrade, exact": ("analytic", upgrade_back),
    "adapt": ("mas", adapt_once),
    "teach, analytic": ("analytic", teach_fact),
    "teach, MAS": ("mas", teach_fact),
    "train --continue": ("mas", learn_on),
}


def prepare(place: Path, method: str) -> None:
    """A run of two tasks, an index of its photos, and photos of its own for what is to come."""
    write_scenes(place / "scenes", facts=12, train=8, test=2, size=64)
    images = write_scenes(place / "drawn", facts=13, train=3, test=1, size=64, seed=7).parent / "images"
    shutil.move(images, place / "more")
    names = sorted(path.name for path in (place / "more").iterdir())
    rows = [f"more/{name},bear,juggling,,{'test' if i % 4 == 3 else 'train'}" for i, name in enumerate(names)]
    (place / "more.csv").write_text("\n".join(["image,subject,predicate,object,split", *rows]) + "\n")
    settings = [f"data.table={place}/scenes/facts.csv", "data.tasks=2", "model.image_size=64", "training.epochs=1"]
    chosen = "{name: analytic, features: 300}" if method == "analytic" else "{name: mas, lam: 3}"
    train(load_config("demo", [*settings, f"method={chosen}", "training.checkpoint_minutes=0"]), place / "run")
    stage = FactEmbedder.from_pretrained(FactRun.open(place / "run").stage_folder())
    with writing(place / "run" / "index", stage, stage=2) as index:
        index.sync(place / "scenes" / "images")


def prepared(scratch: Path, method: str) -> Path:
    """A workplace to copy, made where its copies will lie: a run keeps the full paths of its photos."""
    base = scratch / method
    if not base.exists():
        shutil.rmtree(scratch / "place", ignore_errors=True)
        assert in_process(lambda: prepare(scratch / "place", method)) == 0
        shutil.move(scratch / "place", base)
    return base


def state_of(place: Path) -> dict[str, object]:
    """What must not be lost, and what an operation changes: stages by fingerprint, photos with their vectors."""
    run, index = FactRun.open(place / "run"), FactIndex.load(place / "run" / "index")
    photos = {path.name: index.rows([row])[0] for row, path in enumerate(index.paths) if not index.deleted[row]}
    newest = sorted((place / "run" / "checkpoints").iterdir())[-1].read_bytes()
    return {
        "stages": [run.fingerprint(stage) for stage in run.stages],
        "model": index.model,
        "photos": photos,
        "method": hash(newest),
    }


def check_nothing_lost(before: dict, place: Path) -> None:
    now = state_of(place)
    assert now["stages"][: len(before["stages"])] == before["stages"], "a former stage is lost or changed"
    assert before["photos"].keys() <= now["photos"].keys(), "photos are lost from the index"
    if now["model"] == before["model"]:
        same = all(np.array_equal(now["photos"][name], row) for name, row in before["photos"].items())
        assert same, "vectors have changed without a change of model"


def check_equal(reference: dict, place: Path) -> None:
    now = state_of(place)
    assert now["stages"] == reference["stages"], "given again, the operation ends with other stages"
    assert now["model"] == reference["model"], "given again, the index ends with another model"
    assert now["photos"].keys() == reference["photos"].keys(), "given again, the index ends with other photos"
    for name, row in reference["photos"].items():
        assert np.allclose(now["photos"][name], row, atol=1e-4), f"given again, {name} has another vector"


def in_process(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Do it in a forked process, perhaps killed; its exit code, or -9."""
    child = os.fork()
    if not child:
        try:
            torch.set_num_threads(1)
            work()
            os._exit(0)
        except (AssertionError, UserError) as error:
            print(f"    {error}", flush=True)
            os._exit(1)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status


def measure(name: str, base: Path, scratch: Path, times: int, rng: random.Random) -> list[str]:
    operation = OPERATIONS[name][1]
    # Workplaces are put in the same place one after another: paths are part of what is compared.
    place = scratch / "place"

    def fresh() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)

    for _ in range(2):  # the first time some files are not in memory yet
        fresh()
        before = state_of_in_child(place)
        started = time.monotonic()
        assert in_process(lambda: operation(place)) == 0
        duration = time.monotonic() - started
    reference = state_of_in_child(place)
    begun = killed = lost = failed = 0
    while killed < times:
        fresh()
        begun += 1
        killed += in_process(lambda: operation(place), rng.uniform(0, SLACK * duration)) == -signal.SIGKILL
        lost += in_process(lambda: check_nothing_lost(before, place)) != 0
        failed += in_process(lambda: (operation(place), check_equal(reference, place))) != 0
    return [name, f"{duration:.1f} s", str(begun), str(killed), str(lost), str(failed)]


def state_of_in_child(place: Path) -> dict:
    """The parent touches no model: a process forked from one that has computed in threads may hang."""
    path = place.parent / "state.pt"
    assert in_process(lambda: torch.save(state_of(place), path)) == 0
    return torch.load(path, weights_only=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="kills in the middle of each operation")
    parser.add_argument("--only", nargs="*", default=list(OPERATIONS), choices=list(OPERATIONS))
    arguments = parser.parse_args()
    rng, bad = random.Random(0), False
    print("| operation | undisturbed | started | killed in the middle | lost something | next command failed |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRIPLETCL_CACHE"] = f"{folder}/cache"
        for name in arguments.only:
            base = prepared(Path(folder), OPERATIONS[name][0])
            row = measure(name, base, base.parent, arguments.times, rng)
            print(f"| {' | '.join(row)} |", flush=True)
            bad |= row[-2:] != ["0", "0"]
    sys.exit(bad)


if __name__ == "__main__":
    main()
