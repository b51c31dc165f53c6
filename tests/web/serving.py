"""A page, or the interface of a run, that is served in a thread."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tripletcl.web.api import build_api
from tripletcl.web.jobs import Jobs
from tripletcl.web.photo_library import Library
from tripletcl.web.server import address_of, build_app, build_server, open_port
from tripletcl.web.uploads import private_uploads


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


@contextmanager
def serving_api(run: Path, token: str | None = None, **settings: Any) -> Iterator[str]:
    """Serve a run's interface as `tripletcl serve` does within the block, and return its address."""
    with private_uploads() as uploads, open_port("127.0.0.1", 0) as listening, closing(Jobs()) as jobs:
        api = build_api(Library(run), jobs, uploads, **settings)
        with serving(build_app(None, uploads, api=api, token=token), listening) as address:
            yield address
