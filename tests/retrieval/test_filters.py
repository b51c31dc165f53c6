"""Filters by what the photos' files say: dates, folders, names, cameras, shapes, places; on disk and in words."""

from __future__ import annotations

import datetime
import fnmatch
import math
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from colour_embedder import COLOURS, ColourEmbedder
from PIL import Image

from tripletcl.data.facts import Fact
from tripletcl.data.metadata import read_metadata
from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, Filter, PhotoDetails, answer, parse_request, writing
from tripletcl.retrieval.days import split_days

NAMES = list(COLOURS)
CAMERAS = ("Canon EOS 80D", "Apple iPhone 12", None)
PLACES = ((47.1, 11.3), (47.2, 11.4), (-33.9, 18.4), (52.5, 13.4), None)
FOLDERS = ("2018/Alps", "2019/Alps", "2019/Cape Town", "alpsee")
COUNT = 120


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of three colours, of all dates, cameras, places, shapes and folders; every third without EXIF data."""
    random, place = np.random.default_rng(0), tmp_path_factory.mktemp("collection")
    for number in range(COUNT):
        path = place / FOLDERS[number % 4] / f"{'IMG' if number % 2 else 'dsc'}_{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        colours = [COLOURS[NAMES[each]] for each in random.integers(len(NAMES), size=3)]
        pixels = np.array([colours] * (1, 3, 5)[number % 5 % 3], np.uint8)
        Image.fromarray(pixels).save(path, exif=Image.Exif() if number % 3 == 0 else exif_of(number, random))
        day = datetime.datetime(2017, 1, 1, 12) + datetime.timedelta(days=int(random.integers(1200)))
        os.utime(path, (day.timestamp(), day.timestamp()))
    return place


def exif_of(number: int, random: np.random.Generator) -> Image.Exif:
    exif = Image.Exif()
    taken = datetime.datetime(2017, 1, 1) + datetime.timedelta(hours=int(random.integers(1200 * 24)))
    exif[0x8769] = {0x9003: f"{taken:%Y:%m:%d %H:%M:%S}"}
    if camera := CAMERAS[number % 4 % 3]:
        exif[0x010F], exif[0x0110] = camera.split(" ", 1)
    if here := PLACES[number % 5]:
        exif[0x8825] = {1: "NS"[here[0] < 0], 2: (abs(here[0]), 0.0, 0.0), 3: "E", 4: (here[1], 0.0, 0.0)}
    return exif


@pytest.fixture(scope="module")
def folder(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("index")
    with writing(place, ColourEmbedder()) as index:
        index.sync(photos)
    return place


@pytest.fixture
def index(folder: Path) -> FactIndex:
    return FactIndex.load(folder, ColourEmbedder())


def meets(details: PhotoDetails, where: Filter) -> bool:
    """The slow twin: one photo, one condition after another."""
    if where.after and not (details.date and details.date >= where.after):
        return False
    if where.before and not (details.date and details.date <= where.before):
        return False
    if where.folder and f"/{where.folder.lower().strip('/')}/" not in f"{details.folder.lower()}/":
        return False
    if where.name and not fnmatch.fnmatchcase(details.name.lower(), where.name.lower()):
        return False
    if where.camera and where.camera.lower() not in (details.camera or "").lower():
        return False
    if where.orientation:
        assert details.width is not None
        assert details.height is not None
        sign = np.sign(details.width - details.height)
        if where.orientation != {1: "landscape", -1: "portrait", 0: "square"}[int(sign)]:
            return False
    if where.near:
        if details.latitude is None or details.longitude is None:
            return False
        return distance_km((details.latitude, details.longitude), where.near[:2]) <= where.near[2]
    return True


def distance_km(one: tuple[float, float], other: tuple[float, float]) -> float:
    """By the angle between two vectors from the middle of the Earth."""
    vectors = [
        (math.cos(lat) * math.cos(lon), math.cos(lat) * math.sin(lon), math.sin(lat))
        for lat, lon in ([math.radians(each) for each in place] for place in (one, other))
    ]
    return 6371.0088 * math.acos(min(1.0, sum(a * b for a, b in zip(*vectors, strict=True))))


FILTERS = {
    "year": Filter.parse(after="2019", before="2019"),
    "from a month": Filter.parse(after="2018-06"),
    "a day": Filter.parse(before="2018-02-28"),
    "folder": Filter(folder="alps"),
    "folders": Filter(folder="2019/ALPS/"),
    "folder with a blank": Filter(folder="cape town"),
    "name": Filter(name="img_*.PNG"),
    "camera": Filter(camera="canon"),
    "portrait": Filter(orientation="portrait"),
    "landscape": Filter(orientation="landscape"),
    "near": Filter.parse(near="47.1,11.3,20"),
    "south": Filter(near=(-34, 18, 100)),
    "all of it": Filter(datetime.date(2018, 1, 1), None, "alps", "*_*", "i", "landscape", (47, 11, 3000)),
}


@pytest.mark.parametrize("where", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("query", ["red, green, blue", "?, dark red, ?"])
def test_a_filtered_search_is_the_whole_ranking_without_the_others(index: FactIndex, where: Filter, query: str) -> None:
    everything = index.search(query, k=COUNT)
    details = index.details(hit.path for hit in everything)
    expected = [hit for hit, each in zip(everything, details, strict=True) if meets(each, where)]
    assert 0 < len(expected) < COUNT
    assert index.search(query, k=COUNT, where=where) == expected
    assert index.search(query, k=3, where=where) == expected[:3]
    request = parse_request(query)
    assert answer(index, request, 3, where=where) == expected[:3]
    both = answer(index, parse_request("red, ?, ? + ?, green, ?"), COUNT, where=where)
    assert sorted(hit.path for hit in both) == sorted(hit.path for hit in expected)


def test_an_empty_filter_keeps_everything(index: FactIndex) -> None:
    assert not Filter()
    assert index.search("red", k=COUNT, where=Filter()) == index.search("red", k=COUNT)


def test_the_dates_are_those_of_exif_and_else_of_the_file(index: FactIndex, photos: Path) -> None:
    for each in index.details(index.photos):
        number = int(each.path.stem.split("_")[1])
        modified = datetime.datetime.fromtimestamp(int(each.path.stat().st_mtime))
        assert (each.modified, each.size) == (modified, each.path.stat().st_size)
        assert (each.taken is None) == (number % 3 == 0)
        assert each.date == (each.taken or modified).date()
        assert (each.name, each.folder) == (each.path.name, str(each.path.parent))


def test_a_filter_that_nothing_meets_is_one_sentence(index: FactIndex) -> None:
    sentence = rf"none of the {COUNT} photos meets the filter: from 2035-01-01 on, folder Alps"
    where = Filter.parse(after="2035", folder="Alps")
    for search in (
        lambda: index.search("red", where=where),
        lambda: answer(index, parse_request("red, ?, ? + ?, green, ?"), where=where),
    ):
        with pytest.raises(UserError, match=sentence):
            search()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"after": "yesterday"}, "'yesterday' is no date; write 2019, 2019-06 or 2019-06-30"),
        ({"before": "2019-13"}, "'2019-13' is no date"),
        ({"before": "2019-02-30"}, "'2019-02-30' is no date"),
        ({"after": "0000"}, "'0000' is no date"),
        ({"after": "2020", "before": "2019"}, "no day is from 2020-01-01 on and up to 2019-12-31"),
        ({"orientation": "upright"}, "'upright' is no orientation; allowed are landscape, portrait, square"),
        ({"near": "the Alps"}, "'the Alps' is no place; write latitude, longitude and a distance in km"),
        ({"near": "91,0,5"}, "91,0,5 is no place"),
        ({"near": "nan,0,5"}, "is no place"),
        ({"near": "47,11,0"}, "47,11,0 is no place"),
        ({"folder": "/"}, "the folder of a filter is empty"),
    ],
)
def test_what_is_no_filter_is_refused(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Filter.parse(**options)  # type: ignore[arg-type]


# --- on disk ---------------------------------------------------------------------------------------------------------


def test_details_outlive_deletions_upgrades_and_copies(folder: Path, photos: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "copy")
    before = {each.path: each for each in FactIndex.load(place).details(FactIndex.load(place).photos)}
    gone = sorted(before)[:40]
    with writing(place) as index:
        index.remove(gone)
    with writing(place) as index:
        index.replace_vectors(lambda block: -block, model="another")
    index = FactIndex.load(place)
    index.save(tmp_path / "saved")
    for each in (index, FactIndex.load(tmp_path / "saved")):
        assert {found.path: found for found in each.details(each.photos)} == {
            path: found for path, found in before.items() if path not in gone
        }


def to_format_3(place: Path) -> None:
    """Write an index as version 0.2 did before it knew details: the photos are in the database."""
    index, stamps = FactIndex.load(place), {path: path.stat() for path in FactIndex.load(place).photos}
    rows = [(row, str(path), stamps[path].st_size, stamps[path].st_mtime_ns) for row, path in enumerate(index.paths)]
    with closing(sqlite3.connect(place / "index.db")) as database, database:
        database.execute("DELETE FROM files WHERE role IN ('photos', 'names')")
        database.execute("DELETE FROM meta WHERE key = 'sha256'")
        database.execute("DROP TABLE cameras")
        database.execute("DROP TABLE deleted")
        database.execute("CREATE TABLE photos (row INTEGER PRIMARY KEY, path, size, mtime_ns, model, stage)")
        database.executemany("INSERT INTO photos VALUES (?, ?, ?, ?, NULL, NULL)", rows)
        database.execute("UPDATE meta SET value = 3 WHERE key = 'format'")
    for path in (*place.glob("photos-*"), *place.glob("names-*")):
        path.unlink()


def test_an_index_without_details_gets_them_without_embedding_again(folder: Path, photos: Path, tmp_path: Path) -> None:
    place = shutil.copytree(folder, tmp_path / "old")
    to_format_3(place)
    old = FactIndex.load(place, ColourEmbedder())
    assert {(each.camera, each.width) for each in old.details(old.photos)} == {(None, None)}
    assert len(old.search("red", k=COUNT, where=Filter.parse(after="2017"))) == COUNT  # by the files' dates

    embedder = ColourEmbedder()
    with writing(place, embedder) as index:
        changes = index.sync(photos)
    assert (embedder.photos_read, changes.added, changes.changed) == ([], [], [])
    new, expected = FactIndex.load(place), FactIndex.load(folder)
    assert new.details(new.photos) == expected.details(new.photos)
    assert list(place.glob("structure-*")) == list(folder.glob("structure-*"))


def test_an_index_in_memory_has_details_too(photos: Path, index: FactIndex) -> None:
    built = FactIndex.build(ColourEmbedder(), photos)
    assert built.details(built.photos) == index.details(built.photos)
    added = FactIndex()
    added.add(index.photos, index.rows().copy().reshape(COUNT, 3, -1))
    assert added.details(index.photos) == index.details(index.photos)
    with pytest.raises(UserError, match=r"nowhere\.jpg is not in the index"):
        built.details([*index.photos, "nowhere.jpg"])


def test_details_of_many_photos_are_those_of_each(index: FactIndex) -> None:
    assert index.details(index.photos[::-1]) == [index.details([path])[0] for path in index.photos[::-1]]
    assert index.details([]) == []


def test_an_index_in_memory_reads_a_file_once_somebody_asks_for_it(
    photos: Path, index: FactIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr(
        "tripletcl.retrieval.photos.read_metadata", lambda name: read.append(name) or read_metadata(name)
    )
    added = FactIndex()
    added.add(index.photos, index.rows().copy().reshape(COUNT, 3, -1))
    added.search_vectors(index.rows([0]), k=3)
    assert read == []
    added.details(index.photos[:2])
    assert sorted(read) == sorted(map(str, index.photos[:2]))
    landscape = Filter(orientation="landscape")
    np.testing.assert_array_equal(added.kept(landscape), index.kept(landscape))
    assert sorted(read) == sorted(map(str, index.photos))  # each once
    copy = FactIndex()
    copy.add(index.photos, index.rows().copy().reshape(COUNT, 3, -1))
    copy.save(tmp_path / "copy")
    assert FactIndex.load(tmp_path / "copy").details(index.photos) == index.details(index.photos)


# --- in words --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "query", "days"),
    [
        ("dogs in the snow, winter 2019", "<dog, ?, snow>", ("2018-12-01", "2019-02-28")),
        ("dogs in the snow in the winter of 2020", "<dog, ?, snow>", ("2019-12-01", "2020-02-29")),
        ("person riding horse in 2018", "<person, riding, horse>", ("2018", "2018")),
        ("person riding horse in June 2018", "<person, riding, horse>", ("2018-06", "2018-06")),
        ("person riding horse, Sept. 2018", "<person, riding, horse>", ("2018-09", "2018-09")),
        ("person, riding, horse, 2018", "<person, riding, horse>", ("2018", "2018")),
        (
            "person riding horse - dog + snow, 2018",
            "<person, riding, horse> - <dog, ?, ?> + <?, ?, snow>",
            ("2018",) * 2,
        ),
        ("dogs in the snow, 2017 to 2019", "<dog, ?, snow>", ("2017", "2019")),
        ("dogs in the snow from June 2017 until winter 2019", "<dog, ?, snow>", ("2017-06", "2019-02-28")),
        ("dogs in the snow between 2017 and 2019", "<dog, ?, snow>", ("2017", "2019")),
        ("dogs in the snow in 2017-2019", "<dog, ?, snow>", ("2017", "2019")),
        ("dogs in the snow since May 2018", "<dog, ?, snow>", ("2018-05", None)),
        ("dogs in the snow from May 2018", "<dog, ?, snow>", ("2018-05", "2018-05")),
        ("dogs in the snow until summer 2018", "<dog, ?, snow>", (None, "2018-08")),
        ("person riding horse 2018", None, None),
        ("dog - snow in 2018", None, None),
        ("dog in the snow in 1018", None, None),
        ("person wearing number in 2018", "<person, wearing, number in 2018>", None),
    ],
)
def test_days_in_words_are_the_same_filter(words: str, query: str | None, days: tuple[str, str] | None) -> None:
    facts = [
        Fact("person", "riding", "horse"),
        Fact("dog", "in", "snow"),
        Fact("person", "wearing", "number in 2018"),
    ]
    request = parse_request(words, facts)
    assert request.where == (Filter.parse(after=days[0], before=days[1]) if days else Filter())
    if query is not None:
        shown = f"{query}, {request.where}" if days else query
        assert str(request).replace("<dog, in, snow>", "<dog, ?, snow>") == shown


@pytest.mark.parametrize(
    ("today", "words", "days"),
    [
        ("2026-12-01", "last summer", ("2026-06-01", "2026-08-31")),
        ("2026-07-01", "last summer", ("2025-06-01", "2025-08-31")),
        ("2026-07-01", "this summer", ("2026-06-01", "2026-08-31")),
        ("2026-12-01", "this winter", ("2026-12-01", "2027-02-28")),
        ("2026-12-01", "last winter", ("2025-12-01", "2026-02-28")),
        ("2026-02-01", "last winter", ("2024-12-01", "2025-02-28")),
        ("2026-02-01", "in this winter", ("2025-12-01", "2026-02-28")),
        ("2026-02-01", "from last year", ("2025-01-01", "2025-12-31")),
        ("2026-01-01", "yesterday", ("2025-12-31", "2025-12-31")),
        ("2026-01-01", "Today", ("2026-01-01", "2026-01-01")),
    ],
)
def test_days_by_the_clock(today: str, words: str, days: tuple[str, str]) -> None:
    for joined in (f"dog on a beach {words}", f"dog on a beach, {words}"):
        text, where = split_days(joined, datetime.date.fromisoformat(today))
        assert (text, where) == ("dog on a beach", Filter.parse(after=days[0], before=days[1]))
    for other in (f"dog - {words}", f"dog {words} in the snow"):
        assert split_days(other, datetime.date.fromisoformat(today)) == (other, Filter())


def test_days_in_words_limit_those_of_a_filter(index: FactIndex) -> None:
    request = parse_request("red, ?, ?, 2018")
    hits = answer(index, request, COUNT, where=Filter.parse(after="2018-06"))
    assert {each.date.year for each in index.details(hit.path for hit in hits) if each.date} == {2018}
    assert hits == index.search("red", COUNT, Filter.parse(after="2018-06", before="2018"))
    with pytest.raises(UserError, match="no day is from 2019-01-01 on and up to 2018-12-31"):
        answer(index, request, where=Filter.parse(after="2019"))


DAYS = ("after", "before")


@pytest.mark.parametrize(
    ("words", "query", "values"),
    [
        ("dog folder:Alps", "<dog, ?, ?>", {"folder": "Alps"}),
        ('camera:"Canon EOS" dog shape:Portrait', "<dog, ?, ?>", {"camera": "Canon EOS", "orientation": "portrait"}),
        ("dog - snow name:IMG_*", "<dog, ?, ?> - <snow, ?, ?>", {"name": "IMG_*"}),
        ("dog, ?, snow, near:47.1,11.3,20", "<dog, ?, snow>", {"near": "47.1,11.3,20"}),
        ("dog folder:2019/Alps, June 2019", "<dog, ?, ?>", {"folder": "2019/Alps"} | dict.fromkeys(DAYS, "2019-06")),
        ("dog after:2018 before:2019-06", "<dog, ?, ?>", {"after": "2018", "before": "2019-06"}),
        ("dog myfolder:Alps", "<dog, myfolder:Alps, ?>", {}),
    ],
)  # fmt: skip
def test_named_filters_in_words_are_the_same_filter(words: str, query: str, values: dict[str, str]) -> None:
    request = parse_request(words)
    assert request.where == Filter.parse(**values)
    assert str(request).startswith(query)


def test_a_filter_in_words_that_cannot_be_is_one_sentence(index: FactIndex) -> None:
    for words, sentence in (
        ("dog folder:a folder:b", "the request has folder twice; give it once"),
        ("dog near:here", "here"),
        ("folder:Alps", "the request is empty"),
    ):
        with pytest.raises(UserError, match=sentence):
            parse_request(words)
    with pytest.raises(UserError, match="there are two filters by folder, b and a; give one"):
        answer(index, parse_request("red folder:a"), where=Filter(folder="b"))


def test_a_filter_in_words_leaves_photos_out(index: FactIndex) -> None:
    hits = answer(index, parse_request("red, ?, ? folder:alps name:*_*"), COUNT)
    assert hits == index.search("red", COUNT, Filter(folder="Alps", name="*_*"))
    assert 0 < len(hits) < COUNT
