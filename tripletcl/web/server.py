"""The server of the page: for this machine only by default, and nothing is fetched from elsewhere."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tripletcl.errors import UserError

if TYPE_CHECKING:
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI

    from tripletcl.web.uploads import Uploads

PREFIX = "/api/v1"
"""Where the interface for programs is."""

MEMORY = "memory/"
"""The page about stages and methods, where the user's photos are the first page."""

VISITS_HELD = 100
"""Visits whose components Gradio holds in memory, some 100 kB each."""

FONT = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "Liberation Sans", "sans-serif"]
MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace"]
"""Fonts of the system: those of Gradio would be fetched, or shipped."""


def asset(name: str) -> str:
    """Read a style sheet or a script of the page."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def check_gradio() -> None:
    """Check that Gradio is installed, without importing it.

    Raises:
        UserError: it is not.
    """
    if find_spec("gradio") is None:
        raise UserError('the page needs Gradio, which is not installed: pip install "tripletcl[ui]"')


def build_app(
    page: Callable[[], gr.Blocks] | None,
    uploads: Uploads,
    host: str = "127.0.0.1",
    *,
    api: FastAPI | None = None,
    token: str | None = None,
) -> FastAPI:
    """Make the page, and the interface for programs, an application that a guard protects.

    Args:
        page: Builds the page (`build_page`) when it is first asked for; None for a run without stages to compare.
        uploads: From `private_uploads`, the same that the page is built with.
        host: The address that it is served at. At a loopback address, requests for another host's name are refused, so
            that no page elsewhere can reach it through a name that points here.
        api: From `build_api`; with it, the user's photos are the first page, and this one is at MEMORY.
        token: The token that visitors need; None to let in all who reach the server.
    """
    from fastapi import FastAPI
    from starlette.routing import Mount, Route

    from tripletcl.web import photo_page
    from tripletcl.web.access import Access
    from tripletcl.web.guard import PROGRESS, UPLOAD, Guard
    from tripletcl.web.late_page import LatePage

    base = "" if api is None else MEMORY
    late = LatePage(page or _no_page, lambda built: _mount(built, f"/{base}", host), uploads)

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        async with uploads.swept(app), late.living(app):
            yield

    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=living,
        routes=[
            Route(f"/{base}{UPLOAD}", uploads.take, methods=["POST"]),
            Route(f"/{base}{PROGRESS}", uploads.progress),
            *([] if api is None else [*photo_page.routes(), Mount(PREFIX, api)]),
            *([] if page is None else [Mount("/", late)]),
        ],
    )
    hosts = ["localhost", "127.0.0.1", "[::1]", f"[{host}]" if ":" in host else host] if is_loopback(host) else []
    app.add_middleware(Guard, check=late.check, uploads=uploads, hosts=hosts, access=Access(token), base=base)
    return app


def _no_page() -> NoReturn:
    from tripletcl.web.calls import WrongCall

    raise WrongCall("this server has no page that makes calls")


def _mount(page: gr.Blocks, path: str, host: str) -> FastAPI:
    """Make a page of Gradio's an application, at a path of the server's."""
    import gradio as gr
    from fastapi import FastAPI

    from tripletcl.web.uploads import PHOTO_BYTES

    page.state_session_capacity = VISITS_HELD
    return gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path=path.rstrip("/") or "/",
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

    return uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2, ws="none"))


def address_of(opened: socket.socket) -> str:
    """The address for a browser."""
    host, port = opened.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
