"""The page of the user's photos: plain files, which ask the interface for programs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tripletcl.web.server import asset

KINDS = {"photos.js": "text/javascript", "photos.css": "text/css", "icon.svg": "image/svg+xml"}
"""The page's files, with their types."""


def routes() -> list[Route]:
    """The routes of the page and of its files."""
    return [Route("/", _page), *(Route(f"/page/{name}", _file, name=name) for name in KINDS)]


def _page(_: Request) -> Response:
    return HTMLResponse(asset("photos.html"), headers={"cache-control": "no-cache"})


def _file(request: Request) -> Response:
    name = request.url.path.rpartition("/")[2]
    return Response(asset(name), media_type=KINDS[name], headers={"cache-control": "no-cache"})
