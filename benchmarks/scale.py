"""Costs at the size of the field's largest set of facts: 165,150 facts, 300,000 images, 906,232 rows, eight tasks.

    python benchmarks/scale.py                       # all rows, one after another; some take an hour
    python benchmarks/scale.py reading tasks --before 83b12c5

All data is drawn by this program; the frequency of a fact is 1 / sqrt(rank), and each has an image in both splits.
Each row runs in processes of its own, of which the peak of resident memory is taken.

- reading: `read_table` of a CSV file. With `--before COMMIT` that version reads it, too, in turns;
- tasks: reading, `split_facts` at random into eight tasks, all tasks with their targets, a batch of each;
- evaluation: all figures of a stage, against 100,000 test images of 3 units of 384 numbers. The vectors, all true pairs
  and all galleries have their full size; of the blocks of facts, `--blocks` are scored, and 0 scores them all. The time
  of a score is compared with that of 10,000 facts and as many images, block by block;
- analytic: a run of method analytic on given features (1,280 numbers an image) with 1,000 test images. It is killed
  with SIGKILL while it learns the fifth task, and resumed by the same call; the higher of both peaks counts.

A bound that is not kept ends the program with status 1.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

GIB = 2**30
TASKS, WIDTH, FEATURES = 8, 384, 1280
TEST_SHARE, GALLERY = 1 / 3, 1_000
"""The share of test images, and their number in the run of the analytic method."""


@dataclass(frozen=True)
class Size:
    """The size of the drawn table, of the reference row of evaluation, and M, the random features."""

    rows: int = 906_232
    facts: int = 165_150
    images: int = 300_000
    reference: int = 10_000
    gallery: int = 100_000
    random_features: int = 4_000
    batch: int = 512


FULL, QUICK = Size(), Size(8_000, 2_600, 900, 2_300, 100, 64, 64)


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        if options.child:
            CHILDREN[options.child](Path(options.place), options)
            return
        print(f"{processor()}, {len(os.sched_getaffinity(0))} cores\n{'':40}{'measured':>34}   bound", flush=True)
        kept = [row for name in options.rows for row in ROWS[name](Path(folder), options)]
    sys.exit(not all(kept))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}; by default all")
    parser.add_argument("--before", help="a commit whose reader is measured in turns")
    parser.add_argument("--blocks", type=int, default=16, help="blocks of facts to score; 0 for all")
    parser.add_argument("--folder", type=Path, help="where the data is written; by default the system's")
    parser.add_argument("--share", type=float, default=1.0, help="of rows, facts and images, on a busy machine")
    parser.add_argument("--quick", action="store_true", help="a tiny size, to test the program")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"there is no row {min(unknown)}; there are {', '.join(ROWS)}")
    options.rows = options.rows or list(ROWS)
    counts = {name: round(getattr(FULL, name) * options.share) for name in ("rows", "facts", "images")}
    options.size = QUICK if options.quick else replace(FULL, **counts)
    return options


def show(name: str, measured: str, bound: str, kept: bool) -> bool:
    print(f"{name:40}{measured:>34}   {bound}{'' if kept else '  NOT KEPT'}", flush=True)
    return kept


def processor() -> str:
    """The name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


# --- processes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """A process that has ended: its peak memory in bytes, and what it printed as JSON in its last line."""

    peak: int
    result: Any


def start(child: str, place: Path, options: argparse.Namespace, code: Path | None = None) -> subprocess.Popen[str]:
    """Start a row's process, with the package of another folder if one is given."""
    words = [sys.executable, __file__, "--child", child, "--place", str(place), "--blocks", str(options.blocks)]
    own = {**os.environ, "TRIPLETCL_CACHE": str(place / "cache"), **({"PYTHONPATH": str(code)} if code else {})}
    words += ["--share", str(options.share), *["--quick"] * options.quick]
    return subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=own)


