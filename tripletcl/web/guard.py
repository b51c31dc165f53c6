"""A guard in front of the page: it lets in the page's own browser, on the routes and with the calls that it needs."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tripletcl.web.access import API, SIGN_IN, Access
from tripletcl.web.calls import CALLS, WrongCall
from tripletcl.web.photo_page import FILES
from tripletcl.web.uploads import REQUEST_BYTES, Uploads

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

HOST = re.compile(r"(\[[\da-f:.]+\]|[\w.-]+)(:\d{1,5})?", re.ASCII)

UPLOAD, PROGRESS, FILE = "gradio_api/upload", "gradio_api/upload_progress", "gradio_api/file="

READ = ("", "theme.css", "favicon.ico", "gradio_api/queue/data", PROGRESS)
READ_BELOW = ("assets/", "static/", "gradio_api/heartbeat/", FILE)
FIRST_PAGE = ("", *(f"page/{name}" for name in FILES))
ELSEWHERE = "elsewhere"
WRITTEN = {UPLOAD: REQUEST_BYTES, **dict.fromkeys(CALLS, 10**6)}
"""The routes that the page's browser reads, those whose names begin so, and those it sends to, with most bytes each.

Gradio has others, some of which fetch from elsewhere or list what others asked for.
"""


class Guard:
    """An ASGI application that passes requests on to another one, or refuses them in a sentence.

    Args:
        app: The other application.
        check: Checks the body of a call to a route (`Calls.check`).
        uploads: The only files that are served by a path.
        hosts: The names that it may be asked by, so that no page elsewhere can reach it through a name that points
            here; any name if empty.
        access: Who is let in.
        base: Where the page of these calls is, if it is not the first page: "memory/".
    """

    def __init__(
        self,
        app: ASGIApp,
        check: Callable[[str, bytes], Awaitable[bytes]],
        uploads: Uploads,
        hosts: Collection[str] = (),
        access: Access | None = None,
        base: str = "",
    ) -> None:
        self.app, self.check, self.uploads = app, check, uploads
        self.hosts, self.access, self.base = frozenset(hosts), access or Access(), base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":  # the application starts or ends; the server speaks no other protocol
            await self.app(scope, receive, send)
            return
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
            await send(message)

        try:
            await self._answer(scope, receive, send_guarded)
        except Exception as error:
            if not isinstance(error.__cause__ or error, HTTPException | ClientDisconnect):
                raise
            # An answer that streams was asked for by a session that is not known, or that has left.
            if started:
                await send({"type": "http.response.body", "body": b""})
            else:
                await _refused(404, "there is nothing to read")(scope, receive, send_guarded)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = scope["path"].removeprefix("/")
        answer: ASGIApp = self.refusal(scope) or (self.access.sign_in if route == SIGN_IN else self.app)
        called = self._within(route)
        if answer is self.app and called in CALLS:
            body = await Request(scope, receive).body()
            try:
                receive = _again(await self.check(called, body), receive)
            except WrongCall as wrong:
                answer = JSONResponse({"error": str(wrong), "detail": str(wrong)}, 422)
        await answer(scope, receive, send)

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is refused; None for all others."""
        headers, method, route = Headers(scope=scope), scope["method"], scope["path"].removeprefix("/")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not _name(hosts[0]) or (self.hosts and _name(hosts[0]) not in self.hosts):
            return _refused(400, "the page is not known by this name", route)
        if _is_foreign(headers, hosts[0], method):
            return _refused(403, "the page of another site may not ask this one", route)
        if method == "POST" and route == SIGN_IN and self.access.token is not None:
            return _refused_length(headers.get("content-length"), 10**4, route)
        if (refused := self.access.refusal(scope)) is not None:
            return refused
        within = self._within(route)
        if method == "POST" and route.startswith(API) and not {"content-length", "transfer-encoding"} & {*headers}:
            return None  # without a body, as `curl -X POST` sends it
        if method == "POST" and (within in WRITTEN or route.startswith(API)):
            return _refused_length(headers.get("content-length"), WRITTEN.get(within, REQUEST_BYTES), route)
        if method not in ("GET", "HEAD") or not self._is_read(route, within):
            return _refused(404, "there is no such page", route)
        if within.startswith(FILE) and not self.uploads.holds(within.removeprefix(FILE)):
            return _refused(403, "no file is served by its path", route)
        return None

    def _is_read(self, route: str, within: str) -> bool:
        return within in READ or within.startswith(READ_BELOW) or route in FIRST_PAGE or route.startswith(API)

    def _within(self, route: str) -> str:
        """The route within the page of the calls; one that nobody reads for a route that is elsewhere."""
        if route == self.base.rstrip("/"):
            return ""
        return route.removeprefix(self.base) if route.startswith(self.base) else ELSEWHERE


def _name(host: str) -> str | None:
    """The name in a header like `localhost:7860` or `[::1]:7860`; None where there is none."""
    found = HOST.fullmatch(host.lower())
    return found and found[1]


def _is_foreign(headers: Headers, host: str, method: str) -> bool:
    """True for a request that another site's page makes; a link there that leads here is none."""
    origin = headers.get("origin")
    if origin is not None and origin.lower().partition("://")[2] != host.lower():
        return True
    followed = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    return headers.get("sec-fetch-site") in ("cross-site", "same-site") and not followed


def _refused_length(length: str | None, most: int, route: str) -> Response | None:
    if length is None:
        return _refused(411, "the request needs a content-length", route)
    if not length.isdecimal() or int(length[:20]) > most:
        return _refused(413, f"too large; allowed are up to {most // 10**6} MB at once", route)
    return None


def _refused(status: int, sentence: str, route: str = "") -> Response:
    """A sentence, for programs as JSON."""
    return JSONResponse({"error": sentence}, status) if route.startswith(API) else PlainTextResponse(sentence, status)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body instead of the one that was read."""
    bodies = [body]

    async def received() -> Message:
        return {"type": "http.request", "body": bodies.pop(), "more_body": False} if bodies else await receive()

    return received
