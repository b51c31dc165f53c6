"""`check_table` finds every mistake, names its rows, and counts the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tripletcl.data import read_table
from tripletcl.data.check import Problem, check_table
from tripletcl.data.missing import require_images
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening

HEADER = "image,subject,predicate,object,split\n"


def photo(folder: Path, name: str, grey: int) -> None:
    Image.new("RGB", (20, 20), (grey, 0, 0)).save(folder / name)


def table(folder: Path, *rows: str) -> Path:
    path = folder / "facts.csv"
    path.write_text(HEADER + "\n".join(rows))
    return path


def rows_of(problems: list[Problem], kind: str) -> list[tuple[int, ...]]:
    return [problem.rows for problem in problems if problem.kind == kind]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for grey, name in enumerate(["a.jpg", "b.jpg", "c.jpg", "d.jpg"]):
        photo(tmp_path, name, 60 * grey)
    return tmp_path


def test_clean_table(folder: Path) -> None:
    rows = ["a.jpg,dog,,,train", "a.jpg,man,riding,horse,train", "b.jpg,dog,,,test", "c.jpg,man,riding,horse,test"]
    heard: list[Progress] = []
    with listening(heard.append):
        report = check_table(table(folder, *rows))
    assert report.ok
    assert report.problems == []
    assert (report.rows, report.bad_rows, report.images, report.facts) == (4, 0, 3, 2)
    assert report.facts_by_order == {1: 1, 2: 0, 3: 1}
    assert report.splits == {
        "train": {"rows": 2, "images": 1, "facts": 2},
        "test": {"rows": 2, "images": 2, "facts": 2},
    }
    assert report.rows_per_image == {"min": 1, "mean": 4 / 3, "max": 2}
    assert heard == [Progress("decoding images", done, 3) for done in (1, 2, 3)]
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_everything_wrong_at_once(folder: Path) -> None:
    (folder / "text.jpg").write_text("not an image")
    (folder / "cut.jpg").write_bytes((folder / "d.jpg").read_bytes()[:-200])
    (folder / "folder.jpg").mkdir()
    (folder / "copy.jpg").write_bytes((folder / "a.jpg").read_bytes())
    path = table(
        folder,
        "a.jpg,dog,,,train",  # 2
        "a.jpg,,,,train",  # 3: no subject
        "b.jpg,dog,,,test",  # 4
        "missing.jpg,dog,,,train",  # 5: missing
        "text.jpg,dog,,,train",  # 6: no image
        "cut.jpg,dog,,,test",  # 7: truncated
        "missing.jpg,cat,,,train",  # 8: missing; no test image
        "c.jpg,hen,,,test",  # 9: no training image
        "../x.jpg,dog,,,train",  # 10: leaves the root
        "./a.jpg,dog,,,train",  # 11: the same as 2
        "b.jpg,dog,,,train",  # 12: b.jpg is in test
        "copy.jpg,dog,,,test",  # 13: the content of a.jpg
        "folder.jpg,dog,,,test",  # 14
    )
    problems = check_table(path).problems
    assert rows_of(problems, "bad row") == [(3,), (10,)]
    assert rows_of(problems, "duplicate row") == [(2, 11)]
    assert rows_of(problems, "missing file") == [(5, 8), (14,)]
    assert rows_of(problems, "undecodable image") == [(6,), (7,)]
    assert rows_of(problems, "no test image") == [(8,)]
    assert rows_of(problems, "no training image") == [(9,)]
    assert rows_of(problems, "image in both splits") == [(4, 12)]
    assert rows_of(problems, "content in both splits") == [(2, 11, 13)]
    assert len(problems) == 11
    messages = {problem.rows: problem.message for problem in problems}
    assert messages[(2, 11, 13)].endswith("'a.jpg' (train), 'copy.jpg' (test)")
    assert "truncated" in messages[(7,)].lower()
    assert messages[(8,)] == "<cat> has no test image"


def test_same_content_within_one_split_is_no_leak(folder: Path) -> None:
    (folder / "copy.jpg").write_bytes((folder / "a.jpg").read_bytes())
    assert check_table(table(folder, "a.jpg,dog,,,train", "copy.jpg,dog,,,train", "b.jpg,dog,,,test")).ok


def test_a_table_is_read_as_training_reads_it(folder: Path) -> None:
    """Absolute paths are taken, and spellings of one unit are one."""
    report = check_table(table(folder, f"{folder / 'a.jpg'},Dog,,,train", "b.jpg,dog,,,test"))
    assert report.ok
    assert [(fold.text, fold.reading) for fold in report.folds] == [("dog", "Dog")]


def test_units_that_stand_for_nothing_are_suspicious(folder: Path) -> None:
    rows = [
        "a.jpg,dog,NaN,,train",
        "b.jpg,dog,NaN,,test",
        "c.jpg,dog,sitting,None,train",
        "d.jpg,dog,sitting,None,test",
    ]
    problems = check_table(table(folder, *rows)).problems
    assert rows_of(problems, "suspicious word") == [(2, 3), (4, 5)]
    assert "missing value: 'NaN' in 2 rows; leave the cell" in problems[0].message


@pytest.mark.parametrize(
    ("written", "on_disk", "reason"),
    [
        ("sub\\{}.jpg", "sub/{}.jpg", "a backslash where the disk has '/': write '/'"),
        ("sub/caf\u00e9{}.jpg", "sub/cafe\u0301{}.jpg", "letters in another Unicode form"),
        ("sub/cafe\u0301{}.jpg", "sub/caf\u00e9{}.jpg", "letters in another Unicode form"),
        ("sub/{}.JPG", "sub/{}.jpg", "other capitals than the file's name"),
    ],
)
def test_paths_in_another_form_are_one_problem(folder: Path, written: str, on_disk: str, reason: str) -> None:
    (folder / "sub").mkdir()
    for name in "xyz":
        photo(folder, on_disk.format(name), ord(name))
    rows = [f"{written.format(name)},dog,,,{'test' if name == 'z' else 'train'}" for name in "xyz"]
    (problem,) = check_table(table(folder, *rows)).problems
    assert (problem.kind, problem.rows) == ("missing file", (2, 3, 4))
    assert problem.message.startswith(f"3 image paths have {reason}")
    read = read_table(folder / "facts.csv")
    with pytest.raises(UserError, match=f"3 of 3 images do not exist, the first .*; its path has {reason[:9]}"):
        require_images(read.root, read.images)


def test_words_that_an_encoder_cannot_tell_apart_are_named(folder: Path) -> None:
    rows = ["a.jpg,\u72ac,,,train", "b.jpg,\u732b,,,test", "c.jpg,dog,,,train", "d.jpg,dog,,,test"]
    report = check_table(table(folder, *rows), alike=lambda words: [[word for word in words if not word.isascii()]])
    assert rows_of(report.problems, "words alike") == [(2, 3)]


def test_only_bad_rows(folder: Path) -> None:
    report = check_table(table(folder, "a.jpg,,,,train", "a.jpg,dog"))
    assert (report.rows, report.bad_rows, report.images) == (0, 2, 0)
    assert report.rows_per_image == {"min": 0, "mean": 0.0, "max": 0}
    assert not report.ok


def test_task_column_is_checked(folder: Path) -> None:
    path = folder / "facts.csv"
    path.write_text(f"task,{HEADER}one,a.jpg,dog,,,train\ntwo,b.jpg,dog,,,test\n")
    assert rows_of(check_table(path, task_column="task").problems, "bad row") == [(3,)]


def test_unusable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        check_table(tmp_path / "no.csv")


def test_boxes_that_reach_outside_their_photo(folder: Path) -> None:
    path = folder / "facts.csv"
    rows = ["a.jpg,dog,,,train,0,0,20,20", "a.jpg,dog,,,train,5,5,21,20", "b.jpg,dog,,,test,20,0,30,9"]
    path.write_text(HEADER.strip() + ",x1,y1,x2,y2\n" + "\n".join([*rows, "a.jpg,dog,,,train,0,0,20,20"]))
    report = check_table(path)
    assert (report.images, report.rows) == (2, 4)
    assert rows_of(report.problems, "duplicate row") == [(2, 5)]
    problems = [problem.message for problem in report.problems if problem.kind == "box outside the photo"]
    assert problems == [
        "box [5, 5, 21, 20] is partly outside 'a.jpg', which has 20 x 20 pixels",
        "box [20, 0, 30, 9] is outside 'b.jpg', which has 20 x 20 pixels",
    ]
