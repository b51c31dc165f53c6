"""Kills every command that writes at every change of its folder, and checks that nothing is lost or done twice.

$ python benchmarks/killed.py --everything      # at every change
$ python benchmarks/killed.py --times 50        # at random moments, also within a write

Each command runs in a process of its own on a run of a second, and is killed by SIGKILL: before each call that creates,
opens for writing, renames or removes a file, and before each statement that changes the index's database. Then

- commands that only read answer, or say why not in one sentence;
- the same command, repeated, ends as if it had not been killed: with the same files, but for times;
- of a command that changes a run, another one (`train --continue RUN`) leaves the run and its index as they were before
  or as they are after it, nothing in between.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from killing import COMMANDS, Campaign, Workplace

SLACK = 1.1
"""Factor of a command's duration: some kills come just after its end."""

MEMORY = Path("/dev/shm")
"""A file system in memory, where there is one: what is synced counts, not how long that takes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--everything", action="store_true", help="kill at every change")
    parser.add_argument("--times", type=int, default=0, help="kill each command so many times at a random moment")
    parser.add_argument("--every", type=int, default=1, help="of so many changes, kill at one")
    parser.add_argument("--only", nargs="*", default=[], help="commands whose name contains one of these")
    arguments = parser.parse_args()
    if not (arguments.everything or arguments.times):
        parser.error("--everything or --times N")
    torch.set_num_threads(1)  # a process forked from one that has computed in threads may hang
    commands = [each for each in COMMANDS if not arguments.only or any(name in each.name for name in arguments.only)]
    print("| command | kill points | killed | survived |\n| --- | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        os.environ["TRIPLETCL_CACHE"] = f"{folder}/cache"
        workplace = Workplace(Path(folder))
        workplace.warm_up()
        rows = [measure(Campaign(workplace, command), arguments) for command in commands]
    points, killed, survived = (sum(column) for column in zip(*rows, strict=True))
    print(f"| all | {points} | {killed} | {survived} |")
    sys.exit(survived < killed)


def measure(campaign: Campaign, arguments: argparse.Namespace) -> tuple[int, int, int]:
    """Kill one command and print its row; returns its kill points, and how often it was killed and survived."""
    rng, start = random.Random(0), time.monotonic()
    campaign.repeat()
    duration = time.monotonic() - start
    points = range(1, campaign.points + 1, arguments.every) if arguments.everything else ()
    wrong = {f"change {point}": campaign.kill(point) for point in points}
    for seconds in (rng.uniform(0, SLACK * duration) for _ in range(arguments.times)):
        wrong[f"{seconds:.3f} s"] = campaign.kill(after=seconds)
    for moment, words in wrong.items():
        if words:
            print(f"    {campaign.command.name}, killed at {moment}: {words}")
    survived = list(wrong.values()).count("")
    print(f"| {campaign.command.name} | {campaign.points} | {len(wrong)} | {survived} |", flush=True)
    return campaign.points, len(wrong), survived


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
