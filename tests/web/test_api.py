"""The interface for programs: the same answers as the command line's, in JSON, to those who are let in."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from media_files import RATE, write_video
from PIL import Image
from serving import serving_api
from starlette.testclient import TestClient

from tripletcl import Client, UserError
from tripletcl.progress import report
from tripletcl.retrieval import Filter, writing
from tripletcl.retrieval.duplicates import find_duplicates
from tripletcl.runs.asking import ask
from tripletcl.runs.collection import open_collection, open_model
from tripletcl.web import api as interface
from tripletcl.web.api import build_api
from tripletcl.web.api_models import Found, Listed
from tripletcl.web.jobs import Job, Jobs, NotHere
from tripletcl.web.photo_library import Library, photo_id
from tripletcl.web.server import address_of, open_port
from tripletcl.web.uploads import private_uploads

TOKEN = "a-token-of-twenty-six-chars"


@pytest.fixture(scope="module")
def run(runs: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that may be taught, with an index of photos in two folders, one of them with an odd name."""
    folder = tmp_path_factory.mktemp("api")
    run = Path(shutil.copytree(runs / "elsewhere" / "analytic", folder / "run"))
    photos = sorted(path for path in scenes.parent.rglob("*.jpg") if path.is_file())[:16]
    for number, path in enumerate(photos):
        target = folder / ("summer" if number % 2 else "winter & co") / f"{number:02d} {path.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    shutil.copy(photos[0], folder / "summer" / os.fsdecode(b"caf\xe9.jpg"))
    model = open_model(run)
    with writing(run / "index", model.load(), stage=model.stage) as index:
        index.sync(folder / "summer")
        index.sync(folder / "winter & co")
    return run


@pytest.fixture(scope="module")
def client(run: Path) -> Iterator[Client]:
    with serving_api(run) as address:
        yield Client(address)


@pytest.fixture
def asked(run: Path) -> Iterator[TestClient]:
    """The interface alone, for requests that no client makes."""
    with private_uploads() as uploads, closing(Jobs()) as jobs:
        yield TestClient(build_api(Library(run), jobs, uploads, may_teach=False, own_machine=False))


def test_a_query_answers_what_the_library_answers(client: Client, run: Path) -> None:
    photos = open_collection(run)
    fact = photos.embedder.facts[0]
    for words in (str(fact), f"?, ?, {fact.object or fact.subject}", f"{fact.subject} - flying"):
        expected = ask(photos, words, 7)
        answer = client.query(words, k=7)
        hits = [(hit["id"], pytest.approx(hit["score"])) for hit in answer["hits"]]
        assert hits == [(photo_id(hit.path), hit.score) for hit in expected.hits]
        assert (answer["query"], answer["notes"]) == (str(expected.request), expected.notes)
        assert answer["scale"] == expected.scale


def test_pages_are_the_whole_answer_in_pieces(client: Client, asked: TestClient) -> None:
    whole = client.query("robot", k=100)["hits"]
    assert len(whole) == client.about()["photos"] == 17
    offset, pieces = 0, []
    while offset is not None:
        page = asked.get("/query", params={"words": "robot", "limit": 5, "offset": offset}).json()
        pieces += page["hits"]
        offset = page["next_offset"]
    assert pieces == whole
    beyond = asked.get("/query", params={"words": "robot", "offset": 99}).json()
    assert (beyond["hits"], beyond["next_offset"]) == ([], None)
    most = asked.get("/query", params={"words": "robot", "limit": 5, "k": 7, "offset": 5}).json()
    assert (most["hits"], most["next_offset"]) == (whole[5:7], None)


def test_similar_photos_are_those_of_an_example(client: Client, run: Path) -> None:
    photos = open_collection(run)
    photo = photos.index.photos[3]
    hits = client.similar(photo_id(photo), k=3)["hits"]
    expected = ask(photos, k=3, like=[photo]).hits
    assert [hit["id"] for hit in hits] == [photo_id(hit.path) for hit in expected]
    assert photo_id(photo) not in [hit["id"] for hit in hits]


