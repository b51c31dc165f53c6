"""Photos that were found, as lists, tables, copies, links and archives."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

import pytest

from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import Hit, PhotoDetails
from tripletcl.retrieval.export import Export, write_into

Found = tuple[list[Hit], list[PhotoDetails]]


@pytest.fixture
def found(tmp_path: Path) -> Found:
    """Three photos, two of one name; one with bytes in its name that are no Unicode; and one whose file is missing."""
    paths = [tmp_path / "a" / "IMG_1.jpg", tmp_path / "b" / "img_1.JPG", tmp_path / os.fsdecode(b"caf\xe9.jpg")]
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"photo {number}")
    paths.append(tmp_path / "missing.jpg")
    details = [PhotoDetails(path, datetime(2019, 6, 30, 12), camera="Canon, 80D", width=30) for path in paths]
    return [Hit(path, 3.0 - number) for number, path in enumerate(paths)], details


def test_lists_name_every_photo(found: Found, tmp_path: Path) -> None:
    hits, details = found
    for name in ("list.txt", "list.csv", "LIST.JSON"):
        Export.parse(str(tmp_path / name)).write(hits, details)
    assert (tmp_path / "list.txt").read_bytes().splitlines() == [os.fsencode(hit.path) for hit in hits]
    with (tmp_path / "list.csv").open(newline="", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(hit.path) for hit in hits]
    assert (rows[0]["date"], rows[0]["camera"], rows[0]["height"]) == ("2019-06-30", "Canon, 80D", "")
    entries = json.loads((tmp_path / "LIST.JSON").read_text())
    assert [(each["path"], each["score"]) for each in entries] == [(str(hit.path), hit.score) for hit in hits]
    assert entries[0]["taken"] == "2019-06-30T12:00:00"


@pytest.mark.parametrize("kind", ["folder", "links"])
def test_a_folder_gets_every_photo_and_loses_none(found: Found, tmp_path: Path, kind: str) -> None:
    hits, details = found
    place = tmp_path / "out" / "found"
    place.mkdir(parents=True)
    (place / "IMG_1.jpg").write_text("of somebody else")
    for _ in range(2):
        Export.parse(f"{kind}:{place}").write(hits, details)
    assert (place / "IMG_1.jpg").read_text() == "of somebody else"
    contents = {path.name: path.read_text() for path in place.iterdir()}
    assert contents["IMG_1 (2).jpg"] == contents["IMG_1 (4).jpg"] == "photo 0"
    assert contents["img_1 (3).JPG"] == contents["img_1 (5).JPG"] == "photo 1"
    assert len(contents) == 7
    assert all(path.is_symlink() == (kind == "links") for path in place.iterdir() if path.name != "IMG_1.jpg")


@pytest.mark.parametrize("links", [False, True])
def test_a_file_that_appears_while_photos_are_written_is_not_replaced(
    found: Found, tmp_path: Path, links: bool
) -> None:
    photos, place, seen = [hit.path for hit in found[0][:3]], tmp_path / "out", []

    def appear(progress: Progress) -> None:
        seen.append(progress)
        (place / "img_1 (2).JPG").write_text("of somebody else")

    with listening(appear), pytest.raises(UserError, match=r"img_1 \(2\)\.JPG"):
        write_into(place, photos, links)
    assert seen == [Progress("copying photos", 1, 3)]
    assert (place / "img_1 (2).JPG").read_text() == "of somebody else"
    assert (place / "IMG_1.jpg").read_text() == "photo 0"


def test_a_copy_that_fails_leaves_no_part(found: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: BinaryIO) -> None:
        target.write(b"pho")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(UserError, match="disk is full"):
        write_into(tmp_path / "out", [found[0][0].path])
    assert list((tmp_path / "out").iterdir()) == []


def test_a_copy_keeps_its_times(found: Found, tmp_path: Path) -> None:
    os.utime(found[0][0].path, (10**9, 10**9))
    [copy] = write_into(tmp_path / "out", [found[0][0].path])
    assert copy.stat().st_mtime == 10**9


def test_an_archive_holds_every_photo(found: Found, tmp_path: Path) -> None:
    Export.parse(f"zip:{tmp_path / 'found.zip'}").write(*found)
    with zipfile.ZipFile(tmp_path / "found.zip") as archive:
        assert archive.testzip() is None
        assert [archive.read(name).decode() for name in archive.namelist()] == ["photo 0", "photo 1", "photo 2"]
        assert archive.namelist()[:2] == ["IMG_1.jpg", "img_1 (2).JPG"]


@pytest.mark.parametrize("text", ["found", "found.pdf", "folder:", "tar:found.tar", ""])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"is no place to export to; give a file that ends in \.txt, \.csv or \.json"):
        Export.parse(text)


def test_a_place_that_cannot_be_written_is_named(found: Found, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for text in (f"folder:{tmp_path / 'file'}", f"zip:{tmp_path / 'file' / 'a.zip'}", str(tmp_path / "file" / "a.csv")):
        with pytest.raises(UserError, match="file"):
            Export.parse(text).write(*found)
