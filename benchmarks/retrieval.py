"""Cost and recall of search among many photos: exact, by neighbour graphs in several arrangements, by codes in lists.

    python benchmarks/retrieval.py --vectors runs/RUN/stages/stage-04/vectors.safetensors --rows 100000

The rows are sampled from the test photographs of a stage. A row is a random mixture of two photographs, at least half
of it the first, w ~ U(.5, 1), plus Gaussian noise with the photographs' covariance at `--spread` of their standard
deviation, plus white Gaussian noise of length `--white` a unit, each unit normalised again. So neighbours differ as
photographs of one kind differ, and a projection has something to lose. Statistics of a sample are printed next to those
of the photographs.

Queries are the stage's fact vectors: half are facts, half are combinations of units of facts; for each of the seven
patterns the other units are zero. There are three more groups: subjects that no task has taught (texts of objects used
as subjects), a fact minus half of another, and photographs as queries.

recall@10 is the share of the ten best by exact search on the full vectors; a row that scores as the tenth best counts.
A latency is one query on one thread: candidates, their scores by the full vectors (a memory map), the ten best. Every
query runs once before it is timed; with `--cold` the system is told to drop the rows from memory before each. "memory"
is the size of the structure's file, or of the rows. "processor" is the median of the processor time, which depends less
on other work on the machine. "resident" is the memory that loading the structure adds to the process, without mapped
files.

`--reuse FOLDER` stores rows, exact answers and structures in a folder, and uses those that it contains.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from safetensors.numpy import load_file

from tripletcl.retrieval import exact_search, graphs
from tripletcl.retrieval.projection import BLOCK, part_columns
from tripletcl.retrieval.structures import Structure, build_structure, load_structure
from tripletcl.retrieval.table import blocks

UNITS = "SPO"
PATTERNS = ["".join(units) for size in (1, 2, 3) for units in itertools.combinations(UNITS, size)]
WILDCARDS = PATTERNS[:-1]
OTHERS = ["untaught S", "a - b/2", "photo"]
ARRANGEMENTS = ["flat", "hnsw", "whole graph", "united graphs", "graph a pattern", "ivfpq"]
TIES = 1e-6
"""Scores that differ by less are equal: float32 sums of three cosines."""

Search = Callable[[np.ndarray, int], list[np.ndarray]]


def main() -> None:
    options = parse()
    faiss.omp_set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.reuse or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        images, facts = stage_vectors(options.vectors)
        rows = stored_rows(folder, images, options)
        queries = sample_queries(images, facts, options.queries, np.random.default_rng(options.seed))
        tenth = stored_answers(folder, rows, queries)
        for arrangement in options.kinds:
            build(folder, arrangement, rows)
        print(f"{len(rows):,} rows of {rows.shape[1]}, load average {os.getloadavg()[0]:.1f}\n")
        spawn = multiprocessing.get_context("spawn")  # a process for each, to measure its memory
        with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
            tasks = [processes.submit(measure, folder, kind, queries, tenth, options.cold) for kind in options.kinds]
            print_table([task.result() for task in tasks])


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True, help="a stage's vectors.safetensors")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kinds", nargs="+", choices=ARRANGEMENTS, default=ARRANGEMENTS)
    parser.add_argument("--reuse", type=Path, help="folder to store what is built")
    parser.add_argument("--queries", type=int, default=60, help="for each pattern")
    parser.add_argument("--spread", type=float, default=0.5, help="noise with the photographs' covariance")
    parser.add_argument("--white", type=float, default=0.05, help="noise in every direction")
    parser.add_argument("--threads", type=int, default=2, help="for building; a query runs on one")
    parser.add_argument("--cold", action="store_true", help="with the rows dropped from memory before each query")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


# --- rows, queries, exact answers ------------------------------------------------------------------------------------


def stage_vectors(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Test photographs `[N, 3, D]`, each unit of length 1, and facts `[F, 3, D]`."""
    stored = load_file(path)
    images = stored["images"].astype(np.float32)
    return images / np.linalg.norm(images, axis=-1, keepdims=True), stored["facts"].astype(np.float32)


