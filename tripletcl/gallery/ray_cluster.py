"""A connection to a Ray cluster, or to a Ray that is started on this machine."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tripletcl.errors import UserError

CONNECT_SECONDS = 10
"""How long a cluster may take to accept a connection; Ray itself would try for many minutes."""


@contextmanager
def connected(ray: Any, address: str | None, **own: Any) -> Iterator[None]:
    """Connect to a cluster within the block; a connection that is there is used, and left.

    Args:
        ray: The library.
        address: Of the cluster; default RAY_ADDRESS, and without it Ray is started on this machine.
        own: Options of `ray.init` for a Ray that is started here.

    Raises:
        UserError: there is no cluster at the address, or Ray does not start.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    options = {"include_dashboard": False, **own} if address in (None, "local") else {}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use otherwise
    try:
        _check_reachable(address or "")
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises exceptions of no class of its own
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"there is no Ray cluster at {address or 'this machine'}: {reason}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Open a connection to an address of a host and a port, and close it again."""
    if place := re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+?)\]?:(\d+)", address):
        socket.create_connection((place[1], int(place[2])), CONNECT_SECONDS).close()
