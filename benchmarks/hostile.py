"""Attacks the page of a tiny run with hostile uploads and calls, and checks that nothing of them is left.

$ python benchmarks/hostile.py [--uploads 200] [--calls 300] [--seconds 2] [--run RUN]

The server is a process of its own. Each kind of request is sent equally often; the answer must be a refusal or an
ordinary answer within the seconds given, and no answer may be an HTTP 500. A photo that is taken is shown and taken out
again, as a visitor does; then no upload may be left. Resident memory is that of the server.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tripletcl.config import load_config
from tripletcl.runs.train import train
from tripletcl.scenes import write_scenes

SESSION = "hostile"


@dataclass
class Outcome:
    """The answers to one kind of request."""

    statuses: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass
class Served:
    """A server: its address, its process, its temporary files, and what it has printed as errors."""

    address: str
    process: subprocess.Popen[str]
    folder: Path
    errors: Path

    @property
    def resident(self) -> float:
        """Resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        found = re.search(r"VmRSS:\s+(\d+)", status)
        return int(found[1]) / 1000 if found else float("nan")

    @property
    def uploads(self) -> list[Path]:
        """The uploaded files, and parts of some, that are on the disk."""
        return [path for path in self.folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


def tiny_run(folder: Path) -> Path:
    """Train a run on drawn scenes."""
    table = write_scenes(folder / "scenes", size=64, facts=12, train=4, test=2, seed=0)
    changes = {"data.table": table, "data.tasks": 2, "model.image_size": 64, "model.freeze_until": "head"}
    words = [f"{key}={value}" for key, value in {**changes, "method": "analytic", "device": "cpu"}.items()]
    train(load_config("demo", words), folder / "run")
    return folder / "run"


@contextmanager
def served(run: Path, folder: Path) -> Iterator[Served]:
    """Serve a run's page."""
    command = [sys.executable, "-m", "tripletcl", "serve", str(run), "--port", "0"]
    folder.mkdir()
    errors = folder.with_suffix(".err")
    environment = {**os.environ, "TMPDIR": str(folder)}
    with (
        errors.open("w") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                sys.exit(errors.read_text(encoding="utf-8"))
            yield Served(line.removeprefix("page: ").strip(), process, folder, errors)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


# --- uploads ---------------------------------------------------------------------------------------------------------


def png(width: int, height: int, cut: int | None = None) -> bytes:
    """A white PNG, of one bit a pixel; perhaps cut short."""
    file = io.BytesIO()
    Image.new("1", (width, height)).save(file, "PNG")
    return file.getvalue()[:cut]


def bomb() -> bytes:
    """A PNG whose header promises 16 bits of 30,000 x 30,000 pixels, and whose data go on for long."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = (30_000).to_bytes(4) * 2 + bytes([16, 2, 0, 0, 0])
    data = zlib.compress(bytes(50_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def form(content: bytes, name: str = "a.png", field_name: str = "files") -> dict[str, Any]:
    """The arguments of a request that uploads a file."""
    return {"files": {field_name: (name, content)}}


def uploads_of(pipe: Path) -> dict[str, dict[str, Any]]:
    """Hostile uploads by kind: the arguments of requests.

    Args:
        pipe: A FIFO, which nobody writes to.
    """
    photo, boundary = png(8, 8), {"content-type": "multipart/form-data; boundary=b"}
    part = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    return {
        "a photo": form(photo),
        "no photo: text": form(b"Dear reader"),
        "no photo: empty": form(b""),
        "no photo: SVG with a script": form(b"<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>"),
        "no photo: HTML named PNG": form(b"<html><script>alert(1)</script></html>"),
        "no photo: ZIP": form(b"PK\x03\x04" + bytes(100)),
        "cut short": form(png(500, 500, 60)),
        "26 MB": form(b"\x89PNG" + bytes(26 * 10**6)),
        "bomb: 1 bit, 20,000 x 20,000": form(png(20_000, 20_000)),
        "bomb: 16 bits, 30,000 x 30,000": form(bomb()),
        "path in its name": form(photo, "../../../../tmp/evil.png"),
        "NUL and newline in its name": form(photo, "a\0b\r\nc.png"),
        "10,000 letters in its name": form(photo, "x" * 5000 + ".png"),
        "a FIFO's path as its name": form(b"", str(pipe)),
        "another field": form(photo, field_name="other"),
        "a field of 2 MB, no file": {"data": {"files": "x" * 2 * 10**6}, "files": {"x": ("", b"")}},
        "65 files": {"files": [("files", ("a.png", photo))] * 65},
        "no form": {"content": b"x" * 1000, "headers": boundary},
        "a form that ends early": {"content": part + photo, "headers": boundary},
        "no length": {"content": iter([b"x"]), "headers": boundary},
        "foreign origin": {**form(photo), "headers": {"origin": "http://evil.example"}},
        "cross-site": {**form(photo), "headers": {"sec-fetch-site": "cross-site"}},
        "foreign host": {**form(photo), "headers": {"host": "evil.example"}},
        "empty host": {**form(photo), "headers": {"host": ""}},
    }


def announced(address: str) -> httpx.Response:
    """Announce an upload of 500 MB, and send nothing of it."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=60)
    connection.request("POST", "/memory/gradio_api/upload", b"", {"content-length": str(500 * 10**6)})
    return httpx.Response(connection.getresponse().status)


# --- calls -----------------------------------------------------------------------------------------------------------


def photo_event(page: Mapping[str, Any]) -> int:
    """The event that notes which photo is shown."""
    kinds = {part["id"]: part["type"] for part in page["components"]}
    return next(each["id"] for each in page["dependencies"] if [*map(kinds.get, each["inputs"])] == ["image"])


def file(path: object) -> list[Any]:
    """The values of an event whose input is an uploaded file."""
    return [{"path": path, "meta": {"_type": "gradio.FileData"}}]


def calls_of(page: Mapping[str, Any], pipe: Path) -> dict[str, tuple[str, str, dict[str, Any]]]:
    """Hostile calls by kind: method, route and the arguments of requests.

    Args:
        page: The page's own description, from its first answer.
        pipe: A FIFO, which nobody writes to.
    """
    events = {event["id"]: event for event in page["dependencies"] if event["backend_fn"]}
    kinds = {part["id"]: part["type"] for part in page["components"]}
    search = next(number for number, event in events.items() if "number" in map(kinds.get, event["inputs"]))
    photo = photo_event(page)
    right = {"slider": 1, "dropdown": "none", "textbox": "dog", "json": ["?", "?", "dog"], "number": 12}
    inputs = [right.get(kinds[part]) for part in events[search]["inputs"]]

    def body(**changes: Any) -> dict[str, Any]:
        return {"fn_index": search, "data": inputs, "session_hash": SESSION, "event_data": None, **changes}

    values: dict[str, Any] = {
        "text": "x", "null": None, "a list": [[]], "an object": {"a": {}}, "true": True, "-1": -1, "10 ** 400": 10**400,
        "300 kB of text": "x" * 300_000,
    }  # fmt: skip
    bodies: dict[str, Any] = {
        "an ordinary call": body(),
        **{f"data of {name}": body(data=[value] * len(inputs)) for name, value in values.items()},
        **{f"event {name}": body(fn_index=value) for name, value in values.items()},
        "too few values": body(data=[]),
        "unknown event": body(fn_index=9999),
        "unknown component": body(trigger_id=9999),
        "an event of the browser's": body(fn_index=max(events) + 1),
        "unknown photo": body(event_data={"photo": "test:999999"}),
        "no session": body(session_hash=None),
        "a session like a path": body(session_hash="../../x"),
        "a file of ours": body(fn_index=photo, data=file("/etc/passwd")),
        "a device": body(fn_index=photo, data=file("/dev/zero")),
        "a FIFO": body(fn_index=photo, data=file(str(pipe))),
        "an address": body(fn_index=photo, data=file("http://127.0.0.1:1/x")),
        "a path with NUL": body(fn_index=photo, data=file("a\0b")),
    }
    broken = {
        "NaN": json.dumps(body(data=[float("nan")] * len(inputs))).encode(),
        "infinite": json.dumps(body(fn_index=float("inf"))).encode(),
        "no JSON": b"{",
        "no text": b"\xff\xfe\x00",
        "nothing": b"",
        "a number of 100,000 digits": b"9" * 100_000,
        "100,000 lists deep": b"[" * 100_000,
        "10,000 objects deep": b'{"data":' * 10_000 + b"1" + b"}" * 10_000,
        "2 MB": b" " * 2 * 10**6,
    }
    run, headers = "/memory/gradio_api/run/predict", {"content-type": "application/json"}
    calls = {name: ("POST", run, {"json": body}) for name, body in bodies.items()}
    calls |= {name: ("POST", run, {"content": content, "headers": headers}) for name, content in broken.items()}
    calls |= {
        "a lesson without a queue": ("POST", "/memory/gradio_api/queue/join", {"json": body()}),
        "foreign origin": ("POST", run, {"json": body(), "headers": {"origin": "http://evil.example"}}),
        "cross-site": ("POST", run, {"json": body(), "headers": {"sec-fetch-site": "cross-site"}}),
        "foreign host": ("GET", "/", {"headers": {"host": "evil.example"}}),
        "empty host": ("GET", "/", {"headers": {"host": ""}}),
        "a file by its path": ("GET", "/memory/gradio_api/file=/etc/passwd", {}),
        "a path upwards": ("GET", "/memory/gradio_api/file=/tmp/%2e%2e/etc/passwd", {}),
        "a closed route": ("POST", "/memory/gradio_api/component_server", {"json": {}}),
        "the events of an unknown session": ("GET", "/memory/gradio_api/queue/data?session_hash=nobody", {}),
        "the events of no session": ("GET", "/memory/gradio_api/queue/data", {}),
        "another method": ("DELETE", run, {}),
    }
    return calls


# --- the attack ------------------------------------------------------------------------------------------------------


def attack(kinds: Mapping[str, Callable[[], httpx.Response]], times: int) -> dict[str, Outcome]:
    """Send requests of all kinds in turns."""
    outcomes = {kind: Outcome() for kind in kinds}
    for number in range(times):
        kind = [*kinds][number % len(kinds)]
        start = time.perf_counter()
        try:
            status = kinds[kind]().status_code
        except httpx.TransportError:  # the server hung up before it had read all
            status = 0
        outcomes[kind].seconds.append(time.perf_counter() - start)
        outcomes[kind].statuses.append(status)
    return outcomes


def table(title: str, outcomes: Mapping[str, Outcome]) -> str:
    """The outcomes as Markdown."""
    rows = [
        f"| {kind} | {len(each.statuses)} | {', '.join(map(str, sorted(set(each.statuses))))} "
        f"| {1000 * statistics.median(each.seconds):.0f} | {1000 * max(each.seconds):.0f} |"
        for kind, each in outcomes.items()
        if each.statuses
    ]
    head = f"| {title} | sent | answer | median ms | most ms |\n| --- | --- | --- | --- | --- |"
    return "\n".join([head, *rows])


def attacked(server: Served, uploads: int, calls: int, seconds: float) -> tuple[list[str], list[str]]:
    """Attack a server.

    Returns:
        What to print, and what went wrong.
    """
    pipe = server.folder.parent / "pipe"
    os.mkfifo(pipe)
    with httpx.Client(base_url=server.address, timeout=60) as client:
        first = client.get("/memory/").text
        page = json.loads(first.partition("window.gradio_config = ")[2].partition(";</script>")[0])

        def upload(request: dict[str, Any]) -> httpx.Response:
            answer = client.post("/memory/gradio_api/upload", **request)
            for path in answer.json() if answer.status_code == 200 else []:
                for data in (file(path), [None]):
                    call = {"fn_index": photo_event(page), "data": data, "session_hash": SESSION}
                    client.post("/memory/gradio_api/run/predict", json=call).raise_for_status()
            return answer

        photos = {kind: lambda request=request: upload(request) for kind, request in uploads_of(pipe).items()}
        photos["500 MB announced"] = lambda: announced(server.address)
        requests = {
            kind: lambda request=request: client.request(request[0], request[1], **request[2])
            for kind, request in calls_of(page, pipe).items()
        }
        attack(requests, len(requests))  # what is loaded on first use
        attack(photos, len(photos))
        before = server.resident
        of_uploads, of_calls = attack(photos, uploads), attack(requests, calls)
        after = server.resident
    outcomes = [*of_uploads.values(), *of_calls.values()]
    slowest = max(seconds for each in outcomes for seconds in each.seconds)
    failed = sum(status >= 500 for each in outcomes for status in each.statuses)
    traces = server.errors.read_text(encoding="utf-8").count("Traceback")
    lines = [table("uploads", of_uploads), "", table("calls", of_calls), ""]
    kept = len(server.uploads)
    lines.append(f"resident memory: {before:.0f} MB before, {after:.0f} MB after; {kept} uploads are left")
    lines.append(f"slowest answer {slowest:.2f} s; {failed} answers of 500 and above; {traces} traces")
    wrong = [f"{failed} answers of 500 and above"] * bool(failed) + [f"{traces} traces"] * bool(traces)
    wrong += [f"{kept} uploads are left"] * bool(kept)
    wrong += [f"an answer took {slowest:.1f} s"] * (slowest > seconds)
    return lines, wrong


def main(arguments: Sequence[str] | None = None) -> None:
    """Attack, print the tables, and end with 1 where something went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=2.0, help="longest time of an answer")
    parser.add_argument("--run", type=Path, help="a run; default a tiny one that is trained now")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch:
        folder = Path(scratch)
        os.environ.setdefault("TRIPLETCL_CACHE", str(folder / "cache"))
        run = given.run or tiny_run(folder)
        with served(run, folder / "served") as server:
            lines, wrong = attacked(server, given.uploads, given.calls, given.seconds)
        left = [path.name for path in (folder / "served").rglob("*") if path.is_file()]
        wrong += [f"left after its end: {', '.join(left)}"] * bool(left)
    load = os.getloadavg()[0]
    print("\n".join([*lines, f"left after its end: {len(left)} files; load {load:.1f}"]))
    if wrong:
        sys.exit("wrong: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
