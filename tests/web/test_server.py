"""The server: the addresses that it serves at, and how it starts and ends."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tripletcl.cli import main
from tripletcl.errors import UserError
from tripletcl.web.server import MEMORY, address_of, check_gradio, is_loopback, open_port


def test_a_port_in_use_is_one_sentence() -> None:
    with open_port("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        taken.listen()
        assert address_of(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(UserError, match=f"cannot serve at 127.0.0.1, port {port} .*--port 0$"):
            open_port("127.0.0.1", port)
    with pytest.raises(UserError, match="cannot serve at 192"):
        open_port("192.0.2.1", 0)


def test_loopback_is_told_from_the_rest() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.9.1", "localhost", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.4", "example.org", "")))


@pytest.mark.slow
def test_it_answers_once_it_has_said_so_and_leaves_nothing_when_it_is_stopped(runs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tripletcl", "serve", str(runs / "mas-split0-seed0"), "--port", "0"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as served:
        assert served.stdout is not None
        assert served.stderr is not None
        address = served.stdout.readline().removeprefix("page: ").strip()
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))):
            pass
        photo = io.BytesIO()
        Image.new("RGB", (8, 8)).save(photo, "PNG")
        try:
            sent = httpx.post(f"{address}/{MEMORY}gradio_api/upload", files={"files": ("a.png", photo.getvalue())})
            (path,) = sent.json()
            assert Path(path).is_relative_to(tmp_path)
        finally:
            served.terminate()
        assert served.wait(60) == 128 + signal.SIGTERM
        assert "Traceback" not in served.stderr.read()
    assert list(tmp_path.glob("tripletcl-*")) == []


def test_without_gradio_one_sentence_says_what_to_install(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(UserError, match=r"tripletcl\[ui\]"):
        check_gradio()
    monkeypatch.setattr("sys.argv", ["tripletcl", "serve", str(runs / "mas-split0-seed0")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("tripletcl: the page needs Gradio")


def test_others_are_let_in_only_with_a_token_and_a_warning(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    for host, teach, words in (
        ("127.0.0.1", "--teach", ""),
        ("0.0.0.0", "--teach", "warning: everyone who reaches 0.0.0.0 and knows the token can see these photos and"),
        ("0.0.0.0", "--no-teach", "warning: everyone who reaches 0.0.0.0 and knows the token can see these photos"),
    ):
        run = str(runs / "mas-split0-seed0")
        monkeypatch.setattr("sys.argv", ["tripletcl", "serve", run, "--host", host, "--port", "0", teach])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        printed = capsys.readouterr()
        assert f"page: http://{host}:" in printed.out
        assert " ".join(printed.err.split()).startswith(words)
        assert ("warning" in printed.err) == ("/?token=" in printed.out) == bool(words)


def test_a_port_in_use_stops_the_command_at_once(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(runs / "mas-split0-seed0")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("sys.argv", ["tripletcl", "serve", run, "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert "name another with --port" in capsys.readouterr().err
