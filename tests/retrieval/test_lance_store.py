"""An index in a Lance table answers like the same photos in a folder, and survives kills and other writers."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from colour_embedder import ColourEmbedder, TurnedEmbedder
from test_filters import FILTERS, photos  # noqa: F401 - a fixture

from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, Filter, about_index, answer, parse_request, writing
from tripletcl.retrieval.stores import lance_store, lance_table
from tripletcl.retrieval.stores import search as store_search
from tripletcl.retrieval.stores.address import open_store
from tripletcl.retrieval.upgrade import upgrade

pytest.importorskip("lance", reason='pylance is not installed: pip install "tripletcl[cluster]"')

WIDTH, COUNT = 16, 1200
NAMES = [f"photos/{number:04}.jpg" for number in range(COUNT)]
PATTERNS = np.array([named for named in product([0, 1], repeat=3) if any(named)])


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """`[COUNT, 3, WIDTH]` around 40 middles; the last hundred equal the first."""
    generator = np.random.default_rng(0)
    middles = generator.standard_normal((40, 3, WIDTH))
    drawn = middles[generator.integers(0, 40, COUNT)] + 0.5 * generator.standard_normal((COUNT, 3, WIDTH))
    drawn[-100:] = drawn[:100]
    return drawn


@pytest.fixture(scope="module")
def twin(vectors: np.ndarray) -> FactIndex:
    """The same photos in memory, searched exactly."""
    index = FactIndex(kind="flat", precision="float16")
    index.add(NAMES, vectors)
    return index


@pytest.fixture(scope="module")
def queries(twin: FactIndex) -> np.ndarray:
    """Eight photos in all seven patterns, `[56, 3 * WIDTH]`."""
    units = twin.rows(range(0, 800, 100)).reshape(8, 1, 3, WIDTH)
    return (units * PATTERNS[None, :, :, None]).reshape(-1, 3 * WIDTH).astype(np.float32)


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"file://{tmp_path}/photos.lance"


def fill(address: str, vectors: np.ndarray) -> None:
    with writing(address) as index:
        index.add(NAMES[:1000], vectors[:1000])
        index.add(NAMES[1000:], vectors[1000:])


def contents(place: str | Path) -> dict[Path, list[float]]:
    index = FactIndex.load(place)
    return dict(zip(index.paths, index.rows().tolist(), strict=True))


# It answers like the folder


def test_every_pattern_is_answered_bit_for_bit_like_the_folder(
    address: str, vectors: np.ndarray, twin: FactIndex, queries: np.ndarray
) -> None:
    fill(address, vectors)
    index = FactIndex.load(address)
    assert (len(index), index.width, index.kind, index.precision) == (COUNT, WIDTH, "flat", "float16")
    assert index.search_vectors(queries, 30) == twin.search_vectors(queries, 30)
    assert index.search_vectors(queries[:1], COUNT + 5) == twin.search_vectors(queries[:1], COUNT + 5)
    assert np.array_equal(index.rows([3, 1, 1100]), twin.rows([3, 1, 1100]))
    assert index.photos == twin.photos
    assert [index.row(name) for name in ("photos/0007.jpg", "none.jpg")] == [7, None]
    open_store(address).check()


def test_lists_find_nearly_what_exact_search_finds_with_the_same_scores(
    address: str, vectors: np.ndarray, twin: FactIndex, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_store, "FEWEST_LISTED", 1000)
    monkeypatch.setattr(lance_store, "LIST_RATIO", 1)
    fill(address, vectors)
    with writing(address) as index:  # what is not listed is found too
        index.remove(NAMES[:1])
        index.add(["new.jpg"], -vectors[:1])
    index = FactIndex.load(address)
    assert index.kind == "lists"
    assert "1,200 photos in 34 lists" in index.why
    ((_, [row]),) = index.search_rows(-queries[6:7], 1)
    assert index.paths[row] == Path("new.jpg")
    shared = []
    for found, best in zip(index.search_vectors(queries, 5), twin.search_vectors(queries, 6), strict=True):
        scores = {hit.path: hit.score for hit in best}
        assert all(hit.score == scores[hit.path] for hit in found if hit.path in scores)
        shared.append(sum(hit.path in scores for hit in found))
    assert np.mean(shared) > 4.8


@pytest.fixture(scope="module")
def pair(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[FactIndex, FactIndex]:  # noqa: F811
    """The same photos in a folder and in a table."""
    place = tmp_path_factory.mktemp("stores")
    for store in (place / "folder", place / "table.lance"):
        with writing(store, ColourEmbedder(), precision="float16") as index:
            index.sync(photos, batch_size=50)
    embedder = ColourEmbedder()
    return FactIndex.load(place / "folder", embedder), FactIndex.load(place / "table.lance", embedder)


@pytest.mark.parametrize("where", FILTERS.values(), ids=FILTERS)
def test_filters_keep_what_they_keep_of_a_folder(pair: tuple[FactIndex, FactIndex], where: Filter) -> None:
    of_folder, of_table = pair
    for query, k in product(["red, green, blue", "?, dark red, ?"], (3, 200)):
        assert of_table.search(query, k, where) == of_folder.search(query, k, where)
    names = [{each.paths[row] for row in np.flatnonzero(each.kept(where))} for each in pair]
    assert names[0] == names[1]


def test_other_patterns_of_names_and_quotes_are_understood(pair: tuple[FactIndex, FactIndex]) -> None:
    for name in ("img_[0-4]*", "[!i]*", "???_1.png", "*[1.]?png", "img_1?.png", "*.png", "[[]*", "it's", "a\\b", "[x"):
        kept = []
        for index in pair:
            try:
                kept.append({index.paths[row] for row in np.flatnonzero(index.kept(Filter(name=name)))})
            except UserError as error:
                kept.append({Path(str(error))})
        assert kept[0] == kept[1], name


def test_details_requests_and_the_newest_photos_are_those_of_the_folder(pair: tuple[FactIndex, FactIndex]) -> None:
    of_folder, of_table = pair
    assert of_table.details(of_folder.photos) == of_folder.details(of_folder.photos)
    request = parse_request("red, ?, ? + ?, green, ? - ?, ?, blue")
    assert answer(of_table, request, 20) == answer(of_folder, request, 20)
    dates = [[each.date for each in index.details(index.paths[r] for r in index.newest())] for index in pair]
    assert dates[0] == dates[1]


def test_few_photos_of_many_are_all_found(
    address: str, vectors: np.ndarray, twin: FactIndex, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where lists are searched: those near a query have none of them."""
    monkeypatch.setattr(lance_store, "FEWEST_LISTED", 1000)
    monkeypatch.setattr(store_search, "FEW", 0)
    monkeypatch.setattr(store_search, "candidate_count", lambda k: k)
    monkeypatch.setattr(lance_table, "FEWEST_PROBED", 1)
    fill(address, vectors)
    where = Filter(name="00[01]*")
    for found in FactIndex.load(address).search_vectors(queries, 15, where):
        assert len(found) == 15
        assert all(hit.path.name < "0020" for hit in found)
    with pytest.raises(UserError, match="none of the 1,200 photos meets the filter: name x"):
        FactIndex.load(address).search_vectors(queries[:1], 3, Filter(name="x"))


