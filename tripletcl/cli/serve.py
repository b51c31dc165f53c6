"""The command that serves the page of a run."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from tripletcl.cli.options import RunArgument
from tripletcl.cli.output import ready, say

if TYPE_CHECKING:
    from gradio import Blocks

    from tripletcl.web.state import LiveState
    from tripletcl.web.uploads import Uploads


def serve(
    run: RunArgument,
    other: Annotated[
        Path | None, typer.Argument(help="A run to show next to it; default another method of its comparison.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            "--index", "--store", help="An index of your own photos, which can be searched too; default RUN/index."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to serve at; any other than the default lets others in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any free one.")] = 7860,
    teach: Annotated[bool, typer.Option(help="Let visitors teach the run new facts.")] = True,
    token: Annotated[
        str | None,
        typer.Option(envvar="TRIPLETCL_TOKEN", help="The token that visitors need; default: for others, a new one."),
    ] = None,
) -> None:
    """Serve a page of a run: search, describe photos, see what each task made it forget, teach new facts.

    Programs ask the same at /api/v1 (documented at /api/v1/docs). Needs pip install "tripletcl[ui]".
    """
    from tripletcl.compare.processes import signals_raise
    from tripletcl.web.server import address_of, build_app, build_server, check_gradio, is_loopback, open_port

    check_gradio()
    console = ready()
    if index is not None:
        from tripletcl.retrieval import about_index

        about_index(index)  # one that is missing is refused before anything else is loaded
    from tripletcl.runs.stored import FactRun
    from tripletcl.web.uploads import private_uploads

    memory = other is not None or FactRun.open(run).first_tasks > 0  # a collection has no stages to compare
    with signals_raise(), open_port(host, port) as listening, private_uploads() as uploads:
        from tripletcl.web.access import Access, new_token
        from tripletcl.web.api import build_api
        from tripletcl.web.jobs import Jobs
        from tripletcl.web.photo_library import Library

        page = None
        if memory:
            from tripletcl.web.galleries import default_index
            from tripletcl.web.state import LiveState

            live = LiveState(run, other, index or default_index(run))
            page = partial(_build_page, live, uploads, teach)
        own_machine = is_loopback(host)
        token = Access(token or (None if own_machine else new_token())).token
        with closing(Jobs()) as jobs:
            may = {"may_teach": teach, "own_machine": own_machine, "may_write": own_machine or teach}
            api = build_api(Library(run, index), jobs, uploads, **may, memory=memory)
            server = build_server(build_app(page, uploads, host, api=api, token=token))
            listening.listen()
            address = address_of(listening)
            if not own_machine:
                whom = "see these photos and teach this run" if teach else "see these photos"
                console.print(f"warning: everyone who reaches {host} and knows the token can {whom}", style="bold")
            say(f"page: {address}" if token is None else f"page: {address}/?token={quote(token, safe='')}")
            server.run(sockets=[listening])


def _build_page(live: LiveState, uploads: Uploads, may_teach: bool) -> Blocks:
    """Build the page of stages and methods, which is the only one that needs Gradio, when it is first asked for."""
    from tripletcl.web.page import build_page
    from tripletcl.web.views import warm_up

    warm_up(live.current)
    return build_page(live, uploads, may_teach=may_teach)