def stored_rows(folder: Path, images: np.ndarray, options: argparse.Namespace) -> np.ndarray:
    path = folder / "rows.npy"
    if not path.exists():
        start = time.perf_counter()
        incomplete = path.with_name("incomplete.npy")
        rows = np.lib.format.open_memmap(incomplete, "w+", np.float32, (options.rows, images[0].size))
        sample_rows(images, rows, options.spread, options.white, np.random.default_rng(options.seed))
        rows.flush()
        incomplete.replace(path)
        print(f"rows sampled in {time.perf_counter() - start:.0f} s", flush=True)
    rows = np.load(path, mmap_mode="r")
    if len(rows) != options.rows:
        raise SystemExit(f"{path} holds {len(rows)} rows, not {options.rows}; give another folder")
    print_statistics("photographs", images.reshape(len(images), -1))
    print_statistics("rows", rows[: len(images)])
    return rows


def sample_rows(images: np.ndarray, out: np.ndarray, spread: float, white: float, rng: np.random.Generator) -> None:
    """Fill `out`, `[n, 3 * D]`, as described at the top."""
    flat = images.reshape(len(images), -1)
    _, scales, directions = np.linalg.svd((flat - flat.mean(axis=0)) / len(flat) ** 0.5, full_matrices=False)
    shape = (scales[:, None] * directions).astype(np.float32)  # shape.T @ shape is the covariance
    for block in blocks(len(out), BLOCK):
        count = block.stop - block.start
        first, second = rng.integers(len(flat), size=(2, count))
        weight = rng.uniform(0.5, 1, size=(count, 1)).astype(np.float32)
        mixed = weight * flat[first] + (1 - weight) * flat[second]
        mixed += spread * (rng.standard_normal((count, len(shape)), dtype=np.float32) @ shape)
        units = scaled(mixed.reshape(count, *images.shape[1:]))
        units += white / images.shape[2] ** 0.5 * rng.standard_normal(units.shape, dtype=np.float32)
        out[block] = scaled(units).reshape(count, -1)


def scaled(units: np.ndarray) -> np.ndarray:
    return units / np.linalg.norm(units, axis=-1, keepdims=True)


def print_statistics(name: str, rows: np.ndarray) -> None:
    """Print for each unit the cosine of a row with the nearest other row, and the variance in 96 directions."""
    words = []
    for letter, unit in zip(UNITS, np.split(rows, len(UNITS), axis=1), strict=True):
        cosines = unit @ unit.T
        np.fill_diagonal(cosines, -1)
        variances = np.linalg.eigvalsh(np.cov(unit.T))[::-1]
        words.append(f"{letter} {cosines.max(axis=1).mean():.2f} {variances[:96].sum() / variances.sum():.3f}")
    print(f"{name}: mean cosine with the nearest, variance in 96 directions: {'; '.join(words)}", flush=True)


