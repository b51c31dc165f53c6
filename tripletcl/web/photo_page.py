"""The page of the user's photos: plain files, which ask the interface for programs."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tripletcl.web.server import asset

SCRIPTS = "main", "core", "address", "answer", "gallery", "photo", "chosen", "work", "taught", "duplicates"
FILES = {
    **{f"{name}.js": (f"photos/{name}.js", "text/javascript") for name in SCRIPTS},
    "photos.css": ("photos.css", "text/css"),
    "icon.svg": ("icon.svg", "image/svg+xml"),
}
"""The page's files by their names in addresses: where they are, and their types."""


def routes() -> list[Route]:
    """The routes of the page and of its files."""
    return [Route("/", _page), *(Route(f"/page/{name}", _file, name=name) for name in FILES)]


def _page(_: Request) -> Response:
    return HTMLResponse(asset("photos.html"), headers={"cache-control": "no-cache"})


def _file(request: Request) -> Response:
    name = request.url.path.rpartition("/")[2]
    where, kind = FILES[name]
    return Response(asset(where), media_type=kind, headers={"cache-control": "no-cache"})
