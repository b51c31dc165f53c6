"""A run that is killed and resumed several times."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from toy import assert_same, run_toy

from tripletcl.continual import Method, RunFolder, Training


def assert_interrupted_equals_whole(
    tmp_path: Path,
    make: Callable[[], Method],
    training: Training | None = None,
    run: Callable[..., tuple[Any, RunFolder]] = run_toy,
) -> None:
    """Each attempt takes a few steps more than the last, then is killed; the result is that of an uninterrupted run."""
    whole, _ = run(tmp_path / "whole", make(), training=training)
    for attempt in itertools.count(1):
        try:
            interrupted, _ = run(tmp_path / "interrupted", make(), training=training, stop_after=4)
            break
        except KeyboardInterrupt:
            torch.manual_seed(attempt)  # a new process could be in any state
    assert attempt > 3
    assert_same(whole, interrupted)