def sample_queries(
    images: np.ndarray, facts: np.ndarray, count: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """`[count, 3 * D]` for each pattern and each of the other groups."""
    named = np.linalg.norm(facts, axis=2) > 0.5  # [F, U]
    whole = facts[named.all(axis=1)]
    pools = [np.unique(facts[named[:, unit], unit], axis=0) for unit in range(len(UNITS))]

    def texts() -> np.ndarray:
        units = [pool[rng.integers(len(pool), size=count)] for pool in pools]
        return np.stack(units, axis=1)  # [count, U, D]

    queries = {}
    for pattern in PATTERNS:
        vectors = np.where(np.arange(count)[:, None, None] % 2, texts(), whole[rng.integers(len(whole), size=count)])
        queries[pattern] = vectors * np.array([letter in pattern for letter in UNITS])[:, None]
    queries["untaught S"] = np.zeros_like(queries["S"])
    queries["untaught S"][:, 0] = texts()[:, 2]
    queries["a - b/2"] = queries["SPO"] - texts() / 2
    queries["photo"] = images[rng.integers(len(images), size=count)]
    return {name: np.ascontiguousarray(each.reshape(count, -1), np.float32) for name, each in queries.items()}


def stored_answers(folder: Path, rows: np.ndarray, queries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The tenth best score of each query, `[count]` for each group, by plain products over all rows."""
    path = folder / "answers.npz"
    vectors = np.concatenate(list(queries.values()))
    if not path.exists():
        best = np.full((len(vectors), 0), -np.inf, np.float32)
        for block in blocks(len(rows), BLOCK):
            scores = np.concatenate([best, vectors @ rows[block].T], axis=1)
            best = -np.partition(-scores, 9, axis=1)[:, :10]
        np.savez(path, queries=vectors, tenth=best.min(axis=1))
    answers = np.load(path)
    if not np.array_equal(answers["queries"], vectors):
        raise SystemExit(f"{path} answers other queries; give another folder")
    return dict(zip(queries, np.split(answers["tenth"], len(queries)), strict=True))


# --- arrangements ----------------------------------------------------------------------------------------------------


def build(folder: Path, arrangement: str, rows: np.ndarray) -> None:
    """Build the structures of an arrangement that the folder lacks, and record the time."""
    if arrangement in ("hnsw", "ivfpq"):
        timed(folder, arrangement, lambda path: build_structure(arrangement, rows).save(path))
    elif arrangement != "flat":
        build(folder, "hnsw", rows)
    if arrangement == "graph a pattern":
        small = load_structure(folder / "hnsw").parts[0].referenced_objects[0]
        for pattern in PATTERNS[3:-1]:
            timed(folder, pattern, lambda path, pattern=pattern: pattern_graph(small, pattern).tofile(path))


def timed(folder: Path, name: str, make: Callable[[Path], object]) -> None:
    times = folder / "seconds.json"
    seconds = json.loads(times.read_text()) if times.exists() else {}
    if name in seconds:
        return
    start, load = time.perf_counter(), os.getloadavg()[0]
    make(folder / name)
    seconds[name] = time.perf_counter() - start
    times.write_text(json.dumps(seconds))
    print(f"{name} built in {seconds[name]:.0f} s, load average {load:.1f} to {os.getloadavg()[0]:.1f}", flush=True)


def pattern_graph(storage: faiss.Index, pattern: str) -> np.ndarray:
    """Build a graph of only the pattern's units."""
    columns = part_columns(len(UNITS), storage.d)
    selected = np.concatenate([np.arange(storage.d)[columns[UNITS.index(letter)]] for letter in pattern])
    rows = np.concatenate(
        [storage.reconstruct_n(b.start, b.stop - b.start)[:, selected] for b in blocks(storage.ntotal, BLOCK)]
    )
    return graphs.link_rows(rows, seed=0)


def load(folder: Path, arrangement: str, rows: np.ndarray) -> tuple[Search, Structure | None]:
    if arrangement == "flat":
        return lambda query, k: [exact_search.search(rows, query, k)[0][1]], None
    structure = load_structure(folder / ("ivfpq" if arrangement == "ivfpq" else "hnsw"))
    if arrangement == "whole graph":
        structure.parts = [structure.parts[-1]] * 4
    if arrangement == "united graphs":
        structure.parts = structure.parts[:-1]
        return lambda query, k: [unite_graphs(structure, query, k)], structure
    if arrangement == "graph a pattern":
        storage = structure.parts[0].referenced_objects[0]
        links = {name: np.fromfile(folder / name, np.uint8) for name in PATTERNS[3:-1]}
        more = {name: graphs.attach_storage(each, storage) for name, each in links.items()}
        names = dict(zip([*UNITS, UNITS], structure.parts, strict=True)) | more
        structure.parts = list(names.values())
        structure._parts_for = lambda query: np.array([list(names).index(pattern_of(query[0]))])  # type: ignore[method-assign]
    return structure.candidates, structure


def unite_graphs(structure: Structure, query: np.ndarray, k: int) -> np.ndarray:
    """The proposals of the graphs of all units of a query."""
    proposals = []
    for unit in range(len(UNITS)):
        single = np.zeros_like(query)
        block = slice(unit * query.shape[1] // 3, (unit + 1) * query.shape[1] // 3)
        single[:, block] = query[:, block]
        if single.any():
            proposals += structure.candidates(single, k)
    return np.unique(np.concatenate(proposals))


def pattern_of(query: np.ndarray) -> str:
    return "".join(letter for letter, block in zip(UNITS, np.split(query, 3), strict=True) if block.any())


# --- measures --------------------------------------------------------------------------------------------------------


def measure(
    folder: Path, arrangement: str, queries: dict[str, np.ndarray], tenth: dict[str, np.ndarray], cold: bool
) -> dict[str, Any]:
    """Measure one line of the table, with the recall for each group of queries."""
    faiss.omp_set_num_threads(1)
    rows = np.load(folder / "rows.npy", mmap_mode="r")
    before = resident_bytes()
    search, structure = load(folder, arrangement, rows)
    search(queries["SPO"][:1], 10)
    added = resident_bytes() - before
    recall, seconds, proposed = {}, [], []
    few = 10 if cold or structure is None else None
    for name, vectors in queries.items():
        answers = [answer(search, rows, query, cold) for query in vectors[:few]]
        if name in PATTERNS:
            seconds += [each[1:3] for each in answers]
            proposed += [each[3] for each in answers]
        hits = [each[0] >= least - TIES for each, least in zip(answers, tenth[name], strict=False)]
        recall[name] = float(np.mean([each[:10].sum() / 10 for each in hits]))
    times = json.loads((folder / "seconds.json").read_text()) if structure is not None else {}
    return {
        "arrangement": arrangement,
        "build": sum(times[name] for name in structures_of(arrangement)),
        "bytes": rows.nbytes if structure is None else (folder / structure.kind).stat().st_size,
        "resident": added,
        "candidates": np.mean(proposed),
        "milliseconds": 1e3 * np.array(seconds),
        "recall": recall,
    }


def answer(search: Search, rows: np.ndarray, query: np.ndarray, cold: bool) -> tuple[np.ndarray, float, float, int]:
    """The ten best scores, their seconds by the clock and of the processor, and the number of candidates."""
    if cold:
        drop_pages(rows)
    else:  # the rows of twice the query are the same, but a structure remembers others
        exact_search.scores(rows, query, search(2 * query[None], 10)[0])
    start = time.perf_counter(), time.process_time()
    candidates = search(query[None], 10)[0]
    scores = exact_search.scores(rows, query, candidates)
    best = np.sort(scores)[::-1][:10]
    return best, time.perf_counter() - start[0], time.process_time() - start[1], len(candidates)


def drop_pages(rows: np.memmap) -> None:
    """Tell the system to drop a file's pages from memory."""
    with open(rows.filename, "rb") as file:  # noqa: PTH123
        rows._mmap.madvise(4)  # MADV_DONTNEED: unmapped in this process
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def structures_of(arrangement: str) -> list[str]:
    return {"flat": [], "graph a pattern": ["hnsw", *PATTERNS[3:-1]], "ivfpq": ["ivfpq"]}.get(arrangement, ["hnsw"])


def resident_bytes() -> int:
    """The memory of the process, without mapped files."""
    with suppress(FileNotFoundError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("RssAnon"):
                return int(line.split()[1]) * 1024
    return 0


def print_table(measured: Sequence[dict[str, Any]]) -> None:
    columns = ["arrangement", "build", "memory", "resident", "candidates", "median", "95 %", "processor"]
    columns += ["full", "wildcards", *WILDCARDS, *OTHERS]
    print("| " + " | ".join(columns) + " |")
    print("| --- " * len(columns) + "|")
    for each in measured:
        recall = each["recall"]
        cells = [
            each["arrangement"],
            f"{each['build']:.0f} s",
            *(f"{each[m] / 1e6:,.0f} MB" for m in ("bytes", "resident")),
        ]
        cells += [f"{each['candidates']:,.0f}"]
        clock, processor = each["milliseconds"].T
        cells += [f"{value:.2f} ms" for value in (*np.quantile(clock, [0.5, 0.95]), np.median(processor))]
        cells += [f"{recall['SPO']:.3f}", f"{np.mean([recall[p] for p in WILDCARDS]):.3f}"]
        print(
            "| " + " | ".join([*cells, *(f"{recall[name]:.3f}" for name in [*WILDCARDS, *OTHERS])]) + " |", flush=True
        )


if __name__ == "__main__":
    main()
