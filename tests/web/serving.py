"""A page that is served in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tripletcl.web.server import address_of, build_server


@contextmanager
def serving(app: Any, listening: socket.socket) -> Iterator[str]:
    """Serve an application at an open port within the block, and return its address."""
    server = build_server(app)
    listening.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield address_of(listening)
    finally:
        server.should_exit = True
        thread.join()
