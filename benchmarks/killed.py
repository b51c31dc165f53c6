"""Kills index, upgrade, adapt, teach and train --continue at random moments, and checks that nothing is lost.

$ python benchmarks/killed.py [--times 50]

Each operation runs in a process of its own on a copy of one small run with its index, and is killed with `kill -9` at
a moment sampled uniformly from a little more than its duration. Then a new process checks that every earlier stage has
its fingerprint, that the index opens and finds every earlier photo, and that the same operation, repeated, ends like an
uninterrupted one.
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
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach
from tripletcl.runs.train import train
from tripletcl.runs.upgrade_index import upgrade_index
from tripletcl.scenes import write_scenes

SLACK = 1.1
"""Factor of an operation's duration: some kills come just after its end."""

Operation = Callable[[Path], object]
"""Runs in a folder with `run` and its index, `scenes`, and `more`, photos that are not in the index."""


def index_more(place: Path) -> None:
    run = FactRun.open(place / "run")
    stage = run.stage()
    with writing(run.index, FactEmbedder.from_pretrained(run.stage_folder(stage)), stage=stage) as index:
        index.sync(place / "scenes" / "images", batch_size=8)
        index.add_photos(place / "more", batch_size=8)


def upgrade_back(place: Path) -> None:
    upgrade_index(place / "run", stage=1)


def adapt_once(place: Path) -> None:
    adapt(place / "run", place / "more", recompute=True)


def teach_fact(place: Path) -> None:
    teach(place / "run", "bear, juggling", sorted((place / "more").glob("*.jpg"))[:10])


def continue_training(place: Path) -> None:
    continue_run(place / "run", place / "more.csv")


OPERATIONS: dict[str, tuple[str, Operation]] = {
    "index": ("mas", index_more),
    "upgrade, a learned map": ("mas", upgrade_back),
    "upgrade, exact": ("analytic", upgrade_back),
    "adapt": ("mas", adapt_once),
    "teach, analytic": ("analytic", teach_fact),
    "teach, MAS": ("mas", teach_fact),
    "train --continue": ("mas", continue_training),
}


def prepare(place: Path, method: str) -> None:
    """Train a run of two tasks, index its photos, and draw photos for the operations."""
    write_scenes(place / "scenes", facts=12, train=8, test=2, size=64)
    images = write_scenes(place / "drawn", facts=13, train=3, test=1, size=64, seed=7).parent / "images"
    shutil.move(images, place / "more")
    names = sorted(path.name for path in (place / "more").iterdir())
    rows = [f"more/{name},bear,juggling,,{'test' if i % 4 == 3 else 'train'}" for i, name in enumerate(names)]
    (place / "more.csv").write_text("\n".join(["image,subject,predicate,object,split", *rows]) + "\n")
    settings = [f"data.table={place}/scenes/facts.csv", "data.tasks=2", "model.image_size=64", "training.epochs=1"]
    settings_of_method = "{name: analytic, features: 300}" if method == "analytic" else "{name: mas, lam: 3}"
    train(
        load_config("demo", [*settings, f"method={settings_of_method}", "training.checkpoint_minutes=0"]), place / "run"
    )
    stage = FactEmbedder.from_pretrained(FactRun.open(place / "run").stage_folder())
    with writing(place / "run" / "index", stage, stage=2) as index:
        index.sync(place / "scenes" / "images")


def prepare_once(scratch: Path, method: str) -> Path:
    """Prepare a folder to copy, in the place of its copies: a run stores the full paths of its photos."""
    base = scratch / method
    if not base.exists():
        shutil.rmtree(scratch / "place", ignore_errors=True)
        assert in_process(lambda: prepare(scratch / "place", method)) == 0
        shutil.move(scratch / "place", base)
    return base


def state_of(place: Path) -> dict[str, object]:
    """Return what must not be lost: the fingerprints of the stages, and the photos with their vectors."""
    run, index = FactRun.open(place / "run"), FactIndex.load(place / "run" / "index")
    photos = {path.name: index.rows([row])[0] for row, path in enumerate(index.paths) if not index.deleted[row]}
    latest = sorted((place / "run" / "checkpoints").iterdir())[-1].read_bytes()
    return {
        "stages": [run.fingerprint(stage) for stage in run.stages],
        "model": index.model,
        "photos": photos,
        "method": hash(latest),
    }


def check_nothing_lost(before: dict, place: Path) -> None:
    now = state_of(place)
    assert now["stages"][: len(before["stages"])] == before["stages"], "an earlier stage is lost or changed"
    assert before["photos"].keys() <= now["photos"].keys(), "photos are lost from the index"
    if now["model"] == before["model"]:
        same = all(np.array_equal(now["photos"][name], row) for name, row in before["photos"].items())
        assert same, "vectors have changed without a change of model"


def check_equal(reference: dict, place: Path) -> None:
    now = state_of(place)
    assert now["stages"] == reference["stages"], "repeated, the operation ends with other stages"
    assert now["model"] == reference["model"], "repeated, the index ends with another model"
    assert now["photos"].keys() == reference["photos"].keys(), "repeated, the index ends with other photos"
    for name, row in reference["photos"].items():
        assert np.allclose(now["photos"][name], row, atol=1e-4), f"repeated, {name} has another vector"


def in_process(work: Callable[[], object], kill_after: float | None = None) -> int:
    """Work in a forked process, which may be killed; returns its exit code, or -9."""
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
    # All copies have the same path, since paths are part of what is compared.
    place = scratch / "place"

    def restore() -> None:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(base, place)

    for _ in range(2):  # the first run reads files from disk
        restore()
        before = state_of_in_child(place)
        start = time.monotonic()
        assert in_process(lambda: operation(place)) == 0
        duration = time.monotonic() - start
    reference = state_of_in_child(place)
    starts = killed = lost = failed = 0
    while killed < times:
        restore()
        starts += 1
        killed += in_process(lambda: operation(place), rng.uniform(0, SLACK * duration)) == -signal.SIGKILL
        lost += in_process(lambda: check_nothing_lost(before, place)) != 0
        failed += in_process(lambda: (operation(place), check_equal(reference, place))) != 0
    return [name, f"{duration:.1f} s", str(starts), str(killed), str(lost), str(failed)]


def state_of_in_child(place: Path) -> dict:
    """Compute the state in a child: a process forked from one that has computed in threads may hang."""
    path = place.parent / "state.pt"
    assert in_process(lambda: torch.save(state_of(place), path)) == 0
    return torch.load(path, weights_only=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=50, help="kills during each operation")
    parser.add_argument("--only", nargs="*", default=list(OPERATIONS), choices=list(OPERATIONS))
    arguments = parser.parse_args()
    rng, failure = random.Random(0), False
    print("| operation | uninterrupted | started | killed | lost something | next command failed |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRIPLETCL_CACHE"] = f"{folder}/cache"
        for name in arguments.only:
            base = prepare_once(Path(folder), OPERATIONS[name][0])
            row = measure(name, base, base.parent, arguments.times, rng)
            print(f"| {' | '.join(row)} |", flush=True)
            failure |= row[-2:] != ["0", "0"]
    sys.exit(failure)


if __name__ == "__main__":
    main()
