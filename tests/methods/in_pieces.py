"""A run that is killed and taken up again and again."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from toy import assert_same, run_toy

from tripletcl.continual import Method, RunFolder, Training


def assert_pieces_are_as_the_whole(
    tmp_path: Path,
    make: Callable[[], Method],
    training: Training | None = None,
    run: Callable[..., tuple[Any, RunFolder]] = run_toy,
) -> None:
    """Every attempt gets a few steps further than the last, then dies; the end is that of an uninterrupted run."""
    whole, _ = run(tmp_path / "whole", make(), training=training)
    for attempt in itertools.count(1):
        try:
            pieces, _ = run(tmp_path / "pieces", make(), training=training, stop_after=4)
            break
        except KeyboardInterrupt:
            torch.manual_seed(attempt)  # whatever state the new process would be in
    assert attempt > 3
    assert_same(whole, pieces)
