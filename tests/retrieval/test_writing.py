"""An index on disk: killed writers, concurrent readers, read-only folders, and what is refused."""

from __future__ import annotations

import errno
import itertools
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from colour_embedder import COLOURS, ColourEmbedder
from PIL import Image

from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import FactIndex, about_index, store, writing
from tripletcl.retrieval.database import Database
from tripletcl.retrieval.stores.address import read_together

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")

NAMES = list(COLOURS)
NOBODY = 65534


class Drawer:
    """Draws photos of changing colours, each with its own stamp."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.random, self.count = folder, random.Random(0), 0
        folder.mkdir()

    def draw(self, name: str) -> Path:
        path = self.folder / name
        colours = self.random.choices(NAMES, k=3)
        Image.fromarray(np.array([[COLOURS[colour] for colour in colours]], dtype=np.uint8)).save(path)
        self.count += 1
        os.utime(path, ns=(0, self.count * 10**9))
        return path


@pytest.fixture
def drawer(tmp_path: Path) -> Drawer:
    return Drawer(tmp_path / "photos")


@pytest.fixture
def folder(tmp_path: Path, drawer: Drawer) -> Path:
    """An index of ten photos."""
    for number in range(10):
        drawer.draw(f"{number}.png")
    with writing(tmp_path / "index", ColourEmbedder(), stage=2) as index:
        index.sync(drawer.folder)
    return tmp_path / "index"


def contents(folder: Path) -> dict[Path, list[float]]:
    index = FactIndex.load(folder)
    return {path: index.rows(row).tolist() for row, path in enumerate(index.paths) if path.name}


def in_child(work: Callable[[], object]) -> int:
    """Run a function in a forked process, and return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)
        work()
        code = 0
    finally:
        os._exit(code)


def code_of(child: int) -> int:
    """The exit code of a process; a hang is a failure."""
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("it hangs")
        time.sleep(0.002)
    return os.waitstatus_to_exitcode(done[1])


# Killed


def test_everything_committed_survives_a_kill_at_any_moment(tmp_path: Path, drawer: Drawer) -> None:
    """Twelve writers in a row are killed while their folder changes; the last one finishes."""
    place, moments = tmp_path / "index", random.Random(1)
    committed: dict[Path, list[float]] = {}
    killed = 0
    for attempt in range(12):
        for _ in range(8):
            drawer.draw(f"{drawer.count}.png")
        drawer.draw(f"{attempt}.png")
        (drawer.folder / f"{attempt + 3}.png").unlink(missing_ok=True)
        child = in_child(lambda: sync_slowly(place, drawer.folder))
        time.sleep(moments.uniform(0, 0.5))
        os.kill(child, signal.SIGKILL)
        killed += code_of(child) == -signal.SIGKILL
        if not committed and not has_index(place):
            continue
        stored, now = contents(place), vectors_of(drawer.folder)
        for path in committed.keys() & now.keys():
            assert stored[path] in (committed[path], now[path])
        committed = stored
    assert killed >= 6

    embedder, now = ColourEmbedder(), vectors_of(drawer.folder)
    right = [path for path, vector in committed.items() if now.get(path) == vector]
    assert len(right) > 20
    with writing(place, embedder) as index:
        index.sync(drawer.folder)
    assert contents(place) == now
    assert len(set(embedder.photos_read) & set(right)) <= 12  # drawn again, by chance in the same colours
    fresh, queries = FactIndex.build(ColourEmbedder(), drawer.folder), ["red", "? green", "blue, ?, dark red"]
    assert FactIndex.load(place, embedder).search(queries, k=20) == fresh.search(queries, k=20)
    assert len(list(place.glob("*-*.f32"))) == 1


def vectors_of(photos: Path) -> dict[Path, list[float]]:
    """The vectors of the present photos."""
    index = FactIndex.build(ColourEmbedder(), photos)
    return {path: index.rows(row).tolist() for row, path in enumerate(index.paths)}


def has_index(place: Path) -> bool:
    try:
        FactIndex.load(place)
    except UserError as error:
        if "no index in" in str(error):
            return False
        raise
    return True


