"""Time and memory to open an index of many photos, to filter its photos, and to find one by its path.

    python benchmarks/opening.py --rows 1000000

The rows are narrow: the vectors stay on disk in any case. "memory" is what the process takes, without mapped files.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.retrieval import FactIndex, Filter
from tripletcl.retrieval.database import About
from tripletcl.retrieval.details import unread_records
from tripletcl.retrieval.names import name_bytes, name_hash
from tripletcl.retrieval.store import open_writer
from tripletcl.retrieval.table import NAMES, PHOTOS, VECTORS, GrowingArray, Table

FILTERS = [Filter.parse(after="2019"), Filter(folder="2012"), Filter(name="img_00012*")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.rows)
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(Path(folder),))
        process.start()
        process.join()


def name_of(row: int) -> str:
    return f"/home/anna/Pictures/{2000 + row % 25}/holiday {row % 997}/IMG_{row:07d}.jpg"


def write(folder: Path, count: int) -> None:
    rng, names = np.random.default_rng(0), [name_of(row) for row in range(count)]
    text, records = name_bytes(names), unread_records(1).repeat(count)
    ends = np.flatnonzero(text == 0)
    records["start"] = np.concatenate([[0], ends[:-1] + 1])
    records["length"] = ends - records["start"]
    records["hash"] = [name_hash(name) for name in names]
    records["mtime_ns"] = rng.integers(0, 1_700_000_000, count) * 10**9
    vectors = rng.standard_normal((count, 12), np.float32)
    with open_writer(folder) as writer:
        table = Table(deleted=GrowingArray(np.zeros(count, bool)))
        writer.rewrite(About(), table, {VECTORS: [vectors], PHOTOS: [records], NAMES: [text]})


def measure(folder: Path) -> None:
    before = resident_megabytes()
    index = timed("open", lambda: FactIndex.load(folder))
    print(f"{len(index):,} photos, memory {resident_megabytes() - before:.0f} MB")
    for where in FILTERS:
        kept = timed(f"filter: {where}", lambda where=where: index.kept(where))
        print(f"{kept.mean():.2%} kept")
    for times in ("first", "then"):
        timed(f"details of a path, {times}", lambda: index.details([name_of(0)]))
    print(f"memory {resident_megabytes() - before:.0f} MB")


def timed(what: str, run: Callable[[], Any]) -> Any:
    start = time.perf_counter(), time.process_time()
    result = run()
    seconds, processor = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"{what}: {1e3 * seconds:.1f} ms, processor {1e3 * processor:.1f} ms", flush=True)
    return result


def resident_megabytes() -> float:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
