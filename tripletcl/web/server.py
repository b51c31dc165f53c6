"""The server of the page: for this machine only by default, and nothing is fetched from elsewhere."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from tripletcl.errors import UserError

if TYPE_CHECKING:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

PHOTO_BYTES, REQUEST_BYTES = 25 * 10**6, 400 * 10**6
"""Limits of one uploaded photo, and of all photos of one request."""

UPLOADS_KEPT, UPLOADS_CHECKED = 6 * 3600, 600
"""Seconds after which an uploaded photo is deleted, and between two checks; all are deleted when the server ends."""

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "Liberation Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]
"""Fonts of the system: those of Gradio would be fetched, or shipped."""


def asset(name: str) -> str:
    """Read a style sheet or a script of the page."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def check_gradio() -> None:
    """Check that Gradio is installed.

    Raises:
        UserError: it is not.
    """
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError('the page needs Gradio, which is not installed: pip install "tripletcl[ui]"') from None


@contextmanager
def private_uploads() -> Iterator[Path]:
    """Make a folder for uploaded photos that only this user can read, deleted when the block ends; no telemetry.

    Gradio reads both settings from the environment when a page is built.
    """
    with tempfile.TemporaryDirectory(prefix="tripletcl-uploads-") as folder:
        settings = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
        before = {name: os.environ.get(name) for name in settings}
        os.environ.update(settings)
        try:
            yield Path(folder)
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


def build_app(page: gr.Blocks, uploads: Path, host: str = "127.0.0.1") -> FastAPI:
    """Make the page an application that a guard protects.

    Args:
        page: From `build_page`.
        uploads: From `private_uploads`.
        host: The address that it is served at. At a loopback address, requests for another host's name are refused, so
            that no page elsewhere can reach it through a name that points here.
    """
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from tripletcl.web.guard import Guard

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    names = ["localhost", "127.0.0.1", "[::1]", host] if is_loopback(host) else ["*"]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=names)
    app.add_middleware(Guard, uploads=uploads, most_bytes=REQUEST_BYTES)
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=host,
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        show_error=False,
        max_file_size=PHOTO_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONO),
        css=asset("page.css"),
        js=asset("on_load.js"),
    )


def is_loopback(host: str) -> bool:
    """True if the address can be reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_port(host: str, port: int) -> socket.socket:
    """Open a socket at an address; port 0 is any free one.

    Raises:
        UserError: the port is in use, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind((host, port))
    except (OSError, OverflowError) as error:
        opened.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot serve at {host}, port {port} ({reason}); name another with --port, or any free one with --port 0"
        ) from None
    return opened


def build_server(app: FastAPI) -> uvicorn.Server:
    """Make the server of an application; `should_exit` stops it."""
    import uvicorn

    return uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))


def address_of(opened: socket.socket) -> str:
    """The address for a browser."""
    host, port = opened.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
