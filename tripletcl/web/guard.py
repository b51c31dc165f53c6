"""A guard in front of the page: it serves uploads only, and refuses routes and sizes that the page never needs."""

from __future__ import annotations

from pathlib import Path

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY = "; ".join(
    [
        "default-src 'self'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "style-src 'self' 'unsafe-inline'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's templates
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    ]
)
"""What a browser may load for the page: nothing from another host."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

CLOSED = (
    *("proxy=", "file/", "stream/", "monitoring", "deep_link", "run-history", "runs", "dev/", "custom_component"),
    *("openapi.json", "docs", "redoc"),
)
"""Routes of Gradio that the page does not use, some of which fetch from elsewhere or list what others asked for."""

FILE = "file="


class Guard:
    """An ASGI application that passes requests on to another one, or refuses them.

    Args:
        app: The other application.
        uploads: The folder of uploaded files: the only files that are served by a path.
        most_bytes: The limit of one request's body.
    """

    def __init__(self, app: ASGIApp, uploads: Path, most_bytes: int) -> None:
        self.app, self.uploads, self.most_bytes = app, uploads.resolve(), most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        refused = self.refusal(scope) if scope["type"] == "http" else None

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        await (refused or self.app)(scope, receive, send_guarded)

    def refusal(self, scope: Scope) -> PlainTextResponse | None:
        """The answer to a request that is refused; None for all others."""
        route = scope["path"].lstrip("/").removeprefix("gradio_api/").lstrip("/")
        if route.startswith(FILE):
            return None if self._uploaded(route.removeprefix(FILE)) else _answer(403, "no file is served by its path")
        if route.startswith(CLOSED):
            return _answer(404, "there is no such page")
        if scope["method"] == "POST":
            length = Headers(scope=scope).get("content-length")
            if length is None:
                return _answer(411, "the request needs a content-length")
            if not length.isdecimal() or int(length) > self.most_bytes:
                return _answer(413, f"too large; allowed are up to {self.most_bytes // 10**6} MB at once")
        return None

    def _uploaded(self, path: str) -> bool:
        try:
            return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.uploads)
        except (OSError, ValueError):
            return False


def _answer(status: int, words: str) -> PlainTextResponse:
    return PlainTextResponse(words, status_code=status)