def test_answers_are_what_their_documented_models_write(asked: TestClient) -> None:
    """The slow twin reads an answer by its model, and writes it again as FastAPI would."""
    photo = asked.get("/photos").json()["photos"][0]["id"]
    for route, model in (("/query?words=robot", Found), (f"/photos/{photo}/similar", Found), ("/photos", Listed)):
        answer = asked.get(route)
        assert answer.headers["content-type"] == "application/json"
        assert answer.text == model.model_validate_json(answer.content, strict=True).model_dump_json()
        documented = asked.get("/openapi.json").json()["paths"][route.partition("?")[0].replace(photo, "{photo}")]
        schema = documented["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{model.__name__}"}


def test_questions_wait_in_line_for_those_before_them(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, answered = client.query("robot", k=3), interface._page
    lock, now, most = threading.Lock(), 0, 0

    def slow(*args: Any) -> Found:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1
        return answered(*args)

    monkeypatch.setattr(interface, "_page", slow)
    with ThreadPoolExecutor(3 * interface.AT_ONCE) as visitors:
        answers = list(visitors.map(lambda _: client.query("robot", k=3), range(3 * interface.AT_ONCE)))
    assert answers == [expected] * len(answers)
    assert 1 < most <= interface.AT_ONCE


def test_a_photo_of_any_name_leads_to_its_file(client: Client, run: Path) -> None:
    for hit in client.query("robot", k=100)["hits"]:
        path = Path(os.fsdecode(base64.urlsafe_b64decode(hit["id"] + "==")))
        assert client.file(hit["id"]) == path.read_bytes()
        details = client.photo(hit["id"])
        assert details["name"] == os.fsencode(path.name).decode("utf-8", "replace")
        assert details == {key: hit[key] for key in details}
    with Image.open(io.BytesIO(client.thumbnail(hit["id"]))) as small:
        assert (small.format, small.size) == ("JPEG", (64, 64))


def test_facts_of_a_file_and_of_the_same_photo_in_the_index(client: Client, run: Path) -> None:
    photo = open_collection(run).index.photos[0]
    facts = client.describe(photo, k=3)
    assert len(facts) == 3
    assert facts == client.describe(photo_id(photo), k=3)
    assert 0 <= facts[0]["probability"] <= 1


def test_a_fact_is_taught_and_undone(client: Client, run: Path) -> None:
    photos = open_collection(run).index.photos
    before = client.about()
    lesson = client.teach("robot juggling torches", [photo_id(photos[0]), photos[1], *photos[2:5]])
    assert (lesson["fact"], lesson["photos"] + lesson["held_out"]) == (["robot", "juggling", "torches"], 5)
    after = client.about()
    assert (after["stage"], after["facts"], after["index_stage"]) == (
        before["stage"] + 1, before["facts"] + 1, before["stage"] + 1,
    )  # fmt: skip
    assert client.tasks()[-1]["facts"] == [lesson["text"]]
    assert client.undo()["text"] == lesson["text"]
    assert client.about() == before
    assert [job["state"] for job in client.jobs()] == ["done", "done"]
    with pytest.raises(UserError, match="is no lesson that could be undone"):
        client.undo()


@pytest.mark.parametrize(
    ("route", "status", "sentence"),
    [
        ("/query", 400, "the request is empty; write what a photo shows"),
        ('/query?words="dog', 400, "has a quote that is not closed"),
        ("/query?words=dog&camra=Canon", 400, "there is no parameter 'camra'; allowed here: words, like, unlike, k, "),
        ("/photos?words=dog", 400, "there is no parameter 'words'; allowed here: offset, limit, after, "),
        ("/tasks?after=2019", 400, "there is no parameter 'after'; allowed here: none"),
        ("/query?words=dog&limit=0", 422, "limit: input should be greater than or equal to 1"),
        ("/query?words=dog&like=nothing", 404, "there is no such photo in the index"),
        ("/query?words=" + "a" * 600, 422, "words: string should have at most 500 characters"),
        ("/photos/L2V0Yy9wYXNzd2Q/file", 404, "there is no such photo in the index"),
        ("/photos/%20!/thumbnail", 404, "there is no such photo in the index"),
        ("/jobs/none", 404, "there is no such job"),
        ("/nowhere", 404, "there is no such address"),
    ],
)
def test_a_refusal_is_one_sentence(asked: TestClient, route: str, status: int, sentence: str) -> None:
    answer = asked.get(route)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert sentence in answer.json()["error"]


def test_a_refusal_is_the_sentence_of_the_command_line(client: Client, run: Path) -> None:
    with pytest.raises(UserError) as local:
        ask(open_collection(run), 'a "dog')
    with pytest.raises(UserError) as remote:
        client.query('a "dog')
    assert str(remote.value) == str(local.value)


def test_what_is_no_photo_is_refused(client: Client, tmp_path: Path) -> None:
    (tmp_path / "letter.png").write_text("Dear reader")
    with pytest.raises(UserError, match=r"letter\.png: not an image"):
        client.describe(tmp_path / "letter.png")
    with pytest.raises(UserError, match="a lesson takes from 1 to 64 photos, not 0"):
        client.teach("robot juggling", [])
    with pytest.raises(UserError, match="cannot be read: No such file"):
        client.describe(tmp_path / "none.png")


def test_a_fact_that_cannot_be_read_is_refused_before_a_job_begins(client: Client, run: Path) -> None:
    ids, before = [photo_id(photo) for photo in open_collection(run).index.photos[:3]], client.jobs()
    answer = httpx.post(f"{client.url}/api/v1/teach", data={"fact": "robot ? torches", "ids": ids}, files={"x": b""})
    assert (answer.status_code, "a fact to be taught has no wildcard" in answer.json()["error"]) == (400, True)
    assert client.jobs() == before


def test_only_its_own_machine_is_shown_a_folder(client: Client, asked: TestClient, run: Path) -> None:
    photo = photo_id(open_collection(run).index.photos[0])
    assert asked.post(f"/photos/{photo}/show").status_code in (404, 405)
    assert not asked.get("/").json()["files"]
    assert client.about()["files"]
    assert asked.post("/teach", data={"fact": "robot"}).status_code in (404, 405)


def test_the_documentation_names_every_route(asked: TestClient) -> None:
    described = asked.get("/openapi.json").json()
    page = asked.get("/docs").text
    assert described["openapi"].startswith("3.")
    for path in described["paths"]:
        assert f"/api/v1{path}" in page
    assert "<script" not in page


def test_a_token_is_needed_where_there_is_one(run: Path) -> None:
    with serving_api(run, token=TOKEN) as address:
        assert Client(address, TOKEN).about()["photos"] == 17
        for wrong in (None, "", TOKEN[:-1], f"{TOKEN}x"):
            with pytest.raises(UserError, match="the token is missing or wrong"):
                Client(address, wrong).about()
        with httpx.Client(base_url=address) as browser:
            assert browser.get("/").status_code == 401
            assert "Token" in browser.get("/").text
            assert browser.post("/sign-in", data={"token": "wrong"}).status_code == 401
            assert browser.get("/api/v1/").status_code == 401
            welcome = browser.get(f"/?token={TOKEN}")
            assert (welcome.status_code, welcome.headers["location"]) == (303, "/")
            assert browser.get("/api/v1/").status_code == 200
            assert browser.get("/").status_code == 200
            assert TOKEN not in str(browser.cookies)
        with httpx.Client(base_url=address) as browser:
            assert browser.post("/sign-in", data={"token": TOKEN}).status_code == 303
            assert browser.get("/").status_code == 200
            foreign = browser.get("/api/v1/", headers={"origin": "http://evil.example"})
            assert (foreign.status_code, list(foreign.json())) == (403, ["error"])
            assert "access-control-allow-origin" not in foreign.headers


def test_a_short_token_is_refused(run: Path) -> None:
    with pytest.raises(UserError, match="at least 16 printable"), serving_api(run, token="short"):
        pass


def test_no_server_is_one_sentence() -> None:
    with pytest.raises(UserError, match="is no address of a server"):
        Client("localhost:7860")
    with open_port("127.0.0.1", 0) as closed, pytest.raises(UserError, match="does not answer"):
        Client(address_of(closed)).about()


def test_jobs_run_one_after_another_and_report() -> None:
    go_on, seen = threading.Event(), []

    def first(job: Job) -> dict[str, Any]:
        report("learning", 1, 2)
        go_on.wait(30)
        seen.append("first")
        return {"done": 1}

    def second(job: Job) -> dict[str, Any]:
        seen.append("second")
        raise UserError("this cannot be taught")

    with closing(Jobs()) as jobs:
        one, two = Job("teach", "a"), Job("teach", "b")
        futures = [jobs.start(one, first), jobs.start(two, second)]
        assert two.state == "waiting"
        go_on.set()
        for future in futures:
            future.result(30)
        assert seen == ["first", "second"]
        assert (one.state, one.result, one.progress and one.progress.done) == ("done", {"done": 1}, 1)
        assert (two.state, two.error) == ("failed", "this cannot be taught")
        assert [job.id for job in jobs.list()] == [two.id, one.id]
        with pytest.raises(NotHere):
            jobs.get("none")


def test_a_video_says_when_it_shows_its_picture(run: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    video = write_video(tmp_path / "videos" / "a.mp4", dark=15, key=1000)
    Image.new("RGB", (32, 32), "green").save(video.with_name("b.png"))
    model = open_model(run)
    with writing(tmp_path / "index", model.load(), stage=model.stage) as index:
        index.sync(video.parent)
    with private_uploads() as uploads, closing(Jobs()) as jobs:
        asked = TestClient(build_api(Library(run, tmp_path / "index"), jobs, uploads))
        seconds = [asked.get(f"/photos/{photo_id(path)}").json()["second"] for path in sorted(video.parent.iterdir())]
        video.write_bytes(b"")
        assert asked.get(f"/photos/{photo_id(video)}").json()["second"] is None
    assert seconds == [pytest.approx(15 / RATE, abs=0.01), None]


def test_filters_keep_what_the_command_line_keeps(client: Client, run: Path) -> None:
    photos = open_collection(run)
    found = client.query("robot", k=50, folder="summer")
    expected = ask(photos, "robot", 50, where=Filter.parse(folder="summer")).hits
    assert [hit["id"] for hit in found["hits"]] == [photo_id(hit.path) for hit in expected]
    assert {Path(hit["folder"]).name for hit in found["hits"]} == {"summer"}
    with pytest.raises(UserError) as remote:
        client.query("robot", after="2019-13")
    assert "is no date" in str(remote.value)
    with pytest.raises(UserError):
        client.photos(folder="nowhere")


def test_photos_are_listed_by_date(client: Client, run: Path) -> None:
    index = open_collection(run).index
    for number, path in enumerate(index.photos):
        os.utime(path, (10**9 + 86400 * number,) * 2)
    with writing(run / "index", open_model(run).load()) as written:
        written.add_photos(index.photos)
    dates = [photo["modified"] for photo in client.photos()]
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == 17


def test_near_duplicates_are_those_of_the_library(client: Client, asked: TestClient, run: Path) -> None:
    before = asked.get("/duplicates").json()
    assert (before["looked"], before["groups"], before["next_offset"]) == (False, [], None)
    expected = find_duplicates(open_collection(run).index)
    groups = client.duplicates()
    assert len(groups) == len(expected) > 0  # a photo lies in the folder twice
    for group, each in zip(groups, expected, strict=True):
        assert [photo["id"] for photo in group["photos"]] == [photo_id(photo.path) for photo in each.photos]
        assert group["bits"] == each.bits
    page = httpx.get(f"{client.url}/api/v1/duplicates", params={"offset": 1}).json()
    assert (page["looked"], page["total"], page["groups"]) == (True, len(groups), groups[1:])


def test_chosen_photos_are_exported(client: Client) -> None:
    photos = client.photos(k=3)
    ids = [photo["id"] for photo in photos]
    paths = client.export(ids, "list").splitlines()
    assert paths == [base64.urlsafe_b64decode(photo + "==") for photo in ids]
    rows = list(csv.DictReader(io.StringIO(client.export(ids, "csv").decode())))
    assert [row["name"] for row in rows] == [photo["name"] for photo in photos]
    assert [row["size"] for row in json.loads(client.export(ids, "json"))] == [photo["size"] for photo in photos]
    with zipfile.ZipFile(io.BytesIO(client.export([ids[0], ids[0], ids[1]]))) as archive:
        assert len(set(archive.namelist())) == 3
        assert archive.read(archive.namelist()[2]) == client.file(ids[1])
    assert len(client.export(ids * 1000, "list").splitlines()) == 3000  # a form has at most 1,000 fields
    with pytest.raises(UserError, match="form: input should be"):
        client.export(ids, "rar")
    with pytest.raises(UserError, match="no such photo"):
        client.export([photo_id(Path("/etc/passwd"))])
