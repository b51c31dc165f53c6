"""The cache holds what decoding gives, decodes no more than it must, and survives all that can happen to a file."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletcl.data import cache as cache_module
from tripletcl.data.cache import ImageCache
from tripletcl.data.images import Region, decode_image, decode_parts, photo_digest
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening

SIZE = 16


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def age(*paths: Path, seconds: float = 100) -> None:
    """Make the files old: the time stamp of a file that was just written is not trusted."""
    for path in paths:
        stamp = path.stat().st_mtime_ns - int(seconds * 1e9)
        os.utime(path, ns=(stamp, stamp))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    paths = [photo(tmp_path / "photos" / f"{i}.png", i) for i in range(12)]
    age(*paths)
    return paths


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images decoded since the test began."""
    names: list[str] = []

    def counting(source: bytes, size: int, boxes: list[None], name: str) -> list[np.ndarray | str]:
        names.extend([Path(name).name] * len(boxes))
        return decode_parts(source, size, boxes, name)

    monkeypatch.setattr(cache_module, "decode_parts", counting)
    return names


def hold(cache: ImageCache, paths: list[Path]) -> None:
    """The slow twin: every image decoded by itself."""
    expected = np.stack([decode_image(path, SIZE) for path in paths])
    assert len(cache) == len(paths)
    assert np.array_equal(cache[np.arange(len(paths))], expected)


def only(folder: Path, pattern: str) -> Path:
    (file,) = folder.glob(pattern)
    return file


def test_rows_are_the_decoded_images(photos: list[Path], folder: Path) -> None:
    heard: list[Progress] = []
    with listening(heard.append):
        cache = ImageCache.open(photos, SIZE, folder)
    hold(cache, photos)
    assert heard == [Progress("decoding images", done, 12) for done in range(1, 13)]
    assert cache.size == SIZE
    batch = cache[[3, 1, 3]]
    assert type(batch) is np.ndarray
    assert batch.flags.writeable
    assert np.array_equal(batch[0], batch[2])
    assert np.array_equal(batch[1], decode_image(photos[1], SIZE))
    with pytest.raises(IndexError):
        cache[[12]]


