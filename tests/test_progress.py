"""What a terminal and a pipe show while something is counted."""

from __future__ import annotations

import io

from rich.console import Console

from tripletcl.cli.progress import progress_bars


def test_a_terminal_shows_how_many_a_second_and_the_time_left() -> None:
    screen = io.StringIO()
    with progress_bars(Console(file=screen, force_terminal=True, width=120)) as bars:
        for done in (16, 32, 48, 64):
            bars.count("embedding", done, 64)
    shown = screen.getvalue()
    assert "embedding" in shown
    assert "64/64" in shown
    assert "/s" in shown
    assert "0:00:00" in shown


def test_a_pipe_gets_a_plain_line_at_the_end() -> None:
    pipe = io.StringIO()
    with progress_bars(Console(file=pipe)) as bars:
        for done in (16, 32, 48, 64):
            bars.count("embedding", done, 64)
    assert pipe.getvalue() == "embedding: 64/64\n"
