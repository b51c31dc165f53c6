"""The page in Gradio as an application that is built when it is first asked for.

To import Gradio and to build the page takes as long as everything else that the server does before its first answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from tripletcl.web.calls import Calls
from tripletcl.web.uploads import Uploads

if TYPE_CHECKING:
    import gradio as gr
    from fastapi import FastAPI


class LatePage:
    """An application that answers by a page of Gradio's, and knows the calls that the page makes.

    Args:
        build: Builds the page, in a thread.
        mount: Makes the page an application.
        uploads: The photos that visitors upload.
    """

    def __init__(self, build: Callable[[], gr.Blocks], mount: Callable[[gr.Blocks], FastAPI], uploads: Uploads) -> None:
        self._build, self._mount, self.uploads = build, mount, uploads
        self._lock, self._alive = asyncio.Lock(), AsyncExitStack()
        self._made: tuple[FastAPI, Calls] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        app, _ = await self._open()
        await app(scope, receive, send)

    async def check(self, route: str, body: bytes) -> bytes:
        """Check the body of a call; see `Calls.check`."""
        _, calls = await self._open()
        return calls.check(route, body)

    @asynccontextmanager
    async def living(self, _: Any) -> AsyncIterator[None]:
        """End the page, if it was built, with the server."""
        async with self._alive:
            yield

    async def _open(self) -> tuple[ASGIApp, Calls]:
        """The page and its calls; several visitors at once build it once."""
        async with self._lock:
            if self._made is None:
                app, calls = await run_in_threadpool(self._make)
                await self._alive.enter_async_context(app.router.lifespan_context(app))
                self._made = app, calls
            return self._made

    def _make(self) -> tuple[FastAPI, Calls]:
        page = self._build()
        return self._mount(page), Calls(page, self.uploads)
