"""Processor time of a question, and of the server until its first answer: medians, each in a process of its own.

    python benchmarks/asking.py runs/photos

"new word" is another one each time, which no run on this machine was asked for: the cache of this program is its own.
The time is that of all threads, user and system. What the imports take is found by `python -X importtime -m tripletcl
query RUN dog`.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = [sys.executable, "-m", "tripletcl"]
NEW = (
    "otter",
    "zeppelin",
    "marmalade",
    "quarry",
    "violin",
    "gazebo",
    "thimble",
    "walrus",
    "saffron",
    "trellis",
    "ukulele",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run with an index")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="the run has the page of stages and methods")
    options = parser.parse_args()
    run, words = str(options.run), iter(NEW)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRIPLETCL_CACHE"] = cache
        used(["query", run, "dog", "+", "cat"])
        cases: dict[str, Callable[[], float]] = {
            "query, a word asked before": lambda: used(["query", run, "dog"]),
            "query, a new word": lambda: used(["query", run, next(words)]),
            "query, two terms": lambda: used(["query", run, "dog", "+", "cat"]),
            "query of a folder that is no run": lambda: used(["query", cache, "dog"], code=2),
            "serve, until the first page is answered": lambda: served(run, "/"),
            "serve, until a question is answered": lambda: served(run, "/api/v1/query?words=dog"),
        }
        if options.memory:
            cases["serve, until the page of stages is answered"] = lambda: served(run, "/memory/")
        print("| what | processor |\n| --- | ---: |")
        for name, measure in cases.items():
            print(f"| {name} | {statistics.median(measure() for _ in range(options.times)):.2f} s |", flush=True)


def used(arguments: list[str], code: int = 0) -> float:
    """The processor time of a command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def served(run: str, path: str) -> float:
    """The processor time of a server when it has answered once."""
    with server(run) as (process, address):
        urllib.request.urlopen(address + path).read()
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(run: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [*COMMAND, "serve", run, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
