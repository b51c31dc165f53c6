"""The guard in front of the page: whom it lets in, to which routes, with which calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from tripletcl.web.calls import Calls
from tripletcl.web.guard import Guard
from tripletcl.web.uploads import REQUEST_BYTES, Uploads, private_uploads

HOST = "http://127.0.0.1:7860"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers with the body that it was sent."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(body or b"through")(scope, receive, send)


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    with private_uploads() as uploads:
        (uploads.folder / "token").mkdir()
        (uploads.folder / "token" / "mine.png").write_text("mine")
        yield uploads


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    """A page with an event of each kind: 0 is quick, 1 waits in line, 2 is answered in the browser."""
    with gr.Blocks() as page:
        stage, word, words, photo = gr.Slider(0, 4), gr.Dropdown(["a"]), gr.JSON(["a"]), gr.Image(type="filepath")
        stage.change(lambda *_: None, [stage, word, words, photo], None, queue=False)
        word.change(lambda: None, None, None)
        words.change(None, words, words, js="(value) => value")
    return page


def guarded(app: ASGIApp, page: gr.Blocks, uploads: Uploads, hosts: Sequence[str] = ()) -> Guard:
    """A guard before an application, which knows the calls of a page."""
    calls = Calls(page, uploads)

    async def check(route: str, body: bytes) -> bytes:
        return calls.check(route, body)

    return Guard(app, check, uploads, hosts)


@pytest.fixture
def client(page: gr.Blocks, uploads: Uploads) -> TestClient:
    """A guard before an application that answers everything."""
    guard = guarded(echo, page, uploads, ["localhost", "127.0.0.1", "[::1]"])
    return TestClient(guard, base_url=HOST)


def call(**changes: Any) -> dict[str, Any]:
    """A call that the page makes."""
    return {"fn_index": 0, "data": [3, "a", ["b", None], None], "session_hash": "abc", **changes}


# --- whom ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:7860", "127.0.0.1:1", "[::1]:7860", "[::1]"])
def test_its_own_names_are_let_in(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"host": host}).text == "through"


@pytest.mark.parametrize(
    "host", ["", " ", ":7860", "evil.example", "localhost.evil.example", "evil@localhost", "localhost/x", "[::1",
             "[evil]", "127.0.0.1:99999999", "localhost:x", "localhost\xa0"]
)  # fmt: skip
def test_any_other_name_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/", headers={"host": host.encode("latin-1")})
    assert (answer.status_code, answer.text) == (400, "the page is not known by this name")


def test_a_missing_name_or_two_are_refused(page: gr.Blocks, uploads: Uploads) -> None:
    guard = guarded(echo, page, uploads, [])  # any name, but one
    for hosts, status in ([], 400), ([b"a", b"b"], 400), ([b""], 400), ([b"any.example"], None):
        headers = [(b"host", host) for host in hosts]
        answer = guard.refusal({"type": "http", "method": "GET", "path": "/", "headers": headers})
        assert (answer and answer.status_code) == status


FOREIGN: list[dict[str, str]] = [
    {"origin": "http://evil.example"},
    {"origin": "null"},
    {"origin": "http://127.0.0.1:7861"},
    {"origin": "http://localhost:7860"},  # the same machine, but not the name that was asked
    {"origin": "http://127.0.0.1:7860.evil.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "origin": HOST},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_pages_of_other_sites_may_ask_nothing(client: TestClient, headers: dict[str, str]) -> None:
    """Also not while they follow a link, but by an address that somebody clicks on."""
    assert client.get("/", headers=headers).status_code == 403
    for route in ("upload", "run/predict", "queue/join"):
        for followed in ({}, {"sec-fetch-mode": "navigate"}):
            assert client.post(f"/gradio_api/{route}", headers=headers | followed, json={}).status_code == 403


def test_its_own_page_and_links_to_it_are_let_in(client: TestClient) -> None:
    own = {"origin": HOST, "sec-fetch-site": "same-origin"}
    assert client.post("/gradio_api/upload", headers=own, content=b"x").text == "x"
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).text == "through"


# --- routes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file={root}/../secret",
        "/gradio_api/file={root}/token/../../secret",
        "/gradio_api/file={root}/token/%2e%2e/token/mine.png",
        "/gradio_api/file={root}/%2e%2e/secret",
        "/gradio_api/file=secret",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=http://example.org/x",
        "/gradio_api/file={root}/token/link",
        "/gradio_api/file={root}/token/mine.png%00",
        "/gradio_api/file={root}/token/" + 300 * "x",
        "/gradio_api/file=",
    ],
)
def test_no_file_is_served_by_its_path(client: TestClient, uploads: Uploads, tmp_path: Path, path: str) -> None:
    (tmp_path / "secret").write_text("secret")
    (uploads.folder / "token" / "link").symlink_to(tmp_path / "secret")
    assert client.get(path.format(root=uploads.folder)).status_code == 403


def test_a_visitors_own_upload_is(client: TestClient, uploads: Uploads) -> None:
    assert client.get(f"/gradio_api/file={uploads.folder}/token/mine.png").text == "through"


@pytest.mark.parametrize(
    "path", ["proxy=http://example.org", "file/etc/passwd", "monitoring", "stream/a/b", "runs", "info",
             "/file=/etc/passwd", "component_server", "cancel", "login", "run/predict/", "openapi.json"]
)  # fmt: skip
def test_routes_that_the_page_does_without_are_closed(client: TestClient, path: str) -> None:
    for ask in (client.get, client.post, client.put, client.delete, client.options):
        assert ask(f"/gradio_api/{path}").status_code == 404


def test_nothing_too_large_is_taken(client: TestClient) -> None:
    upload = "/gradio_api/upload"
    assert client.post(upload, content=iter([b"x"])).status_code == 411
    for length in (str(REQUEST_BYTES + 1), "-1", "1e3", "x", "9" * 5000):
        assert client.post(upload, content=b"x", headers={"content-length": length}).status_code == 413
    assert client.post("/gradio_api/run/predict", content=b" " * (10**6 + 1)).status_code == 413


def test_a_program_may_post_nothing(client: TestClient) -> None:
    """`curl -X POST` sends no body, and does not say so."""
    asked = client.build_request("POST", "/api/v1/undo")
    del asked.headers["content-length"]
    assert client.send(asked).text == "through"
    assert client.post("/api/v1/undo", content=iter([b"x"])).status_code == 411


def test_every_answer_forbids_what_lies_elsewhere(client: TestClient) -> None:
    for path in ("/", "/gradio_api/file=/etc/passwd"):
        policy = client.get(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "http" not in policy
        assert "*" not in policy


def test_a_stream_of_a_session_that_is_not_known_ends(page: gr.Blocks, uploads: Uploads) -> None:
    """Gradio raises within the stream that it has begun to send."""

    async def stream() -> Any:
        yield "begun"
        raise RuntimeError from HTTPException(404)

    answer = TestClient(guarded(StreamingResponse(stream()), page, uploads), base_url=HOST).get("/")
    assert answer.text == "begun"

    async def missing(*_: Any) -> None:
        raise HTTPException(404)

    assert TestClient(guarded(missing, page, uploads), base_url=HOST).get("/").status_code == 404

    async def broken(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    with pytest.raises(RuntimeError, match="of ours"):
        TestClient(guarded(broken, page, uploads), base_url=HOST).get("/")


# --- calls -----------------------------------------------------------------------------------------------------------


def test_a_call_goes_on_without_what_the_page_does_not_read(client: TestClient, uploads: Uploads) -> None:
    path = f"{uploads.folder}/token/mine.png"
    photo = {"path": path, "url": "http://evil.example", "is_stream": True, "meta": {"_type": "gradio.FileData"}}
    sent = call(
        data=[3, "a", ["b"], photo], event_data={"photo": "test:3", "more": 1}, simple_format=True, username="x"
    )
    received = client.post("/gradio_api/run/predict", json=sent).json()
    clean = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert received == {
        **call(data=[3, "a", ["b"], clean]),
        "event_data": {"photo": "test:3", "stage": None},
        "trigger_id": None,
    }
    for data in (None, [[1]], "text", 3):  # other events have data that is not read
        assert client.post("/gradio_api/run/predict", json=call(event_data=data)).json()["event_data"]["photo"] == ""
    assert client.post("/gradio_api/queue/join", json=call(fn_index=1, data=[])).status_code == 200


WRONG_DATA: list[list[Any]] = [
    [],
    [3, "a", []],
    [3, "a", [], None, None],
    ["x", "a", [], None],
    [-1, "a", [], None],
    [1e300, "a", [], None],
    [10**400, "a", [], None],
    [2.5, "a", [], None],
    [None, "a", [], None],
    [3, 5, [], None],
    [3, {"a": 1}, [], None],
    [3, "a" * 301, [], None],
    [3, "a", "b", None],
    [3, "a", {"0": "b"}, None],
    [3, "a", ["b"] * 1001, None],
    [3, "a", [["b"]], None],
    [3, "a", [], "/etc/passwd"],
    [3, "a", [], {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}],
    [3, "a", [], {"path": "http://127.0.0.1/x", "meta": {"_type": "gradio.FileData"}}],
    [3, "a", [], {"path": "x\0y", "meta": {"_type": "gradio.FileData"}}],
    [3, "a", [], {"path": None}],
]
WRONG_CALLS: list[bytes] = [
    *(json.dumps(call(data=data)).encode() for data in WRONG_DATA),
    *(
        json.dumps(call(**changes)).encode()
        for changes in (
            {"fn_index": 99},
            {"fn_index": -1},
            {"fn_index": 10**30},
            {"fn_index": None},
            {"fn_index": "0; drop"},
            {"fn_index": 2},  # answered in the browser
            {"fn_index": 1, "data": []},  # waits in line
            {"session_hash": None},
            {"session_hash": "x" * 65},
            {"session_hash": "../x"},
            {"trigger_id": {}},
            {"data": None},
            {"data": {"0": 3}},
            {"event_data": {"photo": ["test:0"]}},
            {"event_data": {"stage": "x"}},
        )
    ),
    json.dumps(call(data=[float("nan"), "a", [], None])).encode(),
    json.dumps(call(data=[float("inf"), "a", [], None])).encode(),
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b"9" * 5000,
    b"[" * 100_000,
    b'{"data":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
]


@pytest.mark.parametrize("body", WRONG_CALLS, ids=lambda body: body[:60].decode("latin-1"))
def test_a_wrong_call_is_refused_in_one_short_sentence(client: TestClient, body: bytes) -> None:
    answer = client.post("/gradio_api/run/predict", content=body)
    assert answer.status_code == 422
    sentence = answer.json()["error"]
    assert sentence.startswith("the page")
    assert len(sentence) < 250
    assert "\n" not in sentence
