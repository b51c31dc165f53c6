"""Photos embedded shard by shard equal those of an index, whatever the source, and whatever is killed."""

from __future__ import annotations

import csv
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from media_files import write_dng, write_video
from PIL import Image
from pyarrow import parquet

from tripletcl.cli.app import app
from tripletcl.embedding import EmbedderSpec, FactEmbedder, build_embedder
from tripletcl.errors import UserError
from tripletcl.gallery import Embedded, embed_photos, import_parts
from tripletcl.gallery.embed import Job, ShardWorker
from tripletcl.gallery.inputs import expand, list_shards
from tripletcl.gallery.places import Place
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import FactIndex, writing
from tripletcl.retrieval.photos import unit_rows

CLOSE = 2e-3
"""The most that rounding to float16 changes."""


def read_parts(folder: Path) -> dict[str, dict]:
    """The rows of all parts by the photo's name; each is there once."""
    rows = [row for part in sorted(folder.glob("part-*.parquet")) for row in parquet.read_table(part).to_pylist()]
    by_name = {Path(row["path"]).name: row for row in rows}
    assert len(by_name) == len(rows)
    return by_name


@pytest.fixture(scope="session")
def index(model: Path, photos: Path) -> FactIndex:
    return FactIndex.build(FactEmbedder.from_pretrained(model), photos)