def sync_slowly(place: Path, photos: Path) -> None:
    """Synchronise in small batches for ever, with pauses in every step, so that a kill may hit any of them."""
    embedder = ColourEmbedder()
    embedder.decode = slow_down(embedder.decode)  # type: ignore[method-assign]
    Database.write_files = slow_down(Database.write_files)  # type: ignore[method-assign]
    store.append_rows = slow_down(store.append_rows)  # type: ignore[assignment]
    while True:
        with writing(place, embedder) as index:
            index.sync(photos, batch_size=3)
            index.replace_vectors(lambda block: block, model=index.model, stage=1)


def slow_down(function: Callable[..., object]) -> Callable[..., object]:
    def slow(*arguments: object) -> object:
        result = function(*arguments)
        time.sleep(0.003)
        return result

    return slow


def test_a_killed_sync_resumes(tmp_path: Path, drawer: Drawer) -> None:
    for number in range(12):
        drawer.draw(f"{number:02}.png")
    embedder = ColourEmbedder()

    def killed() -> None:
        def kill(progress: Progress) -> None:
            if progress.done == 8:
                os.kill(os.getpid(), 9)

        with writing(tmp_path / "index", embedder) as index, listening(kill):
            index.sync(drawer.folder, batch_size=4)

    assert code_of(in_child(killed)) == -signal.SIGKILL
    assert len(FactIndex.load(tmp_path / "index")) == 8
    with writing(tmp_path / "index", embedder) as index:
        assert len(index.sync(drawer.folder, batch_size=4).added) == 4
    assert len(embedder.photos_read) == 4


def test_bytes_that_were_not_committed_are_overwritten(folder: Path, drawer: Drawer) -> None:
    (vectors,) = folder.glob("vectors-*")
    with vectors.open("ab") as file:
        file.write(b"half a row of a killed writer" * 100)
    (folder / "vectors-99.f32").write_bytes(b"a new file of a killed writer")
    (folder / ".structure-7.123.tmp").write_bytes(b"and one not yet renamed")
    before = contents(folder)
    new = drawer.draw("new.png")
    with writing(folder, ColourEmbedder()) as index:
        index.sync(drawer.folder)
    after = contents(folder)
    assert {path: vector for path, vector in after.items() if path != new} == before
    assert vectors.stat().st_size == 11 * 9 * 4
    assert {path.name for path in folder.iterdir()} == {"index.db", vectors.name, "photos-2.rows", "names-3.text"}


@pytest.fixture
def hot_journal(folder: Path) -> Path:
    """The index after a writer was killed within a commit: half of the new pages are in the database."""

    def killed() -> None:
        with closing(sqlite3.connect(folder / "index.db", isolation_level=None)) as database:
            database.execute("PRAGMA cache_size = 1")
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM files")
            for number in range(2000):
                database.execute("INSERT INTO broken VALUES (?, 1, 1, 'none')", (f"{number}" * 50,))
            os.kill(os.getpid(), signal.SIGKILL)

    assert code_of(in_child(killed)) == -signal.SIGKILL
    assert (folder / "index.db-journal").stat().st_size
    return folder


def test_a_killed_commit_is_rolled_back_by_the_next_reader(hot_journal: Path) -> None:
    index = FactIndex.load(hot_journal)
    assert (len(index), index.skipped) == (10, [])
    assert not (hot_journal / "index.db-journal").exists()


# Readers and writers


def test_readers_see_commits_and_keep_what_they_have_loaded(folder: Path, drawer: Drawer) -> None:
    """Two processes load and search all the time while a third adds, changes and drops rows."""
    done = folder / "done"

    def read(reader: int) -> None:
        embedder, seen = ColourEmbedder(), set()
        while not done.exists():
            index = FactIndex.load(folder, embedder)
            paths = {path: row for row, path in enumerate(index.paths) if path.name}
            assert len(paths) == len(index) >= 9
            for hit in index.search("red, green, ?", k=50):
                row = index.rows(paths[hit.path]).astype(np.float64)
                assert hit.score == pytest.approx(float(row[0] + row[4]), abs=1e-6)
            seen.add(len(index))
            if len(seen) > 1:
                (folder / f"saw-a-change-{reader}").touch()

    readers = [in_child(partial(read, reader)) for reader in range(2)]
    for number in itertools.count():  # a reader may be slow to start
        if number >= 12 and len(list(folder.glob("saw-a-change-*"))) == len(readers):
            break
        assert number < 1000, "a reader never saw a change"
        with writing(folder, ColourEmbedder()) as index:
            drawer.draw("0.png")
            drawer.draw(f"new-{number}.png")
            (drawer.folder / f"new-{number - 1}.png").unlink(missing_ok=number % 2 == 0)
            index.sync(drawer.folder, batch_size=2)
        time.sleep(0.01)
    done.touch()
    assert [code_of(reader) for reader in readers] == [0, 0]


