"""What the programs here that measure speed share: their options, their clocks, and sides that take turns."""

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
    """The processor's time of this process, and of its children that have ended."""
    used = (resource.getrusage(of) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in used)


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": processor_seconds}


def parser(doc: str | None, repeats: int | None = None) -> argparse.ArgumentParser:
    """A parser with the options that all have; `repeats` is their number where nothing is asked for."""
    options = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu where others work beside")
    options.add_argument("--threads", type=int, help="default: as many as torch takes")
    options.add_argument("--json", action="store_true", help="one object a row")
    if repeats is not None:
        options.add_argument("--repeats", type=int, default=repeats)
    return options


def parse(options: argparse.ArgumentParser, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for; torch takes its threads from there."""
    asked = options.parse_args(arguments)
    torch.set_num_threads(asked.threads or torch.get_num_threads())
    return asked


def taking_turns(runs: Runs, clock: str, repeats: int, device: str = "cpu", warm: bool = True) -> Seconds:
    """Seconds of every run in every round; with `warm` one more round comes first, which is not counted."""
    seconds: Seconds = {name: [] for name in runs}
    for round_ in range(-warm, repeats):
        for name, run in runs.items():
            start = settled(clock, device)
            run()
            if round_ >= 0:
                seconds[name].append(settled(clock, device) - start)
    return seconds


def settled(clock: str, device: str) -> float:
    """The time when the device has done all that it was asked to."""
    if device != "cpu":
        torch.cuda.synchronize()
    return CLOCKS[clock]()


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median over the rounds of one run's seconds / the other's."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def device_name(device: str) -> str:
    """As figures are to be quoted: a GPU by its name."""
    return device if device == "cpu" else torch.cuda.get_device_name()


def as_json(rows: Iterable[Row]) -> str:
    return "\n".join(map(json.dumps, rows))


def heading(asked: argparse.Namespace) -> str:
    """What stands above a table."""
    return f"{device_name(asked.device)}, {asked.clock} clock, {torch.get_num_threads()} threads"