# Photos come and go


def test_a_folder_is_followed(tmp_path: Path, address: str) -> None:
    from test_writing import Drawer

    drawer = Drawer(tmp_path / "photos")
    for number in range(6):
        drawer.draw(f"{number}.png")
    (drawer.folder / "broken.png").write_text("no photo")
    with writing(address, ColourEmbedder(), stage=2) as index:
        changes = index.sync(drawer.folder, batch_size=4)
    assert (len(changes.added), len(changes.skipped)) == (6, 1)
    with writing(address, embedder := ColourEmbedder()) as index:
        assert index.sync(drawer.folder).added == []
    assert embedder.photos_read == []
    drawer.draw("0.png")
    drawer.draw("broken.png")
    (drawer.folder / "1.png").unlink()
    with writing(address, embedder) as index:
        changes = index.sync(drawer.folder)
    assert [len(each) for each in (changes.added, changes.changed, changes.removed, changes.skipped)] == [1, 1, 1, 0]
    fresh = FactIndex(ColourEmbedder(), precision="float16")
    fresh.add_photos(drawer.folder)
    loaded = FactIndex.load(address, ColourEmbedder())
    assert contents(address) == dict(zip(fresh.paths, fresh.rows().tolist(), strict=True))
    assert (about_index(address).model, about_index(address).stage, loaded.skipped) == ("colours-1", 2, [])


def test_an_upgrade_is_one_commit_and_earlier_readers_stay(tmp_path: Path, address: str, vectors: np.ndarray) -> None:
    generator = np.random.default_rng(1)
    with writing(address, ColourEmbedder(), stage=1) as index:
        index.add(NAMES[:60], generator.standard_normal((60, 3, 3)))
    before = contents(address)
    early = FactIndex.load(address, ColourEmbedder())
    hits = early.search("red, green, ?", 60)
    drawn = [generator.standard_normal((40, 3, 3)).astype(np.float32) for _ in range(2)]
    from torch import from_numpy

    with writing(address) as index:
        done = upgrade(index, ColourEmbedder(), TurnedEmbedder(), tuple(map(from_numpy, drawn)), stage=2, keep=0)
    assert (done.how, done.photos, about_index(address).stage) == ("kernel", 60, 2)
    assert contents(address) != before
    assert early.search("red, green, ?", 60) == hits
    assert (early.model, FactIndex.load(address, TurnedEmbedder()).model) == ("colours-1", "turned")
    with pytest.raises(UserError, match=r"made by model turned, not by colours-1; .*index upgrade"):
        FactIndex.load(address, ColourEmbedder())


# Killed, and at the same time

