"""Measures the recipe (`configs/photos_best.yaml`) with several image networks, alone and side by side.

    TRIPLETCL_DATA=... python benchmarks/encoders.py --out runs/encoders

Trains and evaluates the analytic readout on four random tasks of the photographs for each row of ROWS: one process a
row, one after another, so that each has its own peak of memory. Prints a row of a table as it is done: MAP over all
facts, by vectors only, the seconds of the four tasks, the peak resident memory, and the method's memory. A finished row
of the same folder is not trained again; features are cached for each network. Needs the extra `encoders`.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tripletcl.runs.stored import FactRun

SIZES = {"lite0": 224, "lite1": 240, "lite2": 260}
"""Side in pixels at which each network was trained."""

ROWS = [
    (("lite0",), 4000),
    (("lite0",), 8000),
    (("lite2",), 4000),
    (("lite2",), 8000),
    (("lite0", "lite2"), 4000),
    (("lite0", "lite2"), 8000),
    (("lite0", "lite1", "lite2"), 4000),
    (("lite0", "lite1", "lite2"), 8000),
    (("lite0", "lite1", "lite2"), 12000),
]
"""The networks and the number of random features of each row."""


def main() -> None:
    options = parse()
    print("| networks | features | all | open | seconds | peak memory | kept |")
    print("| --- " * 7 + "|")
    for networks, features in ROWS:
        folder = options.out / f"{'-'.join(networks)}-{features}"
        command = [sys.executable, "-m", "tripletcl", "train", "photos_best", *settings(networks, features)]
        peak = run([*command, *options.settings, "--out", str(folder)])
        result = FactRun.open(folder).result
        kept = result.method_bytes[-1] / 1e6
        print(
            f"| {' + '.join(networks)} | {features:,} | {result.final:.4f} | {result.map_open[-1]:.4f} "
            f"| {result.seconds:.0f} | {peak / 1e3:,.0f} MB | {kept:,.0f} MB |",
            flush=True,
        )


def settings(networks: tuple[str, ...], features: int) -> list[str]:
    """The changes of the config for some networks: photos at the smallest size, scaled up to each network's own."""
    names = ", ".join(f"tf_efficientnet_{network}" for network in networks)
    return [
        f"model.backbone=[{names}]",
        f"model.network_sizes={[SIZES[network] for network in networks]}",
        f"model.image_size={min(SIZES[network] for network in networks)}",
        "model.freeze_until=all",
        f"method={{name: analytic, features: {features}}}",
    ]


def run(command: list[str]) -> float:
    """Run a command, and return the peak resident memory of its processes in kB; end if it fails."""
    child = os.spawnvp(os.P_NOWAIT, command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/encoders"), help="folder of the runs")
    parser.add_argument("settings", nargs="*", help="further changes, section.key=value")
    return parser.parse_args()


if __name__ == "__main__":
    main()