def test_a_second_writer_is_refused(folder: Path) -> None:
    with writing(folder), pytest.raises(UserError, match="another process is writing the index in"), writing(folder):
        pass
    with writing(folder) as index:
        assert len(index) == 10


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "index.db").mkdir()
    for use in (FactIndex.load, lambda folder: writing(folder).__enter__()):
        with pytest.raises(UserError, match=r"the index in .* cannot be used: index\.db"):
            use(tmp_path)


def no_space_left(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("full", ["vectors", "database"])
def test_a_full_disk_leaves_the_index_unchanged(
    folder: Path, drawer: Drawer, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    before = contents(folder)
    for number in range(200):
        drawer.draw(f"{'a long name' * 10}-{number}.png")
        (drawer.folder / f"{'broken' * 20}-{number}.png").write_text("no photo")  # its name is in the database
    words = r"the disk is full: .* could not be written; what was saved before is untouched"
    with monkeypatch.context() as patch, writing(folder, ColourEmbedder()) as index:
        if full == "vectors":
            patch.setattr(os, "fsync", no_space_left)
        else:
            index._rows.writer._database._connection.execute("PRAGMA max_page_count = 10")  # type: ignore[union-attr]
        with pytest.raises(UserError, match=words):
            index.sync(drawer.folder, batch_size=300)
    assert contents(folder) == before
    with writing(folder, ColourEmbedder()) as index:
        assert len(index.sync(drawer.folder).added) == 200


def test_a_loaded_copy_outlives_the_files_it_came_from(folder: Path) -> None:
    index = FactIndex.load(folder, ColourEmbedder())
    before = index.search("red", k=10)
    with writing(folder, ColourEmbedder()) as other:
        other.replace_vectors(lambda block: -block, model=other.model)
    shutil.rmtree(folder)
    assert index.search("red", k=10) == before


@pytest.fixture
def read_only() -> Iterator[Callable[[Path], Path]]:
    """Copies an index to a folder that everybody can read and nobody can write."""
    with TemporaryDirectory() as place:

        def copy(folder: Path) -> Path:
            copied = shutil.copytree(folder, Path(place, "index"))
            for path in (*copied.iterdir(), copied):
                path.chmod(0o555 if path.is_dir() else 0o444)
            return copied

        Path(place).chmod(0o755)
        yield copy
        Path(place, "index").chmod(0o755)


def as_nobody(work: Callable[[], object]) -> int:
    """Run a function in a process without the rights of root."""

    def work_as_nobody() -> None:
        if os.geteuid() == 0:
            os.setuid(NOBODY)
        work()

    return code_of(in_child(work_as_nobody))


@pytest.mark.parametrize("state", ["at rest", "with a journal to roll back"])
def test_a_read_only_folder_can_be_read(
    request: pytest.FixtureRequest, folder: Path, read_only: Callable[[Path], Path], state: str
) -> None:
    if state != "at rest":
        request.getfixturevalue("hot_journal")
    place = read_only(folder)
    names = sorted(path.name for path in place.iterdir())

    def read() -> None:
        index = FactIndex.load(place, ColourEmbedder())
        assert len(index.search("red", k=20)) == 10
        with pytest.raises(UserError, match="may not be written"), writing(place):
            pass

    assert as_nobody(read) == 0
    assert sorted(path.name for path in place.iterdir()) == names


# Its model, its features


def test_an_index_describes_its_model(folder: Path) -> None:
    about, index = about_index(folder), FactIndex.load(folder)
    assert (about.model, about.stage, about.kind) == (index.model, index.stage, index.kind) == ("colours-1", 2, "flat")
    assert about.why == index.why
    assert "flat" in index.why


def test_another_model_may_not_write(folder: Path) -> None:
    words = r"made by model colours-1, not by colours-2; .*index upgrade"
    with pytest.raises(UserError, match=words), writing(folder, ColourEmbedder("colours-2")):
        pass
    with writing(folder) as index, pytest.raises(UserError, match="without a model"):
        index.add_photos([folder / "x.png"])


def test_an_index_without_a_photo_leaves_no_file(tmp_path: Path, drawer: Drawer) -> None:
    with pytest.raises(UserError, match="no photo in"), writing(tmp_path / "index", ColourEmbedder()) as index:
        index.sync(drawer.folder)
    with pytest.raises(UserError, match="no index in"):
        FactIndex.load(tmp_path / "index")
    assert not (tmp_path / "index").exists()


def test_vectors_are_replaced_atomically(folder: Path) -> None:
    before = contents(folder)

    def broken(block: np.ndarray) -> np.ndarray:
        return block * np.nan

    with pytest.raises(UserError, match=r"the vector of .*png is not finite"), writing(folder) as index:
        index.replace_vectors(broken, model="colours-2")
    assert contents(folder) == before
    assert about_index(folder).model == "colours-1"
    assert len(list(folder.iterdir())) == 4
    with writing(folder) as index:
        index.replace_vectors(lambda block: block[:, [1, 2, 0]], model="colours-2", stage=3)
    assert contents(folder) == {path: [*v[3:], *v[:3]] for path, v in before.items()}
    about = about_index(folder)
    assert (about.model, about.stage) == ("colours-2", 3)
    FactIndex.load(folder, ColourEmbedder("colours-2"))


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    words = "no index of kind 'tree'; allowed are auto, flat, hnsw, ivfpq"
    with pytest.raises(UserError, match=words), writing(tmp_path / "index", kind="tree"):
        pass
    with pytest.raises(UserError, match=words):
        FactIndex(kind="tree")


@pytest.mark.parametrize(
    "name", ["../victim.txt", "vectors-2.f32/../../victim.txt", "vectors-01.f32", "structure-2", ""]
)
def test_an_index_names_no_files_but_its_own(name: str, folder: Path, drawer: Drawer) -> None:
    victim = folder.parent / "victim.txt"
    victim.write_bytes(bytes(10**5))
    with closing(sqlite3.connect(folder / "index.db", isolation_level=None)) as database:
        database.execute("UPDATE files SET name = ? WHERE role = 'vectors'", [name])
    drawer.draw("another.png")
    for access in (FactIndex.load, lambda path: writing(path, ColourEmbedder()).__enter__()):
        with pytest.raises(UserError, match=r"is damaged \(.* is no file of an index") as refused:
            access(folder)
        assert "\n" not in str(refused.value)
    assert victim.read_bytes() == bytes(10**5)


def test_a_refused_command_leaves_no_folder(tmp_path: Path, drawer: Drawer) -> None:
    new = tmp_path / "deep" / "index"
    for photos in (tmp_path / "missing", drawer.folder):
        with pytest.raises(UserError), writing(new, ColourEmbedder()) as index:
            index.sync(photos)
        assert not new.parent.exists()
    new.mkdir(parents=True)
    with pytest.raises(UserError), writing(new, ColourEmbedder()) as index:
        index.sync(drawer.folder)
    assert list(new.parent.iterdir()) == [new]
    assert list(new.iterdir()) == []


def test_an_index_that_is_upgraded_while_it_is_opened_is_read_again(folder: Path) -> None:
    """Another process changes the model between the two reads."""
    upgrades = iter(["colours-2", "colours-3"])
    reads: list[str | None] = []

    def read() -> FactIndex:
        embedder = ColourEmbedder(about_index(folder).model or "")
        reads.append(embedder.name)
        if (other := next(upgrades, None)) is not None:
            with writing(folder) as index:
                index.replace_vectors(np.copy, model=other)
        return FactIndex.load(folder, embedder)

    assert read_together(folder, read).model == "colours-3"
    assert reads == ["colours-1", "colours-2", "colours-3"]
    with pytest.raises(UserError, match="was made by model colours-3, not by other"):
        read_together(folder, lambda: FactIndex.load(folder, ColourEmbedder("other")))
