"""The server: which requests it refuses, how long it keeps uploads, and the addresses that it serves at."""

from __future__ import annotations

import io
import os
import socket
import time
from pathlib import Path

import pytest
from PIL import Image
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from tripletcl.cli import main
from tripletcl.errors import UserError
from tripletcl.web.guard import Guard
from tripletcl.web.server import address_of, build_app, check_gradio, is_loopback, open_port, private_uploads
from tripletcl.web.state import LiveState


@pytest.fixture
def guarded(tmp_path: Path) -> TestClient:
    """A guard before something that answers everything."""
    (tmp_path / "uploads").mkdir()
    (tmp_path / "uploads" / "mine.png").write_text("mine")
    return TestClient(Guard(PlainTextResponse("through"), tmp_path / "uploads", most_bytes=100))


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file={root}/secret",
        "/gradio_api/file={root}/uploads/../secret",
        "/gradio_api/file={root}/uploads/%2e%2e/secret",
        "/gradio_api/file=secret",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api//file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file=http://example.org/x",
        "/gradio_api/file={root}/link",
        "/gradio_api/file={root}/uploads%00",
    ],
)
def test_no_file_is_served_by_its_path(guarded: TestClient, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "uploads" / "link").symlink_to(tmp_path / "secret")
    path = path.replace("{root}/link", "{root}/uploads/link").format(root=tmp_path)
    assert guarded.get(path).status_code == 403


def test_a_visitors_own_upload_is(guarded: TestClient, tmp_path: Path) -> None:
    assert guarded.get(f"/gradio_api/file={tmp_path}/uploads/mine.png").text == "through"


@pytest.mark.parametrize("path", ["proxy=http://example.org", "file/etc/passwd", "monitoring", "stream/a/b", "runs"])
def test_routes_that_the_page_does_without_are_closed(guarded: TestClient, path: str) -> None:
    assert guarded.get(f"/gradio_api/{path}").status_code == 404


def test_nothing_too_large_is_taken(guarded: TestClient) -> None:
    assert guarded.post("/gradio_api/upload", content=b"x" * 100).text == "through"
    assert guarded.post("/gradio_api/upload", content=b"x" * 101).status_code == 413
    assert guarded.post("/gradio_api/upload", content=iter([b"x"])).status_code == 411


def test_every_answer_forbids_what_lies_elsewhere(guarded: TestClient) -> None:
    for path in ("/", "/gradio_api/file=/etc/passwd"):
        policy = guarded.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "http" not in policy
        assert "*" not in policy


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


def test_uploads_are_private_and_deleted_in_the_end() -> None:
    before = dict(os.environ)
    with private_uploads() as folder:
        assert folder.stat().st_mode & 0o077 == 0
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not folder.exists()
    assert dict(os.environ) == before


def test_uploads_are_deleted_while_the_server_runs(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tripletcl.web import page as page_module

    monkeypatch.setattr(page_module, "UPLOADS_KEPT", 1)
    monkeypatch.setattr(page_module, "UPLOADS_CHECKED", 1)
    photo = io.BytesIO()
    Image.new("RGB", (8, 8)).save(photo, "PNG")
    with private_uploads() as uploads:
        app = build_app(page_module.build_page(LiveState(runs / "mas-split0-seed0")), uploads)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            answer = client.post("/gradio_api/upload", files={"files": ("mine.png", photo.getvalue())})
            path = Path(answer.json()[0])
            assert path.is_relative_to(uploads)
            assert path.exists()
            deadline = time.monotonic() + 30
            while path.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not path.exists()
            assert client.get(f"/gradio_api/file={path}").status_code in (403, 404)


def test_without_gradio_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(UserError, match=r"tripletcl\[ui\]"):
        check_gradio()
    monkeypatch.setattr("sys.argv", ["tripletcl", "serve", "nowhere"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("tripletcl: the page needs Gradio")


def test_others_are_let_in_only_with_a_warning(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    for host, teach, words in (
        ("127.0.0.1", "--teach", ""),
        ("0.0.0.0", "--teach", "warning: everyone who reaches 0.0.0.0 can see these photos and teach this run"),
        ("0.0.0.0", "--no-teach", "warning: everyone who reaches 0.0.0.0 can see these photos; there is no password"),
    ):
        run = str(runs / "mas-split0-seed0")
        monkeypatch.setattr("sys.argv", ["tripletcl", "serve", run, "--host", host, "--port", "0", teach])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        printed = capsys.readouterr()
        assert f"page: http://{host}:" in printed.out
        assert " ".join(printed.err.split()).startswith(words)
        assert ("warning" in printed.err) == bool(words)


def test_a_port_in_use_stops_the_command_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr("sys.argv", ["tripletcl", "serve", "nowhere", "--port", str(taken.getsockname()[1])])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert "name another with --port" in capsys.readouterr().err
