"""Options, clocks and interleaved timing, shared by the programs here that measure speed."""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch

Row = dict[str, Any]
Runs = Mapping[str, Callable[[], object]]
Seconds = dict[str, list[float]]


def processor_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": processor_seconds}


def parser(doc: str | None, repeats: int | None = None) -> argparse.ArgumentParser:
    """A parser with the options that all programs share; `repeats` is the default of `--repeats`."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu on a machine that does other work, too")
    options.add_argument("--threads", type=int, help="default: torch's own")
    options.add_argument("--json", action="store_true", help="one object a row")
    if repeats is not None:
        options.add_argument("--repeats", type=int, default=repeats)
    return options


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the options and set torch's number of threads."""
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads or torch.get_num_threads())
    return options


def time_interleaved(runs: Runs, clock: str, repeats: int, device: str = "cpu") -> Seconds:
    """Time each run once in every round; returns seconds by run and round. A first round is not counted."""
    seconds: Seconds = {name: [] for name in runs}
    for round_ in range(-1, repeats):
        for name, run in runs.items():
            start = read_clock(clock, device)
            run()
            if round_ >= 0:
                seconds[name].append(read_clock(clock, device) - start)
    return seconds


def read_clock(clock: str, device: str) -> float:
    """Read a clock once the device has finished its work."""
    if device != "cpu":
        torch.cuda.synchronize()
    return CLOCKS[clock]()


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float:
    """The median over the rounds of one run's seconds divided by another's."""
    return statistics.median(a / b for a, b in zip(numerator, denominator, strict=True))


def device_name(device: str) -> str:
    """The name by which figures are quoted: a GPU's model, or "cpu"."""
    return device if device == "cpu" else torch.cuda.get_device_name()


def as_json(rows: Iterable[Row]) -> str:
    """One JSON object a line."""
    return "\n".join(map(json.dumps, rows))


def heading(options: argparse.Namespace) -> str:
    """The line above a table: device, clock, threads."""
    return f"{device_name(options.device)}, {options.clock} clock, {torch.get_num_threads()} threads"