@pytest.fixture(scope="session")
def parts(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of eight photos; not to be changed."""
    out = tmp_path_factory.mktemp("parts")
    result = embed_photos(model, photos, out, shard=8, stage=2)
    assert result == Embedded(str(out), 5, 5, 40, 3)
    return out


def assert_like(rows: dict[str, dict], index: FactIndex) -> None:
    """Rows equal those of an index of the same photos."""
    vectors = {path.name: index.rows([row])[0] for row, path in enumerate(index.paths)}
    assert {name for name, row in rows.items() if row["broken"] is None} == vectors.keys()
    for name, vector in vectors.items():
        assert np.abs(np.array(rows[name]["vector"], np.float32) - vector).max() <= CLOSE
    assert {name for name, row in rows.items() if row["broken"]} == {path.name for path, _ in index.skipped}


def assert_close(rows: dict[str, dict], expected: dict[str, dict]) -> None:
    """Rows equal others, which were computed in other batches."""
    assert rows.keys() == expected.keys()
    for name, row in rows.items():
        assert (row["size"], row["broken"]) == (expected[name]["size"], expected[name]["broken"])
        if row["broken"] is None:
            assert row["vector"] == pytest.approx(expected[name]["vector"], abs=CLOSE)


def test_parts_hold_every_photo_once_as_an_index_does(parts: Path, photos: Path, index: FactIndex) -> None:
    rows = read_parts(parts)
    assert len(rows) == 40
    assert_like(rows, index)
    assert {Path(path).name: reason for path, reason in index.skipped} == {
        name: row["broken"] for name, row in rows.items() if row["broken"]
    }
    assert rows["07.png"]["vector"] is None
    stat = (photos / "b" / "21.png").stat()
    assert (rows["21.png"]["size"], rows["21.png"]["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns)
    assert parquet.read_schema(parts / "part-00004-of-00005.parquet").field("vector").type.value_type == pa.float16()
    about = json.loads((parts / "about.json").read_text())
    assert (about["model"], about["stage"], about["shards"]) == (index.model, 2, 5)
    assert not list(parts.glob(".*"))


def test_a_call_that_was_stopped_goes_on(model: Path, photos: Path, parts: Path, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.label == "shards" and progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(stop):
        embed_photos(model, photos, tmp_path, shard=8)
    done = {part: part.stat().st_mtime_ns for part in tmp_path.glob("part-*")}
    assert len(done) == 2
    cut, kept = sorted(done)
    cut.write_bytes(cut.read_bytes()[:-50])
    (tmp_path / ".part-00003-of-00005.parquet.0123.tmp").write_bytes(b"of a killed worker")
    assert embed_photos(model, photos, tmp_path, shard=8) == Embedded(str(tmp_path), 5, 4, 40, 3)
    assert kept.stat().st_mtime_ns == done[kept]
    assert read_parts(tmp_path) == read_parts(parts)
    assert not list(tmp_path.glob(".*"))
    assert embed_photos(model, photos, tmp_path, shard=8).computed == 0


def test_another_model_or_other_photos_are_refused(
    model: Path, photos: Path, parts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="of 5 shards, not 4"):
        embed_photos(model, photos, parts, shard=10)
    with pytest.raises(UserError, match="of other photos"):
        embed_photos(model, photos / "b", parts, shard=5)
    with pytest.raises(UserError, match="in the layout parts"):
        embed_photos(model, photos, parts, shard=8, layout="clip-retrieval")
    other = tmp_path / "other"
    embedder = FactEmbedder.from_pretrained(model)
    next(iter(embedder.image.heads.parameters())).data.add_(1)
    embedder.saved = None
    embedder.save_pretrained(other)
    with pytest.raises(UserError, match=f"of model .*, not {embedder.fingerprint()}"):
        embed_photos(other, photos, parts, shard=8)
    job = Job(str(other), str(photos), str(parts), json.loads((parts / "about.json").read_text()))
    with pytest.raises(UserError, match="a worker sees model"):
        ShardWorker(job)
    with pytest.raises(UserError, match=r"a worker has tripletcl .*, and the photos are embedded by 0\.1"):
        ShardWorker(replace(job, version="0.1"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no photo in .*empty"):
        embed_photos(model, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(UserError, match="one process"):
        embed_photos(model, photos, tmp_path / "out", workers=2)


def test_lists_and_archives_give_the_vectors_of_the_folder(
    model: Path, photos: Path, parts: Path, tmp_path: Path
) -> None:
    files = sorted(path for path in photos.rglob("*.png") if not path.name.startswith("."))
    expected = read_parts(parts)
    parquet.write_table(pa.table({"id": range(40), "path": [str(file) for file in files]}), tmp_path / "list.parquet")
    with (tmp_path / "list.csv").open("w") as file:
        csv.writer(file).writerows([["image_path"], *([os.path.relpath(each, tmp_path)] for each in files)])
    for name in ("list.parquet", "list.csv"):
        embed_photos(model, tmp_path / name, tmp_path / "out" / name, shard=8)
        assert read_parts(tmp_path / "out" / name) == expected
    for number in range(2):
        with tarfile.open(tmp_path / f"{number:03d}.tar", "w") as archive:
            for each in files[20 * number : 20 * number + 20]:
                if each.exists():
                    archive.add(each, each.name)
    out = tmp_path / "out" / "tar"
    result = embed_photos(model, f"{tmp_path}/{{000..001}}.tar", out)
    assert (result.shards, result.photos, result.broken) == (2, 39, 2)
    rows = read_parts(out)
    assert rows["05.png"]["path"] == f"{tmp_path}/000.tar/05.png"
    assert_close(rows, {name: row for name, row in expected.items() if name != "31.png"})
    assert list_shards(str(tmp_path), 5, "webdataset").names == [[f"{tmp_path}/00{n}.tar"] for n in (0, 1)]


def test_raw_photos_and_videos_are_embedded_as_in_an_index(model: Path, tmp_path: Path) -> None:
    """In a folder, at an address, and in an archive."""
    pytest.importorskip("rawpy")
    fsspec = pytest.importorskip("fsspec")
    folder = tmp_path / "photos"
    folder.mkdir()
    scene = Image.radial_gradient("L").convert("RGB").resize((96, 64))
    files = [write_dng(folder / "a.dng", scene, 6), write_video(folder / "b.mp4")]
    with tarfile.open(tmp_path / "000.tar", "w") as archive:
        for each in files:
            archive.add(each, each.name)
    memory = fsspec.filesystem("memory")
    memory.pipe({f"/media/{each.name}": each.read_bytes() for each in files})
    embedder = FactEmbedder.from_pretrained(model)
    expected = unit_rows(embedder.encode_images(files), files)
    for number, source in enumerate((str(folder), str(tmp_path / "000.tar"), "memory://media")):
        embed_photos(model, source, tmp_path / f"out{number}")
        rows = read_parts(tmp_path / f"out{number}")
        assert [rows[name]["broken"] for name in ("a.dng", "b.mp4")] == [None, None]
        vectors = np.array([rows[name]["vector"] for name in ("a.dng", "b.mp4")], np.float32)
        np.testing.assert_allclose(vectors, expected, atol=CLOSE)


def test_parts_of_a_model_with_a_base_make_its_index(photos: Path, tmp_path: Path) -> None:
    """As of `tripletcl photos`, whose vectors are wider than what is taught."""
    embedder = build_embedder(EmbedderSpec(base="classes", image_size=32, freeze_until="all"), 0)
    embedder.save_pretrained(tmp_path / "model", [])
    embed_photos(tmp_path / "model", photos / "a", tmp_path / "parts")
    with writing(tmp_path / "index", embedder) as imported:
        changes = import_parts(imported, tmp_path / "parts")
    built = FactIndex.build(embedder, photos / "a")
    assert sorted(changes.added) == sorted(built.paths)
    expected = {hit.path: hit.score for hit in built.search("dog", k=20)}
    found = {hit.path: hit.score for hit in imported.search("dog", k=20)}
    assert found == pytest.approx(expected, abs=CLOSE)


def test_an_archive_that_was_cut_keeps_what_can_be_read(model: Path, photos: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for number in (1, 2, 3):
            archive.add(photos / "a" / f"{number:02d}.png", f"{number:02d}.png")
    with tarfile.open(tmp_path / "a.tar") as archive:
        last = archive.getmembers()[-1]
    with (tmp_path / "a.tar").open("r+b") as file:
        file.truncate(last.offset_data + 10)
    embed_photos(model, tmp_path / "a.tar", tmp_path / "out")
    rows = read_parts(tmp_path / "out")
    assert {name: row["broken"] for name, row in rows.items()} == {
        "01.png": None, "02.png": None, "03.png": "the archive is cut short", "a.tar": "the archive is cut short",
    }  # fmt: skip
    (tmp_path / "b.tar").write_bytes(b"no archive" * 100)
    embed_photos(model, tmp_path / "b.tar", tmp_path / "other")
    assert "damaged" in read_parts(tmp_path / "other")["b.tar"]["broken"]


def test_addresses_give_the_vectors_of_the_folder(model: Path, photos: Path, parts: Path, tmp_path: Path) -> None:
    """Any file system of fsspec: here one in memory."""
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in photos.rglob("*.png"):
        if path.exists():
            memory.pipe(f"/bucket/photos/{path.relative_to(photos)}", path.read_bytes())
    result = embed_photos(model, "memory://bucket/photos", "memory://bucket/parts", shard=8)
    assert (result.shards, result.computed, result.broken) == (5, 5, 2)  # a dead link is no file there
    memory.get("/bucket/parts/", f"{tmp_path}/", recursive=True)
    rows, expected = read_parts(tmp_path), read_parts(parts)
    assert rows["05.png"]["path"] == "memory://bucket/photos/a/05.png"
    assert {name: row["vector"] for name, row in rows.items()} == {
        name: row["vector"] for name, row in expected.items() if name in rows
    }
    assert rows.keys() == expected.keys() - {"31.png"}
    assert embed_photos(model, "memory://bucket/photos", "memory://bucket/parts", shard=8).computed == 0
    assert not [name for name in memory.find("/bucket/parts") if name.endswith(".tmp")]


def test_addresses_that_cannot_be_read_are_named(model: Path, photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing://\.\.\. cannot be read"):
        Place.of("nothing://bucket/photos")
    place = Place.of("s3://KEY:SECRET@bucket/photos?endpoint_override=localhost:1&scheme=http")
    assert str(place / "a.jpg") == "s3://bucket/photos/a.jpg"
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="out"):
        embed_photos(model, photos, tmp_path / "out")


def test_ranges_of_archives() -> None:
    assert expand("s3://b/{008..010}.tar") == ["s3://b/008.tar", "s3://b/009.tar", "s3://b/010.tar"]
    assert expand("{0..1}/{0..1}.tar") == ["0/0.tar", "0/1.tar", "1/0.tar", "1/1.tar"]
    assert expand("a.tar") == ["a.tar"]
    with pytest.raises(UserError, match="names no archive"):
        expand("{3..1}.tar")


def test_lists_without_paths_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("name,caption\na.jpg,a\n")
    with pytest.raises(UserError, match="has no column 'path'; it has name, caption"):
        list_shards(str(file), 10)
    assert list_shards(str(file), 10, column="name").names == [[str(tmp_path / "a.jpg")]]
    with pytest.raises(UserError, match="has no column 'photo'"):
        list_shards(str(file), 10, column="photo")
    file.write_text("path\n\n" + '""\n')
    with pytest.raises(UserError, match="has no path in row"):
        list_shards(str(file), 10)
    broken = tmp_path / "list.parquet"
    broken.write_bytes(b"no Parquet")
    with pytest.raises(UserError, match=r"list\.parquet is no Parquet"):
        list_shards(str(broken), 10)
    with pytest.raises(UserError, match=r"missing\.csv"):
        list_shards(str(tmp_path / "missing.csv"), 10)


def test_clip_retrieval_layout_has_the_same_rows(model: Path, photos: Path, parts: Path, tmp_path: Path) -> None:
    assert embed_photos(model, photos, tmp_path, shard=4, layout="clip-retrieval").computed == 10
    arrays, metadata = (sorted((tmp_path / kind).iterdir()) for kind in ("img_emb", "metadata"))
    assert [path.name for path in arrays] == [f"img_emb_{n}.npy" for n in range(10)]
    assert [path.name for path in metadata] == [f"metadata_{n}.parquet" for n in range(10)]
    expected, seen = read_parts(parts), []
    for array, table in zip(arrays, metadata, strict=True):
        vectors, paths = np.load(array), parquet.read_table(table).column("image_path").to_pylist()
        assert vectors.dtype == np.float16
        for vector, path in zip(vectors, paths, strict=True):
            assert vector.tolist() == expected[Path(path).name]["vector"]
            seen.append(Path(path).name)
    assert sorted(seen) == sorted(name for name, row in expected.items() if not row["broken"])
    broken = [row for path in (tmp_path / "broken").iterdir() for row in parquet.read_table(path).to_pylist()]
    assert {Path(row["path"]).name for row in broken} == {"07.png", "20.png", "31.png"}
    (tmp_path / "img_emb" / "img_emb_3.npy").unlink()
    assert embed_photos(model, photos, tmp_path, shard=4, layout="clip-retrieval").computed == 1
    with pytest.raises(UserError, match="in the layout clip-retrieval"):
        import_parts(FactIndex(FactEmbedder.from_pretrained(model)), tmp_path)


def test_an_index_of_parts_answers_as_one_of_the_photos(
    model: Path, photos: Path, parts: Path, index: FactIndex, tmp_path: Path
) -> None:
    embedder = FactEmbedder.from_pretrained(model)
    with writing(tmp_path / "index", embedder, stage=2, keep_features=False) as imported:
        changes = import_parts(imported, parts)
        assert (len(changes.added), len(changes.changed), len(changes.skipped)) == (37, 0, 3)
    loaded = FactIndex.load(tmp_path / "index", embedder)
    assert loaded.skipped == index.skipped
    assert loaded.stage == 2
    for query in ("red", "? lying", "blue standing floor"):
        ours, theirs = loaded.search(query, 5), index.search(query, 5)
        assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=CLOSE)
    with writing(tmp_path / "index", embedder) as again:
        assert not import_parts(again, parts).added
        assert not again.sync(photos).changed


@pytest.mark.parametrize("store", ["folder", "table.lance"])
def test_parts_lose_nothing_in_float16(model: Path, parts: Path, store: str, tmp_path: Path) -> None:
    if store != "folder":
        pytest.importorskip("lance", reason='pylance is not installed: pip install "tripletcl[cluster]"')
    with writing(tmp_path / store, FactEmbedder.from_pretrained(model), precision="float16") as index:
        assert len(import_parts(index, parts).added) == 37
    stored, exact = FactIndex.load(tmp_path / store), FactIndex(FactEmbedder.from_pretrained(model))
    import_parts(exact, parts)
    assert stored.photos == exact.photos
    assert np.abs(stored.rows() - exact.rows()).max() <= 2**-11
    assert [path for path, _ in stored.skipped] == [path for path, _ in exact.skipped]


def test_parts_that_are_missing_or_of_another_model_are_not_imported(
    model: Path, photos: Path, parts: Path, tmp_path: Path
) -> None:
    index = FactIndex(FactEmbedder.from_pretrained(model))
    with pytest.raises(UserError, match="holds no parts"):
        import_parts(index, photos)
    copy = tmp_path / "parts"
    copy.mkdir()
    for file in parts.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "part-00003-of-00005.parquet").unlink()
    with pytest.raises(UserError, match=r"1 of 5 parts are missing, .*part-00003"):
        import_parts(index, copy)
    about = json.loads((parts / "about.json").read_text())
    (copy / "about.json").write_text(json.dumps(about | {"model": "other"}))
    with pytest.raises(UserError, match=r"about\.json is damaged"):
        import_parts(index, copy)
    (copy / "about.json").write_text(json.dumps({k: v for k, v in about.items() if k != "sha256"} | {"model": "other"}))
    with pytest.raises(UserError, match="are of model other, and the index is of"):
        import_parts(index, copy)


def test_a_model_without_texts_embeds_photos_and_refuses_texts(model: Path, photos: Path) -> None:
    whole, images = FactEmbedder.from_pretrained(model), FactEmbedder.from_pretrained(model, text=False)
    some = [photos / "a" / "01.png", photos / "b" / "22.png"]
    assert (images.encode_images(some) == whole.encode_images(some)).all()
    assert images.fingerprint() == whole.fingerprint()
    assert images.trunk_fingerprint() == whole.trunk_fingerprint()
    with pytest.raises(UserError, match="loaded for photos only"):
        images.encode_units(["red"])


def test_the_commands(
    model: Path, photos: Path, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> str:
        with pytest.raises(SystemExit, match="0"):
            app([*map(str, words)])
        return capsys.readouterr().out

    out, index = tmp_path / "out", tmp_path / "index"
    command = ["embed", model, photos, "--out", out, "--shard", 8]
    assert run(*command) == f"40 photos in 5 parts in {out}; 3 cannot be read, each with its reason\n"
    expected = {"out": str(out), "shards": 5, "computed": 0, "photos": 40, "broken": 3}
    assert json.loads(run(*command, "--json")) == expected
    assert read_parts(out) == read_parts(parts)
    imported = json.loads(run("index", "import", model, out, "--out", index, "--json"))
    assert (imported["photos"], imported["added"], len(imported["skipped"])) == (37, 37, 3)
    assert "37 photos" in run("index", "import", model, out, "--out", index)
