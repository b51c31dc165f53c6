"""Every comparison of speed in this folder, as ratios to the usual way, with their goals.

    python benchmarks/speed.py --clock cpu --threads 1
    python benchmarks/speed.py --only evaluation --json

A part is a file here that can also be run by itself, with more options and output: importance, step, throughput,
evaluation, avalanche (which needs an interpreter with `avalanche-lib`, `--avalanche PATH`). A part that cannot run on
this machine is skipped with a sentence. `--json` prints one object a row: name, part, device, ratio, goal, direction;
where the direction is "at most", lower is better.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import interleaved
import torch
from interleaved import Row


@dataclass(frozen=True)
class Part:
    """One file of this folder.

    Attributes:
        ratio: The numerator and the denominator of its ratios.
        goals: The goal on a CPU and on a GPU; None if the part's rows have their own.
        direction: "at most" or "at least".
        quick: Arguments of its `rows` for a run that only shows that it works.
    """

    ratio: str
    goals: tuple[float, float] | None
    direction: str
    quick: dict[str, Any] = field(default_factory=dict)


PARTS = {
    "importance": Part(
        "exact importance / a plain forward and backward pass",
        (1.3, 1.15),
        "at most",
        {"models": ["alexnet"], "batch": 2, "size": 64, "repeats": 1},
    ),
    "step": Part(
        "a training step with MAS / without",
        (1.05, 1.03),
        "at most",
        {"models": {"alexnet": 2}, "size": 64, "repeats": 1, "optimizers": ("sgd",)},
    ),
    "throughput": Part(
        "images trained a second / a plain DataLoader loop's",
        (1.5, 3.0),
        "at least",
        {"cases": [("alexnet", None)], "images": 16, "batch": 8, "epochs": 1, "repeats": 1, "workers": 0, "size": 64},
    ),
    "evaluation": Part("scikit-learn's time / ours", None, "at least", {"quick": True}),
    "avalanche": Part("Avalanche's time / ours", None, "at least", {"quick": True}),
}


def main() -> None:
    options = parse()
    for name in options.only or PARTS:
        try:
            rows = rows_of(name, options)
        except (LookupError, ImportError) as reason:
            print(f"{name} is skipped: {reason}", file=sys.stderr if options.json else sys.stdout)
            continue
        show(name, rows, options.json)


def parse() -> argparse.Namespace:
    parser = interleaved.parser(__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, help="repeatable; default: all")
    parser.add_argument("--avalanche", default=sys.executable, metavar="PATH", help="an interpreter with avalanche")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    return interleaved.parse(parser)


def rows_of(name: str, options: argparse.Namespace) -> list[Row]:
    """The rows of a part, each with its goal.

    Raises:
        LookupError: Something that it needs is missing.
        ImportError: A package that it needs is missing.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise LookupError("torch sees no GPU here")
    part = PARTS[name]
    rows: Callable[..., list[Row]] = import_module(name).rows
    settings: dict[str, Any] = {
        "device": options.device,
        "clock": options.clock,
        **(part.quick if options.quick else {}),
    }
    if name == "avalanche":
        settings["python"] = options.avalanche
    goals = {} if part.goals is None else {"goal": part.goals[options.device != "cpu"], "direction": part.direction}
    return [{"part": name, **goals, **row} for row in rows(**settings)]


def show(name: str, rows: list[Row], as_json: bool) -> None:
    if as_json:
        print(interleaved.as_json(rows), flush=True)
        return
    print(f"\n{name}: {PARTS[name].ratio}")
    for row in rows:
        goal = "" if row["goal"] is None else f"  goal {row['direction']} {row['goal']:g}, {verdict(row)}"
        print(f"  {row['name']:76}{row['ratio']:8.2f}x{goal}", flush=True)


def verdict(row: Row) -> str:
    met = row["ratio"] <= row["goal"] if row["direction"] == "at most" else row["ratio"] >= row["goal"]
    return "met" if met else "missed"


if __name__ == "__main__":
    main()
