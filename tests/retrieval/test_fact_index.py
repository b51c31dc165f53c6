"""An index of photos: build, extend, search, save and load it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from colour_embedder import ColourEmbedder

from tripletcl.data.facts import Fact
from tripletcl.embedding import FactEmbedder, TextEmbedder
from tripletcl.embedding.classifier import Classifier
from tripletcl.errors import UserError
from tripletcl.files import RACE_NS
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import FactIndex, Query, answer, parse_request, store, writing
from tripletcl.retrieval.store import check_index

Write = Callable[..., Path]


@pytest.fixture
def photos(photo: Write) -> Path:
    photo("a.png", "red", "green", "blue")
    photo("b.png", "red", "blue", "blue")
    photo("trip/c.PNG", "dark red", "green", "green")
    photo("trip/d.png", "blue", "green", "red")
    return photo("e.png", "green", "red", "green").parent


@pytest.fixture
def index(embedder: ColourEmbedder, photos: Path) -> FactIndex:
    return FactIndex.build(embedder, photos)


def names(hits: list) -> list[str]:
    return [hit.path.name for hit in hits]


# Asking


def test_a_query_ranks_by_the_sum_of_the_cosines_of_the_units_asked_for(index: FactIndex) -> None:
    near = 200 / np.hypot(200, 40)
    hits = index.search("red green ?", k=3)
    assert names(hits) == ["a.png", "c.PNG", "b.png"]
    assert [hit.score for hit in hits] == pytest.approx([2, 1 + near, 1])
    assert names(index.search("?, ?, blue", k=2)) == ["a.png", "b.png"]
    assert index.search("blue", k=1)[0].score == pytest.approx(1)


def test_strings_queries_and_facts_are_equivalent_and_a_list_is_a_batch(index: FactIndex) -> None:
    queries = ["dark red, green", Query("dark red", "green"), Fact("dark red", "green")]
    first, *others = index.search(queries, k=4)
    assert names(first)[0] == "c.PNG"
    assert [*others, index.search(queries[0], k=4)] == [first] * 3
    assert index.search([]) == []


def test_k_may_exceed_the_index_and_must_be_positive(index: FactIndex) -> None:
    assert len(index.search("red", k=100)) == len(index) == 5
    for k in (0, -1):
        with pytest.raises(UserError, match=f"k must be at least 1, not {k}"):
            index.search("red", k=k)


def test_an_empty_index_finds_nothing(embedder: ColourEmbedder) -> None:
    index = FactIndex(embedder)
    assert (len(index), index.width) == (0, 0)
    assert index.search("red") == []
    assert index.search(["red", "blue"]) == [[], []]


def test_query_vectors_are_checked(index: FactIndex) -> None:
    with pytest.raises(UserError, match=r"\[Q, 9\], not \[1, 6\]"):
        index.search_vectors(np.ones((1, 6)))
    with pytest.raises(UserError, match="not finite"):
        index.search_vectors(np.full((1, 9), np.nan))


# Building and growing


@pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
def test_build_takes_all_images_below_a_folder(embedder: ColourEmbedder, photos: Path, batch_size: int) -> None:
    (photos / "notes.txt").write_text("no photo")
    reports: list[Progress] = []
    with listening(reports.append):
        built = FactIndex.build(embedder, photos, batch_size=batch_size)
    assert [str(path.relative_to(photos)) for path in built.paths] == [
        "a.png",
        "b.png",
        "e.png",
        "trip/c.PNG",
        "trip/d.png",
    ]
    assert built.width == 3
    assert reports[-1] == Progress("embedding", 5, 5)
    assert len(reports) == -(-5 // batch_size)
    assert built.search("red blue") == FactIndex.build(embedder, built.paths).search("red blue")


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_broken_photo_is_skipped_and_listed(
    embedder: ColourEmbedder, index: FactIndex, photos: Path, batch_size: int
) -> None:
    (photos / "b2.jpg").write_bytes(b"no image at all")
    whole = (photos / "a.png").read_bytes()
    (photos / "trip" / "c2.png").write_bytes(whole[:20])
    built = FactIndex.build(embedder, photos, batch_size=batch_size)
    assert [path.name for path, _ in built.skipped] == ["b2.jpg", "c2.png"]
    assert all("cannot read" in reason for _, reason in built.skipped)
    assert built.paths == index.paths
    assert built.search("red green blue") == index.search("red green blue")


def test_no_readable_photo_is_an_error(embedder: ColourEmbedder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no photo in"):
        FactIndex.build(embedder, tmp_path)
    with pytest.raises(UserError, match="missing"):
        FactIndex.build(embedder, tmp_path / "missing")
    (tmp_path / "broken.jpg").write_bytes(b"")
    with pytest.raises(UserError, match=r"^.*broken\.jpg: cannot read"):
        FactIndex.build(embedder, tmp_path)


def test_a_growing_collection_encodes_only_what_is_new(
    embedder: ColourEmbedder, index: FactIndex, photos: Path, photo: Write
) -> None:
    embedder.photos_read.clear()
    new = photo("new.png", "green", "green", "green")
    index.add_photos(photos)
    assert embedder.photos_read == [new]
    assert names(index.search("green green green", k=1)) == ["new.png"]
    index.add_photos(photos)
    assert len(index) == 6


def test_a_model_that_has_changed_may_not_add_to_an_old_index(
    embedder: ColourEmbedder, index: FactIndex, photo: Write
) -> None:
    embedder.name = "colours-1b"
    with pytest.raises(UserError, match="model colours-1, not by colours-1b"):
        index.add_photos([photo("new.png", "red", "red", "red")])


def test_vectors_are_normalised_and_checked() -> None:
    index = FactIndex()
    index.add(["a", "b"], np.array([[[3, 0], [0, 2], [1, 1]], [[1, 1], [5, 0], [0, 9]]], dtype=np.float32))
    assert [hit.score for hit in index.search_vectors(np.array([[1, 0, 0, 1, 0, 0]]))[0]] == pytest.approx(
        [2, 0.5**0.5]
    )
    with pytest.raises(UserError, match="b is in the index already"):
        index.add(["c", "b"], np.ones((2, 3, 2)))
    with pytest.raises(UserError, match="c is in the index already"):
        index.add(["c", "c"], np.ones((2, 3, 2)))
    with pytest.raises(UserError, match="width 2, not 4"):
        index.add(["c"], np.ones((1, 3, 4)))
    with pytest.raises(UserError, match="vector of d is not finite"):
        index.add(["c", "d"], np.array([np.ones((3, 2)), np.full((3, 2), np.nan)]))
    with pytest.raises(ValueError, match=r"2 photos need vectors \[2, 3, D\], not \[1, 3, 2\]"):
        index.add(["c", "d"], np.ones((1, 3, 2)))
    assert len(index) == 2  # nothing was added by halves


def test_without_a_model_an_index_takes_vectors_only(photos: Path) -> None:
    index = FactIndex()
    with pytest.raises(UserError, match="cannot encode queries"):
        index.search("red")
    with pytest.raises(UserError, match="cannot encode photos"):
        index.add_photos(photos)


# Saving and loading


def test_a_loaded_index_answers_alike_and_can_be_extended(
    embedder: ColourEmbedder, index: FactIndex, tmp_path: Path, photo: Write
) -> None:
    index.save(tmp_path / "index")
    loaded = FactIndex.load(tmp_path / "index", embedder)
    queries = ["red", "? green", "?, ?, blue", "dark red, green, green"]
    assert loaded.search(queries) == index.search(queries)
    assert (loaded.paths, loaded.model, loaded.width) == (index.paths, "colours-1", 3)
    loaded.add_photos([photo("new.png", "green", "green", "green")])
    loaded.save(tmp_path / "index")
    assert len(FactIndex.load(tmp_path / "index")) == 6
    assert sorted(path.suffix for path in (tmp_path / "index").iterdir()) == [".db", ".f32", ".rows", ".text"]


def test_an_empty_index_survives(tmp_path: Path) -> None:
    FactIndex().save(tmp_path)
    loaded = FactIndex.load(tmp_path)
    loaded.add(["a"], np.ones((1, 3, 2)))
    assert len(loaded) == 1


@pytest.mark.skipif(os.name == "nt", reason="file names are text on this system")
def test_a_path_that_is_not_unicode_survives(tmp_path: Path) -> None:
    path = Path(os.fsdecode(b"caf\xe9.jpg"))
    index = FactIndex()
    index.add([path], np.ones((1, 3, 2)))
    index.save(tmp_path)
    assert FactIndex.load(tmp_path).paths == [path]


def test_another_model_is_refused_by_name(index: FactIndex, tmp_path: Path, other_embedder: ColourEmbedder) -> None:
    index.save(tmp_path)
    with pytest.raises(UserError, match="made by model colours-1, not by colours-2"):
        FactIndex.load(tmp_path, other_embedder)
    with pytest.raises(UserError, match="without a model"):
        FactIndex.load(tmp_path).search("red")


def test_opening_an_index_computes_the_fingerprint_once(index: FactIndex, tmp_path: Path) -> None:
    """A fingerprint reads every weight of a model."""

    class Counting(ColourEmbedder):
        calls = 0

        def fingerprint(self) -> str:
            self.calls += 1
            return super().fingerprint()

    index.save(tmp_path)
    reader, writer = Counting(), Counting()
    FactIndex.load(tmp_path, reader).search("red")
    assert reader.calls == 1
    with writing(tmp_path, writer) as opened:
        opened.search("red")
    assert writer.calls == 1


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no index in .*nowhere"):
        FactIndex.load(tmp_path / "nowhere")


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "index.db")) as database, database:
        database.execute(statement)


def flip_a_bit(folder: Path, name: str = "*.f32") -> None:
    (path,) = folder.glob(name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def replace_bytes(path: Path, old: bytes, new: bytes) -> None:
    raw = path.read_bytes()
    assert old in raw
    path.write_bytes(raw.replace(old, new))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "vectors cut": lambda folder: os.truncate(next(folder.glob("*.f32")), 40),
    "vectors altered": flip_a_bit,
    "vectors missing": lambda folder: next(folder.glob("*.f32")).unlink(),
    "database cut": lambda folder: os.truncate(folder / "index.db", 5000),
    "database no database": lambda folder: (folder / "index.db").write_bytes(b"\xff\xfe" * 4096),
    "database of something else": lambda folder: edit(folder, "DROP TABLE meta"),
    "a table lost": lambda folder: edit(folder, "DROP TABLE deleted"),
    "a field lost": lambda folder: edit(folder, "DELETE FROM meta WHERE key = 'model'"),
    "a row deleted": lambda folder: edit(folder, "INSERT INTO deleted VALUES (1)"),
    "a deleted row that is none": lambda folder: edit(folder, "INSERT INTO deleted VALUES (5)"),
    "a letter of a name": lambda folder: replace_bytes(next(folder.glob("names-*")), b"b.png", b"B.png"),
    "records altered": lambda folder: flip_a_bit(folder, "photos-*"),
    "records missing": lambda folder: next(folder.glob("photos-*")).unlink(),
    "names unknown": lambda folder: edit(folder, "DELETE FROM files WHERE role = 'names'"),
    "another width": lambda folder: edit(folder, "UPDATE files SET width = 12"),
    "other rows": lambda folder: edit(folder, "UPDATE files SET rows = 4, size = 144"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_noticed(index: FactIndex, tmp_path: Path, damage: Callable[[Path], object]) -> None:
    index.save(tmp_path / "index")
    damage(tmp_path / "index")
    for access in (FactIndex.load, check_index):
        with pytest.raises(UserError, match=r"the index in .* is damaged \(.*\): restore it from a copy, or"):
            access(tmp_path / "index")


def test_a_byte_that_changes_without_the_time_is_noticed_by_a_check(index: FactIndex, tmp_path: Path) -> None:
    """Searching trusts the time: it cannot read a million vectors for each query."""
    index.save(tmp_path)
    (path,) = tmp_path.glob("*.f32")
    os.utime(path, ns=(0, path.stat().st_mtime_ns - 10 * RACE_NS))
    edit(tmp_path, f"UPDATE files SET mtime_ns = {path.stat().st_mtime_ns}")
    edit(tmp_path, "DELETE FROM meta WHERE key = 'sha256'")
    check_index(tmp_path)
    stamp = path.stat()
    flip_a_bit(tmp_path)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    FactIndex.load(tmp_path)
    with pytest.raises(UserError, match=r"vectors-1\.f32 has changed since it was written"):
        check_index(tmp_path)


def test_other_formats_are_refused(index: FactIndex, tmp_path: Path) -> None:
    index.save(tmp_path / "later")
    edit(tmp_path / "later", "UPDATE meta SET value = 6 WHERE key = 'format'")
    edit(tmp_path / "later", "DROP TABLE deleted")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "index.json").write_text('{"format": 1}')
    for name, words in (
        ("later", "has format 6, and this version reads 2, 3 and 5"),
        ("earlier", "has format 1.*build it again"),
    ):
        with pytest.raises(UserError, match=words):
            FactIndex.load(tmp_path / name)
        with pytest.raises(UserError, match=words):
            index.save(tmp_path / name)


@pytest.mark.parametrize("step", ["append_rows", "_transaction", "_sweep"])
def test_an_interrupted_save_leaves_the_index_intact(
    index: FactIndex, tmp_path: Path, photo: Write, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    index.save(tmp_path / "index")
    index.add_photos([photo("new.png", "green", "green", "green")])

    def power_cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store if step == "append_rows" else store.Writer, step, power_cut)
        with pytest.raises(KeyboardInterrupt):
            index.save(tmp_path / "index")
    assert len(FactIndex.load(tmp_path / "index")) == (6 if step == "_sweep" else 5)
    index.save(tmp_path / "index")
    assert len(FactIndex.load(tmp_path / "index")) == 6
    assert len(list((tmp_path / "index").iterdir())) == 4


def test_a_file_instead_of_a_folder_is_refused(index: FactIndex, photos: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png is a file, and an index needs a folder"):
        index.save(photos / "a.png")


def test_other_files_in_the_folder_stay(index: FactIndex, photos: Path) -> None:
    before = set(photos.iterdir())
    index.save(photos)
    index.save(photos)
    written = {path.name for path in set(photos.iterdir()) - before}
    assert written == {"index.db", "vectors-4.f32", "photos-5.rows", "names-6.text"}


class Knowing(ColourEmbedder):
    """Knows facts, whose words are found in English."""

    known_facts = (Fact("red", "green", "blue"),)


def test_english_is_searched_as_an_answer_to_it(photos: Path) -> None:
    os.utime(photos / "a.png", (1.53e9, 1.53e9))  # in June 2018
    index = FactIndex.build(Knowing(), photos)
    assert index.search("the reds") == index.search("red, ?, ?")
    assert names(index.search("a red in 2018")) == ["a.png"]
    for words in ("red + blue", "red - ? ? blue", "a red in 2018", "two reds and a blue"):
        request = parse_request(words, Knowing.known_facts)
        expected = answer(index, request, 3)
        assert index.search(words, k=3) == index.search(request, k=3) == expected
        assert index.search(["blue", words], k=3) == [index.search("blue", k=3), expected]
    with pytest.raises(UserError, match="quote that is not closed"):
        index.search('a "red')


def test_a_photo_is_a_query(embedder: ColourEmbedder, photo: Callable[..., Path]) -> None:
    """All of its units are asked for, also next to words."""
    paths = [photo("1.png", "red", "green", "blue"), photo("2.png", "red", "red", "blue"), photo("3.png", "blue")]
    paths[2].unlink()
    index = FactIndex.build(embedder, paths[:2])
    assert [hit.path for hit in index.search(paths[1])] == [paths[1], paths[0]]
    assert [hit.score for hit in index.search(paths[1])] == pytest.approx([3, 2])
    assert index.search(["red green", paths[1]], k=1) == [index.search("red green", k=1), index.search(paths[1], k=1)]
    assert index.search([]) == []
    with pytest.raises(UserError, match="cannot read a photo"):
        index.search(paths[2])


def test_arguments_of_other_types_are_refused_in_a_sentence(
    embedder: ColourEmbedder, photo: Callable[..., Path]
) -> None:
    folder = photo("1.png", "red", "green", "blue").parent
    index = FactIndex.build(embedder, folder)
    for query in (5, None, [5], [None], ["red", 5]):
        with pytest.raises(UserError, match=r"a query is a text, a Query or a Fact, not (int|NoneType)"):
            index.search(query)
    for k, message in ((0, "at least 1, not 0"), (1.5, "a whole number, not 1.5"), (None, "a whole number, not None")):
        with pytest.raises(UserError, match=f"k must be {message}"):
            index.search("red", k)
    for where in ("2019", {"after": "2019"}):
        with pytest.raises(UserError, match=r"a filter is a Filter, .*, not (str|dict)"):
            index.search("red", where=where)
    for wrong in ("runs/mine", 5):
        for build in (FactIndex, lambda each: FactIndex.build(each, folder)):
            with pytest.raises(UserError, match=r"an embedder encodes texts, .*, not (str|int)"):
                build(wrong)
    for load in (
        FactIndex.load,
        FactEmbedder.from_pretrained,
        TextEmbedder.from_pretrained,
        Classifier.from_pretrained,
    ):
        with pytest.raises(UserError, match=r"an? (index|model|classifier) is a path, not 3"):
            load(3)
    for vectors in ("red", [["red"]], [[1.0], [1.0, 2.0]]):
        with pytest.raises(UserError, match="query vectors"):
            index.search_vectors(vectors)
    for call in (
        index.add_photos,
        index.sync,
        lambda paths, batch_size: FactIndex.build(embedder, paths, batch_size=batch_size),
    ):
        with pytest.raises(UserError, match="batch_size must be at least 1, not 0"):
            call(folder, batch_size=0)
    for paths in (5, [5]):
        with pytest.raises(UserError, match="photos are a folder, or a list of paths"):
            index.add_photos(paths)
