"""An index is synchronised with a folder of new, changed, missing and broken photos, in memory and on disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_embedder import ColourEmbedder

from tripletcl.data.media import HEIF, INSTALL_MEDIA, RAW, VIDEO
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import Changes, FactIndex, table, writing

Write = Callable[..., Path]
Opened = Callable[[], Iterator[FactIndex]]


@pytest.fixture
def photos(photo: Write) -> Path:
    for number, colours in enumerate((("red", "green", "blue"), ("red", "blue", "blue"), ("blue", "green", "red"))):
        photo(f"{number}.png", *colours)
    return photo("trip/3.png", "dark red", "green", "green").parents[1]


@pytest.fixture(params=["in memory", "on disk"])
def opened(request: pytest.FixtureRequest, embedder: ColourEmbedder, tmp_path: Path) -> Opened:
    """Opens the same index each time."""
    index = FactIndex(embedder)

    @contextmanager
    def in_memory() -> Iterator[FactIndex]:
        yield index

    return in_memory if request.param == "in memory" else lambda: writing(tmp_path / "index", embedder)


def touch(path: Path) -> None:
    """Change the time of modification, whatever the clock's resolution."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 10**9))


def vectors(index: FactIndex) -> dict[Path, list[float]]:
    return {index.paths[row]: index.rows([row])[0].tolist() for row in np.flatnonzero(~index.deleted)}


def test_only_new_and_changed_photos_are_encoded_and_missing_ones_removed(
    opened: Opened, embedder: ColourEmbedder, photos: Path, photo: Write
) -> None:
    with opened() as index:
        first = index.sync(photos)
    assert sorted(first.added) == sorted(embedder.photos_read) == sorted(photos.rglob("*.png"))
    embedder.photos_read.clear()
    with opened() as index:
        assert index.sync(photos) == Changes()
    assert embedder.photos_read == []

    new = photo("trip/new.png", "green", "green", "green")
    changed = photo("1.png", "green", "blue", "blue")
    touch(changed)
    (photos / "2.png").unlink()
    with opened() as index:
        assert index.sync(photos) == Changes([new], [changed], [photos / "2.png"], [])
        assert index.search("green, blue", k=1)[0].path == changed
        assert index.search("blue green red", k=1)[0].score < 3
    assert sorted(embedder.photos_read) == sorted([new, changed])
    with opened() as index:
        assert vectors(index) == vectors(FactIndex.build(ColourEmbedder(), photos))


