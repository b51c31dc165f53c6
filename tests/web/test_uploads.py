"""Uploads: only photos, few at a time, removed when no page shows them, when the server ends, and by the next one."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from tripletcl.web import uploads as module
from tripletcl.web.uploads import PREFIX, Uploads, photo_name, private_uploads


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    with private_uploads() as uploads:
        yield uploads


@pytest.fixture
def client(uploads: Uploads) -> TestClient:
    return TestClient(Starlette(routes=[Route("/upload", uploads.take, methods=["POST"])]))


def png(size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    return file.getvalue()


def send(client: TestClient, *photos: tuple[str, bytes]) -> list[Path]:
    answer = client.post("/upload", files=[("files", photo) for photo in photos])
    assert answer.status_code == 200, answer.text
    return [Path(path) for path in answer.json()]


def test_the_folder_is_private_and_removed_in_the_end(tmp_path: Path) -> None:
    before = dict(os.environ)
    with private_uploads() as uploads:
        assert uploads.folder.stat().st_mode & 0o077 == 0
        assert os.environ["GRADIO_TEMP_DIR"] == str(uploads.folder)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert list(tmp_path.iterdir()) == []
    assert dict(os.environ) == before


def test_a_killed_servers_folder_is_removed_by_the_next_one_and_a_living_servers_is_not(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal\nfrom tripletcl.web.uploads import private_uploads\n"
        "with private_uploads() as uploads:\n"
        "    (uploads.folder / 'a').mkdir(); (uploads.folder / 'a' / 'photo.png').write_bytes(b'x')\n"
        "    print(uploads.folder, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", code]
    killed = subprocess.run(command, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True)
    orphan = Path(killed.stdout.strip())
    assert (orphan / "a" / "photo.png").exists()
    with private_uploads() as first:
        assert not orphan.exists()
        with private_uploads():
            assert first.folder.exists()
    assert list(tmp_path.glob(f"{PREFIX}*")) == []


def test_photos_are_stored_under_names_that_nobody_can_guess(client: TestClient, uploads: Uploads) -> None:
    paths = send(client, ("same.png", png()), ("same.png", png()))
    assert [path.name for path in paths] == ["same.png", "same.png"]
    assert len({path.parent for path in paths}) == 2
    assert all(len(path.parent.name) == 32 and uploads.holds(str(path)) for path in paths)
    assert sorted(uploads.photos()) == sorted(paths)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("<b>0.png", "b0.png"),
        ("犬 1.jpg", "犬 1.jpg"),
        ("..", "photo"),
        ("", "photo"),
        ("\0\n", "photo"),
        ("x" * 5000 + ".jpg", "x" * 56 + ".jpg"),
    ],
)
def test_names_lose_folders_and_signs(given: str, kept: str) -> None:
    assert photo_name(given) == kept


def test_what_is_no_photo_is_refused_and_nothing_of_its_request_stays(client: TestClient, uploads: Uploads) -> None:
    for content in (b"Dear reader", b"", png()[:20], b"%PDF-1.4", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        answer = client.post("/upload", files=[("files", ("a.png", png())), ("files", ("letter.png", content))])
        assert answer.status_code == 415
        assert answer.text.startswith("letter.png: ")
        assert uploads.photos() == []
        assert list(uploads.folder.iterdir()) == []


def test_what_would_not_fit_in_memory_is_refused(client: TestClient, uploads: Uploads) -> None:
    answer = client.post("/upload", files={"files": ("bomb.png", png((20_000, 20_000)))})
    assert answer.status_code == 415
    assert answer.text.startswith("bomb.png: too large")
    assert uploads.photos() == []


@pytest.mark.parametrize("content", [b"", b"x", b"--b\r\n", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--"])
def test_a_request_that_is_no_form_is_refused(client: TestClient, uploads: Uploads, content: bytes) -> None:
    answer = client.post("/upload", content=content, headers={"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code == 400 or answer.json() == []
    assert list(uploads.folder.iterdir()) == []


def test_a_photo_and_all_of_them_are_bounded(
    client: TestClient, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = png()
    monkeypatch.setattr(module, "PHOTO_BYTES", len(photo) - 1)
    answer = client.post("/upload", files={"files": ("a.png", photo)})
    assert (answer.status_code, answer.text[:17]) == (413, "A photo may have ")
    monkeypatch.undo()
    monkeypatch.setattr(module, "STORED_PHOTOS", 3)
    send(client, ("a.png", photo), ("b.png", photo))
    answer = client.post("/upload", files=[("files", ("c.png", photo))] * 2)
    assert (answer.status_code, answer.text) == (413, module.FULL)
    (last,) = send(client, ("c.png", photo))
    monkeypatch.setattr(module, "STORED_PHOTOS", 99)
    monkeypatch.setattr(module, "STORED_BYTES", 3 * len(photo))
    assert client.post("/upload", files={"files": ("d.png", photo)}).status_code == 413
    uploads.show("visit", "lesson", [last])
    uploads.show("visit", "lesson", [])
    monkeypatch.setattr(module, "STORED_BYTES", 10**6)
    send(client, ("d.png", photo))
    assert len(uploads.photos()) == 3


def test_a_photo_stays_while_a_part_of_a_page_shows_it(client: TestClient, uploads: Uploads) -> None:
    one, two, three, other = send(client, *((f"{name}.png", png()) for name in ("one", "two", "three", "other")))
    uploads.show("visit", "lesson", [one, two])
    uploads.show("visit", "photo", [three])
    uploads.show("another", "photo", [other])
    uploads.show("visit", "lesson", [two])
    assert set(uploads.photos()) == {two, three, other}
    uploads.show("visit", "photo", [])
    assert set(uploads.photos()) == {two, other}
    uploads.forget("visit")
    assert uploads.photos() == [other]
    uploads.forget("visit")
    assert [path.name for path in uploads.folder.iterdir()] == [other.parent.name]


def test_forgotten_photos_are_swept(client: TestClient, uploads: Uploads) -> None:
    never, shown = send(client, ("never.png", png()), ("shown.png", png()))
    uploads.show("visit", "photo", [shown])
    for path in (never, shown):
        os.utime(path, (0, time.time() - module.UNSHOWN_SECONDS - 5))
    uploads.sweep()
    assert uploads.photos() == [shown]
    os.utime(shown, (0, time.time() - module.SHOWN_SECONDS - 5))
    uploads.sweep()
    assert uploads.photos() == []


def test_they_are_swept_while_the_application_lives(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEPT_SECONDS", 0.01)
    photo = uploads.folder / "token" / "a.png"
    photo.parent.mkdir()
    photo.write_bytes(png())
    os.utime(photo, (0, 0))
    with TestClient(Starlette(lifespan=uploads.swept)):
        deadline = time.monotonic() + 20
        while photo.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert not photo.exists()
