"""Groups of processes, launched as a user launches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

ROOT = Path(__file__).parents[2]
SECONDS = 240
"""The longest that a group may take on a machine that is busy."""


def launched(count: int, words: Sequence[object], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `torchrun --standalone --nproc-per-node COUNT WORDS` to its end."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "group")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **variables}
    process = subprocess.Popen(
        [*torchrun, *map(str, words)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)  # torchrun ends its processes
        raise
    return subprocess.CompletedProcess(words, process.returncode, *output)


class Group(NamedTuple):
    """What each process of a group computed."""

    size: int
    results: list[dict[str, Any]]


def group_of(size: int, folder: Path, run: Path, steps: int) -> Group:
    """Compute the cases of `together`, and some steps more of a run."""
    ended = launched(size, [ROOT / "tests" / "group" / "together.py", folder, run, steps])
    assert ended.returncode == 0, ended.stderr
    return Group(size, [torch.load(folder / f"rank{rank}.pt") for rank in range(size)])
