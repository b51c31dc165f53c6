"""Photos written into a folder of the server's machine: by whom, where, and what stays as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from serving import serving_api

from tripletcl import Client, UserError
from tripletcl.retrieval import writing
from tripletcl.runs.collection import open_model
from tripletcl.web.folders import folder_to_write

TOKEN = "a-token-of-twenty-six-chars"


@pytest.fixture(scope="module")
def run(runs: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an index of four photos, two of one name."""
    folder = tmp_path_factory.mktemp("folders")
    run = Path(shutil.copytree(runs / "elsewhere" / "analytic", folder / "run"))
    photos = sorted(path for path in scenes.parent.rglob("*.jpg") if path.is_file())[:4]
    for number, path in enumerate(photos):
        target = folder / "own" / str(number % 2) / f"{number // 2}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    model = open_model(run)
    with writing(run / "index", model.load(), stage=model.stage) as index:
        index.sync(folder / "own")
    return run


@pytest.fixture(scope="module")
def client(run: Path) -> Iterator[Client]:
    with serving_api(run) as address:
        yield Client(address)


@pytest.mark.parametrize("form", ["copies", "links"])
def test_photos_are_written_into_a_folder_and_nothing_is_replaced(client: Client, tmp_path: Path, form: str) -> None:
    photos = client.photos()
    place = tmp_path / "new" / "found"
    place.mkdir(parents=True)
    (place / "0.jpg").write_text("of somebody else")
    (place / "1.jpg").symlink_to(tmp_path / "nowhere")  # it leads to nothing, and is no place to write to
    done = client.export_into([photo["id"] for photo in photos], str(place), form)
    assert (done["folder"], done["missing"]) == (str(place), [])
    assert (place / "0.jpg").read_text() == "of somebody else"
    assert not (tmp_path / "nowhere").exists()
    assert sorted(done["written"]) == ["0 (2).jpg", "0 (3).jpg", "1 (2).jpg", "1 (3).jpg"]
    contents = {(place / name).read_bytes() for name in done["written"]}
    assert contents == {Path(photo["path"]).read_bytes() for photo in photos}
    assert all((place / name).is_symlink() == (form == "links") for name in done["written"])


def test_a_folder_is_made_and_a_missing_photo_is_named(client: Client, tmp_path: Path) -> None:
    photos = client.photos()
    away = Path(photos[0]["path"])
    away.rename(tmp_path / "away.jpg")
    try:
        done = client.export_into([photo["id"] for photo in photos], str(tmp_path / "a" / "b"))
    finally:
        (tmp_path / "away.jpg").rename(away)
    assert done["missing"] == [away.name]
    assert len(list((tmp_path / "a" / "b").iterdir())) == len(done["written"]) == 3


def test_the_home_folder_may_be_written_as_usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert folder_to_write("~/found", []) == tmp_path / "found"


def test_a_folder_that_cannot_be_is_one_sentence(client: Client, run: Path, tmp_path: Path) -> None:
    ids = [photo["id"] for photo in client.photos()]
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "link").symlink_to(run)
    before = sorted(run.rglob("*"))
    for folder, sentence in (
        ("found", r"'found' is no absolute path; write a folder as in /home/me/found or ~/found"),
        ("../found", "is no absolute path"),
        ("", "is no absolute path"),
        ("~nobody-of-this-name/found", "is no absolute path"),
        (f"{tmp_path}/a\0b", "is no absolute path"),
        (f"{tmp_path}/file", "file is a file; name a folder"),
        (f"{tmp_path}/file/below", "file"),
        (str(run), "is inside .*run, the run or its index; name another folder"),
        (f"{run}/index", "is inside"),
        (f"{run}/index/photos", "is inside"),
        (f"{tmp_path}/../{tmp_path.name}/link/photos", "is inside"),  # by another way
        ("/proc/found", "/proc/found"),  # nobody can write there
        (f"{tmp_path}/{'x' * 300}", "name too long"),
    ):
        with pytest.raises(UserError, match=rf"(?i){sentence}") as refused:
            client.export_into(ids, folder)
        assert "\n" not in str(refused.value)
    assert sorted(run.rglob("*")) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match=str(tmp_path)):
        folder_to_write(str(tmp_path), [])


def test_refusals_have_a_status(client: Client, tmp_path: Path) -> None:
    photo = client.photos(k=1)[0]["id"]
    for body, status in (
        ({"ids": [photo], "folder": "found"}, 400),
        ({"ids": ["L2V0Yy9wYXNzd2Q"], "folder": str(tmp_path / "out")}, 404),
        ({"ids": [], "folder": str(tmp_path / "out")}, 422),
        ({"ids": [photo], "folder": str(tmp_path / "out"), "form": "moves"}, 422),
    ):
        answer = httpx.post(f"{client.url}/api/v1/export/folder", json=body)
        assert (answer.status_code, list(answer.json())) == (status, ["error"])
    assert list(tmp_path.iterdir()) == []


def test_a_page_of_another_site_writes_nothing(client: Client, tmp_path: Path) -> None:
    """Neither with the headers that a browser sends along, nor by a form, which a browser sends without asking."""
    address, place = f"{client.url}/api/v1/export/folder", tmp_path / "out"
    body = {"ids": [client.photos(k=1)[0]["id"]], "folder": str(place)}
    text = httpx.Request("POST", address, json=body).content
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": client.url.replace("127.0.0.1", "localhost")},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"},
    ):
        answer = httpx.post(address, json=body, headers=headers)
        assert (answer.status_code, "access-control-allow-origin" in answer.headers) == (403, False)
    for host in ("evil.example", "127.0.0.1.evil.example:7860"):
        assert httpx.post(address, json=body, headers={"host": host}).status_code == 400
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        answer = httpx.post(address, content=text, headers={"content-type": kind} if kind else {})
        assert (answer.status_code, list(answer.json())) == (422, ["error"])
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for headers in ({}, asked, asked | {"access-control-request-headers": "content-type"}):
        answer = httpx.options(address, headers=headers)
        assert answer.status_code in (403, 404)
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert not place.exists()


def test_only_who_has_signed_in_writes(run: Path, tmp_path: Path) -> None:
    with serving_api(run, TOKEN, own_machine=False) as address:
        ids = [photo["id"] for photo in Client(address, TOKEN).photos()]
        with pytest.raises(UserError, match="the token is missing or wrong"):
            Client(address).export_into(ids, str(tmp_path / "out"))
        assert not (tmp_path / "out").exists()
        assert len(Client(address, TOKEN).export_into(ids, str(tmp_path / "out"))["written"]) == 4


def test_who_may_not_has_no_such_route(run: Path, tmp_path: Path) -> None:
    with serving_api(run, TOKEN, own_machine=False, may_teach=False, may_write=False) as address:
        client = Client(address, TOKEN)
        assert not client.about()["folders"]
        with pytest.raises(UserError, match="there is no such address"):
            client.export_into([client.photos(k=1)[0]["id"]], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
