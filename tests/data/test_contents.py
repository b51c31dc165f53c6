"""What the photos of a table hold: stored with a run's table, compared with what it is now, the same in any folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletcl.data import Fact, FactTable, read_table
from tripletcl.data.contents import describe_change, with_contents, with_stored_contents
from tripletcl.data.images import photo_digest
from tripletcl.data.tables import write_table

BOAT, SHIP = Fact("boat"), Fact("ship", "sailing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def table_of(folder: Path, facts: tuple[Fact, ...] = (BOAT, SHIP, BOAT, SHIP)) -> FactTable:
    rows = [(f"photos/{number}.png", fact, "train" if number < 2 else "test") for number, fact in enumerate(facts)]
    return with_contents(FactTable.from_rows(folder, rows), 8, folder / "cache")


def test_a_stored_table_keeps_the_contents_of_its_photos(folder: Path) -> None:
    (folder / "photos" / "3.png").unlink()
    table = table_of(folder)
    assert table.contents == (*(photo_digest(path) for path in table.paths[:3]), "")
    write_table(folder / "stored.csv", table)
    stored = with_stored_contents(read_table(folder / "stored.csv", absolute=True), folder / "stored.csv")
    assert (stored.contents, stored.facts, stored.paths) == (table.contents, table.facts, table.paths)
    write_table(folder / "early.csv", FactTable.from_rows(folder, [("photos/1.png", BOAT, "train")]))
    early = read_table(folder / "early.csv", absolute=True)
    assert with_stored_contents(early, folder / "early.csv").contents is None


def test_what_changed_is_said(folder: Path) -> None:
    before = table_of(folder)
    assert describe_change(before, table_of(folder)) is None
    assert describe_change(before, table_of(folder, (BOAT, SHIP, BOAT))) == "it had 4 rows and has 3"
    renamed = table_of(folder, (BOAT, SHIP, SHIP, SHIP))
    assert describe_change(before, renamed) == "row 3 was <boat> (test), and is <ship, sailing> (test)"
    grouped = FactTable.from_rows(folder, [("0.png", BOAT, "train")])
    first, second = (replace(grouped, groups=(name,)) for name in ("a", "b"))
    assert describe_change(first, second) == "row 1 was <boat> in task a (train), and is <boat> in task b (train)"
    moved = Path(shutil.copytree(folder, folder / "moved", ignore=lambda *_: ["moved"]))
    assert describe_change(before, table_of(moved)) is None
    Image.new("RGB", (8, 8), "blue").save(folder / "photos" / "2.png")
    (folder / "photos" / "1.png").unlink()
    assert describe_change(before, table_of(folder)) == (
        f"1 of its 4 photos have another content; the first is {folder / 'photos' / '2.png'}"
    )
    one = FactTable.from_rows(folder, [("a", BOAT, "train"), ("a", SHIP, "train")])
    two = FactTable.from_rows(folder, [("a", BOAT, "train"), ("b", SHIP, "train")])
    assert describe_change(one, two) == "its rows name other photos"


def test_photos_that_are_trained_on_are_no_test_images_under_any_name(tmp_path: Path) -> None:
    def table(photos: str, contents: str, splits: str, fact: Fact) -> FactTable:
        rows = [(name, fact, {"+": "train", "-": "test"}[split]) for name, split in zip(photos, splits, strict=True)]
        return replace(FactTable.from_rows(tmp_path, rows), contents=tuple(contents))

    base = table("abcd", "1234", "+---", BOAT)
    more = table("xyzw", "2356", "+-+-", SHIP)
    joined = base.join([more])
    assert joined.left_out == (1,), "b is trained on as x"
    assert joined.rows_of("test").tolist() == [[2, 0], [3, 0], [5, 1], [7, 1], [2, 1], [5, 0]], "c is also y"
    assert joined.rows_of("train").tolist() == [[0, 0], [4, 1], [6, 1]]
    assert joined.contents == ("1", "2", "3", "4", "2", "3", "5", "6")
    assert base.join([replace(more, contents=None)]).left_out == ()
    assert base.join([base]).left_out == ()
    assert base.join([]) is base
    both = table("abc", "121", "+--", BOAT)
    assert both.join([]).left_out == (2,)
    assert both.join([]).rows_of("test").tolist() == [[1, 0]]


def test_a_file_that_is_trained_on_is_no_test_image_also_where_contents_are_unknown(tmp_path: Path) -> None:
    base = FactTable.from_rows(tmp_path, [("a", BOAT, "train"), ("b", BOAT, "test"), ("c", BOAT, "test")])
    lesson = FactTable.from_rows(Path("/"), [(str(tmp_path / "b"), SHIP, "train")])
    joined = base.join([lesson])
    assert (joined.left_out, joined.contents) == ((1,), None)
    assert np.unique(joined.rows_of("test")[:, 0]).tolist() == [2]
