"""The token that lets visitors in where the server can be reached from other machines."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from tripletcl.errors import UserError
from tripletcl.web.server import asset

API = "api/"
"""The routes of programs begin so."""

SIGN_IN = "sign-in"
LEAST_CHARACTERS = 16
COOKIE_SECONDS = 30 * 24 * 3600
WRONG = "the token is missing or wrong; it was printed when the server started"


def new_token() -> str:
    """A token that nobody can guess."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Access:
    """Who is let in: everyone who reaches the server, or those who know a token.

    A program sends it as `Authorization: Bearer TOKEN`. A browser gives it once, in the address (`/?token=TOKEN`) or on
    the page that asks for it, and is known by a cookie from then on.

    Args:
        token: The token; None where only this machine reaches the server.

    Raises:
        UserError: the token is short enough to be guessed, or has characters that no header can carry.
    """

    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.token is None:
            return
        if len(self.token) < LEAST_CHARACTERS or not (self.token.isascii() and self.token.isprintable()):
            raise UserError(f"a token needs at least {LEAST_CHARACTERS} printable ASCII characters")

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a visitor who is not let in, or who is just signing in; None for all others."""
        if self.token is None:
            return None
        route, headers = scope["path"].removeprefix("/"), Headers(scope=scope)
        if scope["method"] == "GET" and not route.startswith(API):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token")
            if given is not None and self._is_right(given[-1]):
                return self._welcome(scope["path"])
        if self._knows_cookie(headers) or self._is_right(_bearer(headers)):
            return None
        if route.startswith(API):
            return JSONResponse({"error": WRONG}, 401, {"www-authenticate": "Bearer"})
        return sign_in_page("")

    async def sign_in(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the form of the sign-in page."""
        async with Request(scope, receive).form(max_files=0, max_fields=1, max_part_size=1024) as form:
            right = self._is_right(str(form.get("token", "")))
        await (self._welcome("/") if right else sign_in_page("This is not the token."))(scope, receive, send)

    def _welcome(self, path: str) -> Response:
        answer = RedirectResponse(f"/{path.lstrip('/')}", 303)
        name, value = self._cookie()
        answer.set_cookie(name, value, max_age=COOKIE_SECONDS, httponly=True, samesite="lax")
        return answer

    def _cookie(self) -> tuple[str, str]:
        """Name and value of the cookie: a digest, from which nobody learns the token."""
        digest = hashlib.sha256(f"tripletcl {self.token}".encode()).hexdigest()
        return f"tripletcl-{digest[:8]}", digest[8:]

    def _is_right(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode())

    def _knows_cookie(self, headers: Headers) -> bool:
        name, value = self._cookie()
        try:
            given = SimpleCookie(headers.get("cookie", "")).get(name)
        except CookieError:
            return False
        return given is not None and hmac.compare_digest(given.value.encode("utf-8", "replace"), value.encode())


def sign_in_page(said: str) -> Response:
    """The page that asks for the token."""
    return HTMLResponse(asset("sign_in.html").replace("{{said}}", said), 401)


def _bearer(headers: Headers) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