def test_second_opening_decodes_and_reads_nothing(
    photos: list[Path], folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ImageCache.open(photos, SIZE, folder)
    assert sorted(decoded) == sorted(path.name for path in photos)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    monkeypatch.setattr(cache_module, "_read", None)
    second = ImageCache.open([str(path) for path in photos], SIZE, folder)
    hold(second, photos)
    assert len(decoded) == 12
    assert first.fingerprint == second.fingerprint
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_fingerprint_is_of_content_order_and_size(photos: list[Path], tmp_path: Path) -> None:
    def fingerprint(paths: list[Path], size: int = SIZE) -> str:
        return ImageCache.open(paths, size, tmp_path / "any").fingerprint

    moved = tmp_path / "moved"
    shutil.copytree(photos[0].parent, moved)
    assert fingerprint(photos) == fingerprint([moved / path.name for path in photos])
    assert len({fingerprint(photos), fingerprint(photos[::-1]), fingerprint(photos[:-1]), fingerprint(photos, 8)}) == 4


def test_touched_image_is_compared_not_decoded(
    photos: list[Path], folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ImageCache.open(photos, SIZE, folder)
    os.utime(photos[4], ns=(1, 1))
    decoded.clear()
    hold(ImageCache.open(photos, SIZE, folder), photos)
    assert decoded == []
    monkeypatch.setattr(cache_module, "_read", None)  # and compared once: the new time stamp is remembered
    hold(ImageCache.open(photos, SIZE, folder), photos)


def test_read_only_folder_is_good_enough_for_a_current_cache(
    photos: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ImageCache.open(photos, SIZE, folder)
    os.utime(photos[4], ns=(1, 1))

    def refuse(place: Path, manifest: dict) -> None:
        raise PermissionError

    monkeypatch.setattr(cache_module, "_write_manifest", refuse)
    hold(ImageCache.open(photos, SIZE, folder), photos)


def test_a_folder_that_may_not_be_written_is_not_needed(
    photos: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != folder)
    hold(ImageCache.open(photos, SIZE, folder), photos)
    assert list(folder.iterdir()) == []
    assert f"{folder} may not be written" in caplog.text


def test_file_in_use_is_replaced_never_written_to(photos: list[Path], folder: Path) -> None:
    """Writing into a file that another process has mapped would show it half a file, or kill it."""
    in_use = ImageCache.open(photos, SIZE, folder)
    pixels = only(folder, "*.npy")
    old = pixels.stat().st_ino
    only(folder, "*.json").unlink()
    ImageCache.open(photos, SIZE, folder)
    assert pixels.stat().st_ino != old
    hold(in_use, photos)


def test_only_a_changed_image_is_decoded_again(photos: list[Path], folder: Path, decoded: list[str]) -> None:
    old = ImageCache.open(photos, SIZE, folder)
    was = old[[4]]
    photo(photos[4], seed=99)
    decoded.clear()
    new = ImageCache.open(photos, SIZE, folder)
    hold(new, photos)
    assert decoded == ["4.png"]
    assert new.fingerprint != old.fingerprint
    assert np.array_equal(old[[4]], was)  # what is open stays as it was
    assert len(list(folder.iterdir())) == 2  # the replaced pixels are deleted


def test_image_rewritten_at_once_with_the_same_size_and_time(tmp_path: Path, folder: Path) -> None:
    """A file changed within a clock tick of being cached keeps its size and time stamp, and is noticed all the same."""
    path = tmp_path / "a.bmp"  # every BMP of a shape has the same length
    photo(path, 1)
    stat = path.stat()
    first = ImageCache.open([path], SIZE, folder)
    photo(path, 2)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    second = ImageCache.open([path], SIZE, folder)
    hold(second, [path])
    assert first.fingerprint != second.fingerprint


def test_a_clock_that_goes_backwards(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of the same size is put in place of another an hour before the cache was written, by the clock."""
    path, now = photo(tmp_path / "a.bmp", 1), time.time_ns()
    hour = 3600 * 10**9
    for seed, back in enumerate((0, hour, 2 * hour, 0), 1):
        photo(path, seed)
        os.utime(path, ns=(now - back, now - back))
        monkeypatch.setattr("time.time_ns", lambda back=back: now - back)
        for _ in range(2):
            hold(ImageCache.open([path], SIZE, folder), [path])


def test_growing_renamed_shuffled_and_shrinking_collections(
    photos: list[Path], folder: Path, decoded: list[str]
) -> None:
    ImageCache.open(photos[:8], SIZE, folder)
    decoded.clear()
    hold(ImageCache.open(photos, SIZE, folder), photos)
    assert sorted(decoded) == ["10.png", "11.png", "8.png", "9.png"]
    decoded.clear()
    renamed = photos[0].rename(photos[0].with_name("new.png"))
    (renamed.parent / "copy.png").write_bytes(renamed.read_bytes())
    paths = [*photos[:0:-2], renamed, renamed.parent / "copy.png"]
    hold(ImageCache.open(paths, SIZE, folder), paths)
    assert decoded == []


def test_sizes_and_collections_have_caches_of_their_own(
    photos: list[Path], tmp_path: Path, folder: Path, decoded: list[str]
) -> None:
    others = [photo(tmp_path / "others" / f"{i}.png", 50 + i) for i in range(3)]
    for _ in range(2):
        hold(ImageCache.open(photos, SIZE, folder), photos)
        hold(ImageCache.open(others, SIZE, folder), others)
        assert ImageCache.open(photos, 8, folder)[[0]].shape == (1, 3, 8, 8)
    assert len(decoded) == 12 + 3 + 12


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def scribble(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[-5] ^= 255
    file.write_bytes(raw)


def other_shape(file: Path) -> None:
    np.save(file, np.zeros((12, 3, SIZE, 2 * SIZE), np.uint8))


def delete(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize("damage", [cut, empty, scribble, other_shape, delete])
@pytest.mark.parametrize("pattern", ["*.npy", "*.json"])
def test_damaged_cache_is_built_again(
    photos: list[Path], folder: Path, damage: Callable[[Path], None], pattern: str
) -> None:
    fingerprint = ImageCache.open(photos, SIZE, folder).fingerprint
    damage(only(folder, pattern))
    cache = ImageCache.open(photos, SIZE, folder)
    hold(cache, photos)
    assert cache.fingerprint == fingerprint


@pytest.mark.parametrize("manifest", ["[]", "{}", "null", '{"data": "x", "images": 3}', '{"data": 3}'])
def test_strange_manifest_is_replaced(photos: list[Path], folder: Path, manifest: str) -> None:
    ImageCache.open(photos, SIZE, folder)
    only(folder, "*.json").write_text(manifest)
    hold(ImageCache.open(photos, SIZE, folder), photos)


def test_copied_cache_is_still_good(photos: list[Path], folder: Path, decoded: list[str]) -> None:
    """A copy has another time stamp: its checksum is compared, once."""
    ImageCache.open(photos, SIZE, folder)
    os.utime(only(folder, "*.npy"), ns=(5, 5))
    decoded.clear()
    hold(ImageCache.open(photos, SIZE, folder), photos)
    assert decoded == []
    assert '"data_stat": [9344, 5]' in only(folder, "*.json").read_text()


def test_leftovers_of_a_killed_process(photos: list[Path], folder: Path) -> None:
    """They are never used as the cache, and they are removed; what others wrote stays."""
    ImageCache.open(photos, SIZE, folder)
    name = only(folder, "*.json").stem
    orphan = folder / f"{name}-0123456789abcdef.npy"  # killed between the pixels and the manifest
    foreign = folder / "notes.txt"
    for file in (orphan, foreign):
        file.write_bytes(b"half")
    photo(photos[0], seed=77)
    hold(ImageCache.open(photos, SIZE, folder), photos)
    assert (orphan.exists(), foreign.exists()) == (False, True)


def test_undecodable_images_are_one_error(photos: list[Path], folder: Path) -> None:
    photos[3].write_text("no image")
    photos[7].unlink()
    heard: list[Progress] = []
    with pytest.raises(UserError) as caught, listening(heard.append):
        ImageCache.open(photos, SIZE, folder)
    reason = "not an image, or of a format that Pillow cannot read"
    assert str(caught.value) == (
        f"2 of 12 images cannot be decoded; the first, {photos[3]}: {reason}; `tripletcl data check` lists them all"
    )
    assert heard[-1].done == 12  # all of them were tried
    assert list(folder.iterdir()) == []


def test_image_deleted_later_is_an_error(photos: list[Path], folder: Path) -> None:
    ImageCache.open(photos, SIZE, folder)
    photos[5].unlink()
    with pytest.raises(UserError, match=r"1 of 12 images .*5\.png: No such file or directory"):
        ImageCache.open(photos, SIZE, folder)


def test_write_that_fails_is_one_clear_error(photos: list[Path], folder: Path) -> None:
    """The system refuses to let any file of this process grow past 4 KiB, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(UserError, match=f"image cache cannot be kept in {folder}: File too large"):
            ImageCache.open(photos, SIZE, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(folder.iterdir()) == []
    hold(ImageCache.open(photos, SIZE, folder), photos)


def test_disk_without_space_is_said_before_decoding(
    photos: list[Path], folder: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(photos[0])._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"needs 0\.00 GiB in .*, but only 0\.00 are free"):
        ImageCache.open(photos, SIZE, folder)
    assert decoded == []


def test_folder_that_is_a_file(photos: list[Path], folder: Path) -> None:
    folder.write_text("x")
    with pytest.raises(UserError, match=r"cannot be (kept in|written)"):
        ImageCache.open(photos, SIZE, folder)
    with pytest.raises(UserError, match="at least one image"):
        ImageCache.open([], SIZE, folder)


def build_together(paths: list[Path], folder: Path, barrier: Barrier, rounds: int, backwards: bool) -> None:
    """Runs in a process of its own: both build each round's cache from nothing, then open different lists in it."""
    for round_ in range(rounds):
        barrier.wait(30)
        hold(ImageCache.open(paths, SIZE, folder / str(round_)), paths)
    mine = paths[::-1] if backwards else paths[: len(paths) // 2]
    barrier.wait(30)
    for _ in range(rounds):
        hold(ImageCache.open(mine, SIZE, folder / "shared"), mine)


def test_two_processes_build_at_once(photos: list[Path], folder: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    processes = [
        context.Process(target=build_together, args=(photos, folder, barrier, 10, backwards))
        for backwards in (False, True)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert not list(folder.rglob("*.tmp"))


def test_process_killed_while_building(photos: list[Path], folder: Path) -> None:
    """A process killed half way leaves a temporary file and no cache; the next opening builds it."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=build_slowly, args=(photos, folder))
    process.start()
    deadline = time.monotonic() + 30
    while not list(folder.glob(".*.tmp")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join(30)
    assert {file.suffix for file in folder.iterdir()} == {".tmp", ".lock"}
    hold(ImageCache.open(photos, SIZE, folder), photos)
    assert not list(folder.rglob("*.tmp"))


def build_slowly(paths: list[Path], folder: Path) -> None:
    with listening(lambda _: time.sleep(10)):
        ImageCache.open(paths, SIZE, folder)


def test_a_stored_cache_opens_without_reading_the_photos(photos: list[Path], folder: Path) -> None:
    assert ImageCache.stored(photos, SIZE, folder) is None
    opened = ImageCache.open(photos, SIZE, folder)
    for path in photos:
        path.unlink()
    stored = ImageCache.stored(photos, SIZE, folder)
    assert stored is not None
    assert stored.fingerprint == opened.fingerprint
    assert np.array_equal(stored[np.arange(12)], opened[np.arange(12)])
    part = ImageCache.stored(photos[:0:-1], SIZE, folder)
    assert part is not None
    assert np.array_equal(part[np.arange(11)], opened[np.arange(11, 0, -1)])
    assert ImageCache.stored([*photos, photos[0].with_name("other.png")], SIZE, folder) is None
    assert ImageCache.stored(photos, SIZE + 1, folder) is None


def test_lists_of_the_same_folder_share_a_cache_without_loss(
    photos: list[Path], folder: Path, decoded: list[str]
) -> None:
    first, second = photos[:8], photos[:4:-1]
    fingerprint = ImageCache.open(first, SIZE, folder).fingerprint
    ImageCache.open(second, SIZE, folder)
    stored = ImageCache.stored(first, SIZE, folder)
    assert stored is not None
    assert stored.fingerprint == fingerprint
    hold(stored, first)
    for paths in (first, second, [photos[3], photos[9], photos[3]]):
        hold(ImageCache.open(paths, SIZE, folder), paths)
    assert sorted(decoded) == sorted(path.name for path in photos)


def test_a_stamp_too_recent_to_be_trusted_stays_so_when_another_list_is_opened(tmp_path: Path, folder: Path) -> None:
    recent, other = photo(tmp_path / "recent.png", 1), photo(tmp_path / "other.png", 2)
    ImageCache.open([recent], SIZE, folder)
    stamp = recent.stat()
    replacement = photo(tmp_path / "replacement.png", 3).read_bytes()
    assert len(replacement) == stamp.st_size
    recent.write_bytes(replacement)  # of the same size and time
    os.utime(recent, ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    with pytest.MonkeyPatch.context() as patch:  # much later
        now = time.time_ns() + 100 * 10**9
        patch.setattr(time, "time_ns", lambda: now)
        ImageCache.open([other], SIZE, folder)
    hold(ImageCache.open([recent], SIZE, folder), [recent])


def test_another_photo_of_equal_size_and_time_is_noticed(photos: list[Path], folder: Path) -> None:
    """As after `cp -p`: the system sets the time of change, and nobody else can."""
    ImageCache.open(photos, SIZE, folder)
    stamp = photos[3].stat()
    raw = bytearray(photos[4].read_bytes())
    (photos[3].parent / "other.png").write_bytes(raw + b"\0" * (stamp.st_size - len(raw)))
    os.utime(photos[3].parent / "other.png", ns=(stamp.st_mtime_ns, stamp.st_mtime_ns))
    (photos[3].parent / "other.png").replace(photos[3])
    assert (photos[3].stat().st_size, photos[3].stat().st_mtime_ns) == (stamp.st_size, stamp.st_mtime_ns)
    hold(ImageCache.open(photos, SIZE, folder), photos)


def test_a_cache_of_an_earlier_version_is_compared_and_not_decoded(
    photos: list[Path], folder: Path, decoded: list[str]
) -> None:
    """Its stamps have no time of change."""
    ImageCache.open(photos, SIZE, folder)
    manifest = json.loads(only(folder, "*.json").read_text())
    manifest["images"] = [[file, size, mtime, digest] for file, size, mtime, _, digest in manifest["images"]]
    only(folder, "*.json").write_text(json.dumps(manifest))
    decoded.clear()
    hold(ImageCache.open(photos, SIZE, folder), photos)
    assert decoded == []


def test_missing_photos_are_dropped_when_others_are_added(photos: list[Path], folder: Path) -> None:
    ImageCache.open(photos[:6], SIZE, folder)
    for path in photos[:4]:
        path.unlink()
    ImageCache.open(photos[4:], SIZE, folder)
    assert np.load(only(folder, "*.npy")).shape == (8, 3, SIZE, SIZE)
    hold(ImageCache.open(photos[4:], SIZE, folder), photos[4:])


def test_contents_are_read_from_files_that_have_changed_only(
    photos: list[Path], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [photo_digest(path) for path in photos]
    assert ImageCache.contents(photos, SIZE, folder) == expected
    ImageCache.open(photos, SIZE, folder)
    photos[2].unlink()
    photo(photos[5], 99)
    expected[2], expected[5] = "", photo_digest(photos[5])
    read: list[str] = []
    whole = cache_module.read_photo
    monkeypatch.setattr(cache_module, "read_photo", lambda file: read.append(file) or whole(file))
    assert ImageCache.contents(photos, SIZE, folder) == expected
    assert read == [str(photos[5])]
    assert ImageCache.contents([], SIZE, folder) == []


def test_regions_are_images_of_their_own(photos: list[Path], folder: Path) -> None:
    items = [
        Region(photos[0], (0, 0, 9, 9)),
        photos[0],
        Region(photos[0], (4, 4, 20, 20)),
        Region(photos[1], (0, 0, 9, 9)),
    ]
    whole = ImageCache.open(photos[:2], SIZE, folder).fingerprint
    cache = ImageCache.open(items, SIZE, folder)
    assert np.array_equal(cache[range(4)], np.stack([decode_image(item, SIZE) for item in items]))
    assert np.array_equal(ImageCache.open(items[::-1], SIZE, folder)[range(4)], cache[[3, 2, 1, 0]])
    assert ImageCache.open(photos[:2], SIZE, folder).fingerprint == whole
    stored = ImageCache.stored(items, SIZE, folder)
    assert stored is not None
    assert stored.fingerprint == cache.fingerprint
    assert ImageCache.stored([Region(photos[1], (0, 0, 9, 8))], SIZE, folder) is None
    digests = [photo_digest(path) for path in photos[:2]]
    assert ImageCache.contents(items, SIZE, folder) == [digests[0]] * 3 + [digests[1]]


def test_a_region_outside_its_photo_is_one_error(photos: list[Path], folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"1 of 2 images cannot be decoded; the first, .*0.png \[24, 0, 30, 9\]: its box"
    ):
        ImageCache.open([photos[1], Region(photos[0], (24, 0, 30, 9))], SIZE, folder)
