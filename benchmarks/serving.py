"""Time of answers and memory of `tripletcl serve`: many visitors at once, and many questions one after another.

    python benchmarks/serving.py --rows 100000

The run is that of `tripletcl photos` on drawn scenes, and the rows of its index are repeated with noise under other
names, until there are as many as asked for; their structure is the one that an index of that size gets.

A visitor asks for a page of photos, as the first page does, by a word that the model knows, that somebody asked for
before, or that is new: the folder of what was encoded before is empty. "memory" is what the server's process takes
beside mapped files. "--parts" times the parts of one answer instead, in this process, without HTTP.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tripletcl import Client
from tripletcl.embedding import TextEmbedder
from tripletcl.retrieval import FactIndex, Hit, Request, answer, notes_on, parse_request, writing
from tripletcl.retrieval.presence import presences
from tripletcl.retrieval.request import query_vectors
from tripletcl.retrieval.table import blocks
from tripletcl.runs.asking import ask as ask_collection
from tripletcl.runs.collection import open_collection
from tripletcl.runs.photos import collect
from tripletcl.scenes import write_scenes

UNITS, NOISE, BLOCK, ROUNDS, PAGE = 3, 0.01, 4096, 3, 24
ADJECTIVES = ("", "small", "wet", "striped", "green", "old", "wooden", "round", "shiny", "broken", "empty")
PLACES = ("", "on grass", "at night")
THINGS = ("dog", "cat", "boat", "kite", "ball", "horse", "umbrella", "bicycle", "tree", "house", "bird", "car", "hat")
THINGS += ("robot", "guitar", "cup", "chair", "lamp", "shoe", "clock")


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as place:
        run = options.run or make_run(Path(place), options.rows)
        os.environ["TRIPLETCL_CACHE"] = str(Path(place) / "cache")
        if options.parts:
            print_parts(run)
            return
        with served(run) as (process, client):
            about = client.about()
            print(f"{about['photos']:,} photos; ready after {processor_seconds(process):.1f} s of processor time")
            words = questions()
            ask(client, words[:1])
            print("\n| visitors at once | median | 95 % | slowest | processor, each |")
            print("| ---: | ---: | ---: | ---: | ---: |")
            for visitors in options.visitors:
                before = processor_seconds(process)
                cells = times(client, words[:visitors])
                each = (processor_seconds(process) - before) / (ROUNDS * visitors)
                print(f"| {visitors} | {' | '.join(f'{1e3 * value:.0f} ms' for value in (*cells, each))} |", flush=True)
            print("\n| questions | memory |\n| ---: | ---: |")
            asked = 0
            for until in options.questions:
                ask(client, words[asked:until])
                asked = until
                print(f"| {until} | {resident_megabytes(process):.0f} MB |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--run", type=Path, help="a run with an index, in place of the drawn one")
    parser.add_argument("--parts", action="store_true", help="the parts of one answer in place of visitors")
    parser.add_argument("--visitors", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--questions", type=int, nargs="+", default=[50, 100, 200, 300, 400, 500])
    return parser.parse_args()


def make_run(folder: Path, rows: int) -> Path:
    scenes = write_scenes(folder / "scenes", facts=60, train=1, test=1, size=96).parent
    run = collect(scenes, folder / "run").run
    repeat(run / "index", rows)
    return run


def repeat(place: Path, count: int) -> None:
    """Replace an index by one whose rows are the former ones with noise, until there are `count`."""
    before, model = FactIndex.load(place), TextEmbedder.from_pretrained(place.parent)
    rows, photos, rng = before.rows().reshape(len(before), UNITS, -1), before.photos, np.random.default_rng(0)
    with writing(place.with_name("repeated"), model, stage=before.stage) as index:
        for block in blocks(count, BLOCK):
            origin = np.arange(block.start, block.stop) % len(rows)
            names = [
                photos[row].with_name(f"{number:07d}-{photos[row].name}")
                for number, row in enumerate(origin, block.start)
            ]
            noise = rng.standard_normal((len(origin), 1, rows.shape[2]), np.float32)  # as the base, of all units
            index.add(names, rows[origin] + np.float32(NOISE) * noise)
    shutil.rmtree(place)
    place.with_name("repeated").rename(place)


@contextmanager
def served(run: Path) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    command = [sys.executable, "-m", "tripletcl", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        try:
            yield process, Client(address)
        finally:
            process.terminate()


def questions() -> list[str]:
    """Things, with and without an adjective and a place: each a question of its own."""
    parts = itertools.product(PLACES, ADJECTIVES, THINGS)
    return [" ".join(filter(None, (adjective, thing, place))) for place, adjective, thing in parts]


def times(client: Client, words: Sequence[str]) -> tuple[float, float, float]:
    """The median, the 95 % quantile and the slowest of the seconds that visitors wait who ask at once."""
    with ThreadPoolExecutor(len(words)) as pool:
        seconds = np.concatenate([list(pool.map(lambda each: ask(client, [each]), words)) for _ in range(ROUNDS)])
    return float(np.median(seconds)), float(np.quantile(seconds, 0.95)), float(seconds.max())


def ask(client: Client, words: Sequence[str]) -> float:
    start = time.perf_counter()
    for each in words:
        client.query(each, k=PAGE)
    return time.perf_counter() - start


def print_parts(run: Path) -> None:
    """Print the processor time of each part of an answer to one term, when it is new and when it is asked again."""
    photos = open_collection(run, texts_only=True)
    index, model, facts = photos.index, photos.embedder, photos.known_facts
    words = [each for each in questions() if len(parse_request(each, facts).terms) == 1][:50]
    ask_collection(photos, "a word before all others", PAGE)
    requests: list[Request] = []
    hits: list[Sequence[Hit]] = []
    steps: dict[str, Callable[[int], object]] = {
        "reading the words": lambda n: requests.append(parse_request(words[n], facts)),
        "vectors of the words": lambda n: query_vectors([term.wanted for term in requests[n].terms], model),
        "what a reader should know": lambda n: notes_on(requests[n], model, model.vocabulary),
        "the best photos": lambda n: hits.append(answer(index, requests[n], PAGE)),
        "presence": lambda n: presences(requests[n], index, model),
        "details of the photos": lambda n: index.details(hit.path for hit in hits[n]),
    }
    print("| part | new | again |\n| --- | ---: | ---: |")
    times = np.array([[[seconds_of(step, n) for step in steps.values()] for n in range(len(words))] for _ in range(2)])
    for name, (new, again) in zip(steps, 1e3 * times.mean(axis=1).T, strict=True):
        print(f"| {name} | {new:.2f} ms | {again:.2f} ms |")
    new, again = 1e3 * times.sum(axis=2).mean(axis=1)
    print(f"| all | {new:.1f} ms | {again:.1f} ms |")


def seconds_of(step: Callable[[int], object], number: int) -> float:
    start = time.process_time()
    step(number)
    return time.process_time() - start


def processor_seconds(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(each for each in status if each.startswith("RssAnon")).split()[1]) / 1024


if __name__ == "__main__":
    main()