def test_photos_that_lacked_a_package_are_read_once_it_is_installed(
    opened: Opened, embedder: ColourEmbedder, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEIC that is named .jpg, say: its file has not changed."""
    late, decode = photos / "1.png", embedder.decode
    wanting = UserError(f"{late}: an image in HEIF; {INSTALL_MEDIA}")

    def without(path: Path) -> np.ndarray:
        if path == late:
            raise wanting
        return decode(path)

    with monkeypatch.context() as patch, opened() as index:
        patch.setattr(embedder, "decode", without)
        patch.setattr(table, "media_suffixes", frozenset)
        assert index.sync(photos).skipped == [(late, f"an image in HEIF; {INSTALL_MEDIA}")]
        assert index.agrees_with(photos)
    monkeypatch.setattr(table, "media_suffixes", lambda: HEIF | RAW | VIDEO)
    with opened() as index:
        assert not index.agrees_with(photos)
        assert index.sync(photos) == Changes(added=[late])
        assert index.agrees_with(photos)


def test_a_photo_is_the_same_by_path_size_and_time(opened: Opened, embedder: ColourEmbedder, photos: Path) -> None:
    with opened() as index:
        index.sync(photos)
    embedder.photos_read.clear()
    touch(photos / "0.png")
    (photos / "1.png").rename(photos / "renamed.png")
    with opened() as index:
        changes = index.sync(photos)
    assert changes == Changes([photos / "renamed.png"], [photos / "0.png"], [photos / "1.png"], [])
    assert sorted(embedder.photos_read) == [photos / "0.png", photos / "renamed.png"]


def test_broken_photos_are_listed_each_time_and_tried_again_when_they_change(
    opened: Opened, embedder: ColourEmbedder, photos: Path, photo: Write
) -> None:
    tried: list[Path] = []
    decode = embedder.decode
    embedder.decode = lambda path: (tried.append(path), decode(path))[1]  # type: ignore[method-assign]
    broken = photos / "broken.jpg"
    broken.write_bytes(b"no image at all")
    for attempt in range(2):
        with opened() as index:
            ((path, reason),) = index.sync(photos).skipped
            assert index.skipped == [(path, reason)]
        assert path == broken
        assert reason.startswith("cannot read")
        assert tried.count(broken) == 1, attempt
    broken.write_bytes((photos / "0.png").read_bytes())
    with opened() as index:
        assert index.sync(photos) == Changes(added=[broken])
        assert index.skipped == []
    broken.write_bytes(b"broken again")
    (photos / "0.png").unlink()
    with opened() as index:
        changes = index.sync(photos)
        assert ([path for path, _ in changes.skipped], changes.removed) == ([broken], [photos / "0.png"])
        assert len(index) == 3
    broken.unlink()
    with opened() as index:
        assert index.sync(photos) == Changes()
        assert index.skipped == []


def test_photos_of_other_folders_stay(opened: Opened, embedder: ColourEmbedder, photos: Path) -> None:
    with opened() as index:
        index.sync(photos)
    (photos / "0.png").unlink()
    with opened() as index:
        assert index.sync(photos / "trip") == Changes()
        assert len(index) == 4


def test_an_empty_or_missing_folder_empties_no_index(opened: Opened, photos: Path, tmp_path: Path) -> None:
    with opened() as index:
        index.sync(photos)
    photos.rename(tmp_path / "unplugged")
    for words in ("does not exist", "no photo in"):
        with pytest.raises(UserError, match=words), opened() as index:
            index.sync(photos)
        photos.mkdir(exist_ok=True)
    with opened() as index:
        assert len(index) == 4


def test_photos_of_a_subfolder_that_cannot_be_read_stay(
    opened: Opened, photos: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with opened() as index:
        index.sync(photos)
    shut, scandir, stat = photos / "trip", os.scandir, os.stat

    def refuse(path: Any, real: Callable[..., Any], *rest: Any, **options: Any) -> Any:
        if not isinstance(path, int) and Path(path).is_relative_to(shut) and (real is scandir or Path(path) != shut):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest, **options)

    with monkeypatch.context() as patch, opened() as index:
        patch.setattr(os, "scandir", lambda path=".": refuse(path, scandir))
        patch.setattr(os, "stat", lambda path, *rest, **options: refuse(path, stat, *rest, **options))
        assert index.sync(photos) == Changes()
        assert len(index) == 4
    assert f"{shut} cannot be read and is passed over: Permission denied" in caplog.text
    with opened() as index:
        assert index.sync(photos) == Changes()


def test_a_photo_added_by_its_path_stays_whatever_its_suffix(opened: Opened, photos: Path) -> None:
    odd = photos / "odd.picture"
    odd.write_bytes((photos / "0.png").read_bytes())
    with opened() as index:
        index.sync(photos)
        assert index.add_photos([odd]).added == [odd]
    with opened() as index:
        assert index.sync(photos) == Changes()
    touch(odd)
    with opened() as index:
        assert index.sync(photos) == Changes(changed=[odd])
    odd.unlink()
    with opened() as index:
        assert index.sync(photos) == Changes(removed=[odd])


def test_photos_of_a_moved_folder_are_named(opened: Opened, photos: Path, tmp_path: Path) -> None:
    with opened() as index:
        index.sync(photos)
    photos.rename(tmp_path / "moved")
    with opened() as index:
        index.sync(tmp_path / "moved")
        assert sorted(index.missing()) == [*(photos / f"{n}.png" for n in range(3)), photos / "trip" / "3.png"]
        assert index.missing(tmp_path / "moved") == index.missing()
        assert index.missing(tmp_path) == []
    with pytest.raises(UserError, match=r"holds 4 photos of it; .*`tripletcl index remove RUN"), opened() as index:
        index.sync(photos)
    with opened() as index:
        index.remove([photos])
        assert index.missing() == []
        assert len(index) == 4


def test_photos_are_added_encoded_again_and_removed_by_path(
    opened: Opened, embedder: ColourEmbedder, photos: Path
) -> None:
    some = [photos / "0.png", photos / "trip" / "3.png"]
    with opened() as index:
        assert index.add_photos(some).added == some
    with opened() as index:
        assert index.add_photos(photos).added == [photos / "1.png", photos / "2.png"]
    embedder.photos_read.clear()
    with opened() as index:
        assert index.update([some[0]]).changed == [some[0]]
        assert embedder.photos_read == [some[0]]
        assert len(index) == 4
        assert index.remove([some[0], photos / "trip"]) == some
        assert sorted(index.photos) == [photos / "1.png", photos / "2.png"]
    for change in (FactIndex.remove, FactIndex.update):
        with pytest.raises(UserError, match=r"3\.png is not in the index, nor any photo below it"), opened() as index:
            change(index, [photos / "1.png", some[1]])
    with opened() as index:
        assert len(index) == 2


def test_removed_rows_are_dropped_when_they_are_a_tenth(opened: Opened, photo: Write) -> None:
    for number in range(20):
        folder = photo(f"{number:02}.png", *(("red", "green", "blue") * 2)[number % 3 :][:3]).parent
    with opened() as index:
        index.sync(folder)
    (folder / "00.png").unlink()
    (folder / "01.png").unlink()
    with opened() as index:
        index.sync(folder)
        assert (len(index), len(index.paths), np.flatnonzero(index.deleted).tolist()) == (18, 20, [0, 1])
        assert index.paths[0] == Path()
        assert all(hit.path.name > "01.png" for hit in index.search("red", k=20))
    (folder / "19.png").unlink()
    with opened() as index:
        index.sync(folder)
        assert (len(index), len(index.paths), index.deleted.any()) == (17, 17, False)
        fresh = FactIndex.build(ColourEmbedder(), folder)
        assert index.photos == index.paths == fresh.paths
        assert np.array_equal(index.rows(), fresh.rows())
        assert index.search(["red", "? blue", "green, ?, red"]) == fresh.search(["red", "? blue", "green, ?, red"])


def test_progress_counts_encoded_photos(opened: Opened, photos: Path) -> None:
    reports: list[Progress] = []
    for _ in range(2):
        with opened() as index, listening(reports.append):
            index.sync(photos, batch_size=3)
    assert reports == [Progress("embedding", 3, 4), Progress("embedding", 4, 4)]
