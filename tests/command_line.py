"""The command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Output(NamedTuple):
    """The end of a command: its exit code and what it printed."""

    code: int
    out: str
    err: str


Command = Callable[..., Output]
"""Runs `tripletcl` with the given words."""