CHILD = """
import os, signal, sys
import numpy as np
from tripletcl.retrieval import writing
from tripletcl.retrieval.stores import lance_store
address, moment = sys.argv[1:]
kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
blocks = []
def negate(block):
    blocks.append(len(block))
    if moment == "computing" and len(blocks) == 2:
        kill()
    return -block
switch, sweep, compact = lance_store._switch, lance_store.LanceRows.sweep, lance_store._compact
def switching(*arguments):
    if moment == "before":
        kill()
    done = switch(*arguments)
    if moment == "after":
        kill()
    return done
with writing(address) as index:
    lance_store._switch, lance_store.BLOCK_ROWS = switching, 500
    index.replace_vectors(negate, model="next", stage=3)
    if moment == "unsettled":
        kill()
"""


def test_an_upgrade_that_is_killed_is_done_or_was_never_begun(
    tmp_path: Path, vectors: np.ndarray, twin: FactIndex, queries: np.ndarray
) -> None:
    moments = {"computing": None, "before": None, "after": "next", "unsettled": "next"}
    addresses = [f"file://{tmp_path}/{moment}.lance" for moment in moments]
    for address in addresses:
        fill(address, vectors)
    children = [
        subprocess.Popen([sys.executable, "-c", CHILD, address, moment])
        for address, moment in zip(addresses, moments, strict=True)
    ]
    assert [child.wait(timeout=120) for child in children] == [-signal.SIGKILL] * len(moments)
    for address, model in zip(addresses, moments.values(), strict=True):
        sign = -1 if model else 1
        index = FactIndex.load(address)
        assert index.model == model
        expected = twin.search_vectors(queries, 10)
        assert index.search_vectors(sign * queries, 10) == expected
        with writing(address) as again:  # the next writer goes on
            again.replace_vectors(np.copy, model="later")
            again.add(["new.jpg"], vectors[:1])
        assert len(FactIndex.load(address)) == COUNT + 1
        open_store(address).check()
        dataset = lance_store.open_dataset(address)
        assert dataset is not None
        assert len([name for name in dataset.schema.names if "_" in name and name != "mtime_ns"]) == 4


def test_two_writers_are_both_there_and_a_photo_of_both_once(address: str, vectors: np.ndarray) -> None:
    fill(address, vectors)
    with writing(address) as one, writing(address) as other:
        one.add(["a.jpg", "both.jpg"], vectors[:2])
        other.add(["both.jpg", "b.jpg"], vectors[2:4])
    index = FactIndex.load(address)
    assert len(index) == COUNT + 3
    assert sorted(map(str, index.photos[COUNT:])) == ["a.jpg", "b.jpg", "both.jpg"]


def test_a_writer_that_was_overtaken_by_an_upgrade_is_refused(
    address: str, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lance_store, "FEWEST_LISTED", 1000)
    fill(address, vectors)
    words = r"another process changed the index in file://.* at the same time: repeat the command"
    with writing(address) as one, writing(address) as other:
        one.replace_vectors(np.negative, model="next")
        with pytest.raises(UserError, match=words):
            other.add(["b.jpg"], vectors[:1])
    assert len(FactIndex.load(address)) == COUNT
    with writing(address) as one, writing(address) as other:
        one.add(["a.jpg"], vectors[:1])
        with pytest.raises(UserError, match=words):
            other.replace_vectors(np.negative, model="never")
    assert (len(FactIndex.load(address)), about_index(address).model) == (COUNT + 1, "next")


# What is refused


def test_what_is_no_place_of_an_index_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("mysql://host/photos", "s3://bucket/photos", "ftp://host/photos.lance"):
        with pytest.raises(UserError, match=rf"{place} is no place of an index; allowed are a folder, a Lance"):
            open_store(place)
    with pytest.raises(UserError, match=r"no index in .*none\.lance"):
        FactIndex.load(tmp_path / "none.lance")
    monkeypatch.setattr(lance_store, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("pip install 'tripletcl[cluster]'")):
        open_store(tmp_path / "none.lance")


def test_settings_that_a_table_has_not_are_refused(address: str, vectors: np.ndarray, tmp_path: Path) -> None:
    import lance
    import pyarrow as pa

    for options, words in (({"kind": "hnsw"}, "leave out --kind"), ({"precision": "float32"}, "stores vectors in")):
        with pytest.raises(UserError, match=words), writing(address, **options):  # type: ignore[arg-type]
            pass
    fill(address, vectors)
    with pytest.raises(UserError, match="was opened for reading"):
        FactIndex.load(address).remove(NAMES[:1])
    with pytest.raises(UserError, match="cannot be saved as a folder"):
        FactIndex.load(address).save(tmp_path / "copy")
    with pytest.raises(UserError, match="is no Unicode"), writing(address) as index:
        index.add(["\udce9.jpg"], vectors[:1])
    lance.write_dataset(pa.table({"a": [1]}), tmp_path / "other.lance")
    with pytest.raises(UserError, match="is a Lance table, but no photo index"):
        about_index(tmp_path / "other.lance")