def wait(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process.

    Raises:
        RuntimeError: it failed, other than by being killed.
    """
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{process.args} ended with status {process.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024
    return Ended(usage.ru_maxrss * scale, json.loads(lines[-1]) if lines and process.returncode == 0 else None)


def gib(peak: int) -> str:
    return f"{peak / GIB:.2f} GiB"


# --- data ------------------------------------------------------------------------------------------------------------


def write_rows(path: Path, size: Size, gallery: int | None = None) -> None:
    """Write a drawn table; with a gallery, its test rows name that many images and few facts."""
    rng = np.random.default_rng(0)
    tests = gallery or round(size.images * TEST_SHARE)
    facts, most = draw_facts(size.facts, rng), 2 * size.facts
    weights = 1 / np.sqrt(np.arange(1, size.facts + 1))
    more = rng.choice(size.facts, size.rows - most, p=weights / weights.sum())
    fact = np.concatenate([np.repeat(np.arange(size.facts), 2), more])
    is_test = np.concatenate([np.tile([False, True], size.facts), rng.random(len(more)) < TEST_SHARE])
    if gallery is not None:
        is_test &= rng.random(len(is_test)) < 3 * gallery / is_test.sum()
    image = np.where(is_test, size.images + rng.integers(0, tests, len(fact)), rng.integers(0, size.images, len(fact)))
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "subject", "predicate", "object", "split"])
        for row in rng.permutation(len(fact)).tolist():
            split = "test" if is_test[row] else "train"
            writer.writerow([f"{image[row] // 1000:03d}/{image[row]:06d}.jpg", *facts[fact[row]], split])


def draw_facts(count: int, rng: np.random.Generator) -> list[tuple[str, str, str]]:
    """Draw distinct facts of 1, 2 and 3 units, some words of them much more often than others."""
    things, verbs = max(20, count // 18), max(5, count // 66)
    facts: dict[tuple[str, str, str], None] = {}
    while len(facts) < count:
        order, places = rng.choice([1, 2, 3], p=[0.02, 0.18, 0.8]), rng.random(3) ** 2
        units = [
            f"subject{int(places[0] * things)}",
            f"verb{int(places[1] * verbs)}",
            f"thing{int(places[2] * things)}",
        ]
        facts[tuple(units[:order] + [""] * (3 - order))] = None  # type: ignore[index]
    return list(facts)


def write_words(path: Path, table: Path) -> None:
    """Write random word vectors of all words of a table."""
    with table.open(newline="") as file:
        words = {unit for row in csv.DictReader(file) for unit in (row["subject"], row["predicate"], row["object"])}
    rng = np.random.default_rng(1)
    with path.open("w") as file:
        for word in sorted(words - {""}):
            file.write(" ".join([word, *(f"{number:.4f}" for number in rng.standard_normal(WIDTH))]) + "\n")


# --- reading and tasks -----------------------------------------------------------------------------------------------


def reading(folder: Path, options: argparse.Namespace) -> list[bool]:
    write_rows(folder / "facts.csv", options.size)
    before = former_code(options.before, folder / "code") if options.before else None
    ended: dict[bool, list[Ended]] = {True: [], False: []}
    for _ in range(3):
        for old in (True, False) if before else (False,):
            ended[old].append(wait(start("read", folder, options, before if old else None)))
    seconds = {old: statistics.median(each.result["seconds"] for each in of) for old, of in ended.items() if of}
    peak = max(each.peak for each in ended[False])
    name = f"reading {options.size.rows:,} rows"
    kept = [show(name, f"{seconds[False]:.1f} s, peak {gib(peak)}", "peak 1.5 GB", peak < 1.5e9)]
    if before:
        times, former = seconds[True] / seconds[False], gib(max(each.peak for each in ended[True]))
        measured = f"{seconds[True]:.1f} s, {former}; {times:.1f} times"
        kept.append(show(f"the same by {options.before}", measured, "at least 3 times", times >= 3 or options.quick))
    return kept


def former_code(commit: str, folder: Path) -> Path:
    """Unpack the package as it was at a commit."""
    folder.mkdir(exist_ok=True)
    archive = subprocess.run(
        ["git", "archive", commit, "tripletcl"], cwd=Path(__file__).parents[1], check=True, capture_output=True
    )
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def read(place: Path, options: argparse.Namespace) -> None:
    from tripletcl.data import read_table

    begin = time.process_time()
    table = read_table(place / "facts.csv")
    print(json.dumps({"seconds": time.process_time() - begin, "facts": len(table.facts), "rows": len(table)}))


def tasks(folder: Path, options: argparse.Namespace) -> list[bool]:
    write_rows(folder / "facts.csv", options.size)
    ended = wait(start("split", folder, options))
    measured = f"{ended.result:.1f} s, peak {gib(ended.peak)}"
    return [show("reading, splitting, eight tasks", measured, "peak 2 GB", ended.peak < 2e9)]


def split(place: Path, options: argparse.Namespace) -> None:
    import torch

    from tripletcl.config import parse_config
    from tripletcl.data import read_table, split_facts
    from tripletcl.experiments.fact_tasks import fact_tasks

    begin = time.process_time()
    table = read_table(place / "facts.csv").join([])
    groups = split_facts(table, TASKS)
    config = parse_config({"data": {"table": str(place / "facts.csv"), "tasks": TASKS}}, "benchmark")
    made = fact_tasks(config, table, groups, [f"task {t}" for t in range(TASKS)], np.empty(0, np.int64))
    for task in made:
        task.batch(torch.zeros(options.size.batch), slice(0, options.size.batch))
    print(json.dumps(time.process_time() - begin))


# --- evaluation ------------------------------------------------------------------------------------------------------


def evaluation(folder: Path, options: argparse.Namespace) -> list[bool]:
    large, small = (wait(start(child, folder, options)) for child in ("evaluate", "reference"))
    size, ratio = options.size, large.result["seconds"] / small.result["seconds"]
    scored = f"{large.result['scored']:,} of {size.facts:,} facts scored"
    kept = [
        show(
            f"a stage, {size.facts:,} x {size.gallery:,}",
            f"peak {gib(large.peak)}, {scored}",
            "peak 6 GB",
            large.peak < 6e9,
        ),
        show(
            f"a score / one of {size.reference:,} facts",
            f"{1e9 * large.result['seconds']:.2f} ns / {1e9 * small.result['seconds']:.2f} ns = {ratio:.2f}",
            "at most 2 times",
            ratio <= 2 or options.quick,
        ),
    ]
    return kept


class Enough(Exception):
    """Ends an evaluation after a number of blocks."""


def evaluate(place: Path, options: argparse.Namespace) -> None:
    score_stage(options.size.facts, options)


def reference(place: Path, options: argparse.Namespace) -> None:
    score_stage(options.size.reference, options)


def score_stage(facts: int, options: argparse.Namespace) -> None:
    """Score a stage, or its first blocks; prints the median seconds of a score, and the number of facts scored."""
    import torch

    from tripletcl.data import Fact, FactTable
    from tripletcl.evaluation import FactEvaluator
    from tripletcl.progress import Progress, listening

    images, rng = options.size.gallery, np.random.default_rng(0)
    weights = 1 / np.sqrt(np.arange(1, facts + 1))
    counts = rng.permutation(np.maximum(1, 1.5 * images * weights / weights.sum()).astype(int))
    shown = np.repeat(np.arange(facts), np.minimum(counts, images))
    rows = np.unique(np.stack([rng.integers(0, images, len(shown)), shown], axis=1), axis=0)
    named = tuple(Fact(f"subject {number}", "does", "something") for number in range(facts))
    table = FactTable(Path(), tuple(map(str, range(images))), named, rows, np.repeat("test", len(rows)))
    groups = np.array_split(rng.permutation(facts), TASKS)
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(facts, 3, WIDTH, generator=generator)
    evaluator = FactEvaluator(
        table, [np.sort(g) for g in groups], vectors, torch.ones(facts, 3, dtype=torch.bool), torch.arange(facts)
    )
    ends: list[tuple[float, int]] = []

    def listen(progress: Progress) -> None:
        ends.append((time.process_time(), progress.done))
        if len(ends) > options.blocks > 0:
            raise Enough

    try:
        with listening(listen):
            evaluator.evaluate(torch.randn(images, 3, WIDTH, generator=generator), np.arange(images))
    except Enough:
        pass
    steps = pairwise(ends)
    seconds = statistics.median((end - begin) / ((done - before) * images) for (begin, before), (end, done) in steps)
    print(json.dumps({"seconds": seconds, "scored": ends[-1][1]}))


# --- a run of the analytic method ------------------------------------------------------------------------------------


def analytic(folder: Path, options: argparse.Namespace) -> list[bool]:
    size = options.size
    write_rows(folder / "facts.csv", size, max(30, GALLERY * size.images // FULL.images))
    write_words(folder / "words.txt", folder / "facts.csv")
    begin, process = time.monotonic(), start("learn", folder, options)
    while process.poll() is None and not (folder / "run" / "stages" / "stage-04" / "vectors.safetensors").exists():
        time.sleep(0.05)
    time.sleep(0 if options.quick else 20)
    process.kill()
    killed = wait(process)
    resumed = wait(start("learn", folder, options))
    peak, minutes = max(killed.peak, resumed.peak), (time.monotonic() - begin) / 60
    name = f"analytic, {size.facts:,} facts, {size.images:,} images"
    maps = f"MAP {resumed.result['overall'][0]:.3f} to {resumed.result['overall'][-1]:.3f}"
    ended = killed.result is None and len(resumed.result["overall"]) == TASKS + 1
    measured = f"peak {gib(peak)}, {minutes:.0f} min, {maps}"
    return [show(name, measured, "peak 8 GB, killed and resumed", peak < 8e9 and ended)]


def learn(place: Path, options: argparse.Namespace) -> None:
    """Learn the tasks on given features, or resume."""
    from tripletcl.config import parse_config
    from tripletcl.embedding.features import FeatureSource
    from tripletcl.experiments import facts as experiments
    from tripletcl.runs import kinds
    from tripletcl.runs.stored import FactRun, started
    from tripletcl.runs.train import learn

    settings = {
        "device": "cpu",
        "data": {"table": str(place / "facts.csv"), "tasks": TASKS, "cache_features": True},
        "model": {"weights": "none", "freeze_until": "head", "text": str(place / "words.txt"), "image_size": 64},
        "training": {"epochs": 1, "batch_size": options.size.batch},
        "method": {"name": "analytic", "features": options.size.random_features},
    }
    config = parse_config(settings, "benchmark")

    def prepare(run: FactRun, finished_tasks: int) -> experiments.FactExperiment:
        stored = started(run.path)
        given = FeatureSource([features(place / "features.npy", place / "facts.csv")])
        experiment = experiments.build_facts(run.own_settings, stored=stored, source=given)
        kinds.store_tables(run.path, experiment)
        return experiment

    run = FactRun.create(place / "run", config)
    kinds.KINDS["facts"] = kinds.KINDS["facts"]._replace(prepare=prepare)
    print(json.dumps({"overall": learn(run)[0].overall}))


def features(path: Path, table: Path) -> np.ndarray:
    """Map features `[N, 1, C]` of the images of a table into memory: one for each subject, and noise."""
    if not path.exists():
        from tripletcl.data import read_table

        read = read_table(table)
        rng = np.random.default_rng(2)
        of_subject = rng.standard_normal((4096, FEATURES), dtype=np.float32)
        fact = np.zeros(len(read.images), dtype=np.int64)
        fact[read.rows[:, 0]] = read.rows[:, 1]
        subjects = np.array([int(read.facts[number].subject.removeprefix("subject")) % 4096 for number in fact])
        whole = np.lib.format.open_memmap(path.with_suffix(".part"), "w+", np.float16, (len(fact), 1, FEATURES))
        for begin in range(0, len(fact), 4096):
            rows = of_subject[subjects[begin : begin + 4096]]
            whole[begin : begin + 4096, 0] = rows + rng.standard_normal(rows.shape, dtype=np.float32)
        whole.flush()
        path.with_suffix(".part").rename(path)
    return np.load(path, mmap_mode="r")


ROWS: dict[str, Callable[[Path, argparse.Namespace], Sequence[bool]]] = {
    "reading": reading,
    "tasks": tasks,
    "evaluation": evaluation,
    "analytic": analytic,
}
CHILDREN: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "read": read,
    "split": split,
    "evaluate": evaluate,
    "reference": reference,
    "learn": learn,
}

if __name__ == "__main__":
    main()
