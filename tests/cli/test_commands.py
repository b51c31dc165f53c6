"""Every command on a tiny run: what it prints, its JSON, and the errors of one photo among several."""

from __future__ import annotations

import json
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

import fact_archives as archives
import field
import pytest
from command_line import Command
from digits import folders_config, write_folder

from tripletcl.config import dump_config
from tripletcl.report.formatting import MISSING
from tripletcl.runs.train import train


@pytest.fixture(autouse=True)
def cache(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images that were decoded for the finished run."""
    monkeypatch.setenv("TRIPLETCL_CACHE", str(finished / "cache"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with three photos, and a file that is none."""
    field.photos(tmp_path / "photos", "red", 3)
    (tmp_path / "photos" / "broken.png").write_text("no image")
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned to recognise objects, with its photos in red/test."""
    folder = tmp_path_factory.mktemp("objects")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        train(folders_config([write_folder(folder / "red", 3)], training={"epochs": 1}), folder / "run")
    return folder


def test_train_and_continue(finished: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "tiny.yaml").write_text(dump_config(field.settings(finished)))
    run = tmp_path / "tiny"
    output = command("train", tmp_path / "tiny.yaml", "--out", run)
    assert output.code == 0
    assert f"run folder: {run}" in output.out
    assert "task 2" in output.err, "progress goes to the terminal"
    assert command("train", tmp_path / "tiny.yaml", "training.epochs=1", "--out", run).code == 2
    more = field.table(tmp_path, "more", ["purple", "cyan"])
    output = command("train", "--continue", run, more, "training.epochs=1", "--json")
    assert json.loads(output.out)["tasks"] == ["task 1", "task 2", "task 3"]
    assert command("train", "--continue", run, "--out", run).code == 2


def test_evaluate(run: Path, command: Command) -> None:
    output = command("evaluate", run)
    assert output.code == 0
    (own,) = [line.split()[2:] for line in output.out.splitlines() if line.startswith("own images")]
    assert len(own) == 2
    assert all(0 <= float(score) <= 1 for score in own)
    (latest,) = json.loads(command("evaluate", run, "--json").out)
    (first,) = json.loads(command("evaluate", run, "--stage", "1", "--json").out)
    assert (latest["stage"], first["stage"]) == (2, 1)


def test_evaluate_prints_a_dash_for_a_task_without_test_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    place = field.workplace(tmp_path)
    train(field.settings(place), place / "run")
    shutil.rmtree(place / "cache")
    for photo in (place / "base").iterdir():
        photo.unlink()

    output = command("evaluate", place / "run")
    assert output.code == 0
    rows = [line.split() for line in output.out.splitlines() if line.startswith(("own images", "all test images"))]
    assert rows == [["own", "images", MISSING, MISSING], ["all", "test", "images", *[MISSING] * 3]]
    assert f"MRR {MISSING}" in output.out
    (scores,) = json.loads(command("evaluate", place / "run", "--json").out)
    assert scores["map_tasks"] == [None, None]


def test_report(run: Path, command: Command) -> None:
    output = command("report", run)
    assert output.out == f"page: {run / 'report.html'}\n"
    assert (run / "report.html").read_text().lstrip().startswith("<!doctype html>")


def test_methods_and_sets(command: Command) -> None:
    assert "mas_alpha: " in command("methods").out
    assert "mas_alpha" in {method["name"] for method in json.loads(command("methods", "--json").out)}
    assert "download: true" in command("data", "sets").out
    listed = json.loads(command("data", "sets", "--json").out)
    assert {("mnist", "objects"), ("vrd", "facts")} <= {(each["set"], each["learns"]) for each in listed}
    assert "licence as stated: individual research use only" in command("data", "sets").out


def test_export_a_published_set(tmp_path: Path, command: Command) -> None:
    archives.write_vrd(tmp_path / "set")
    output = command("data", "export", "vrd", tmp_path / "set", tmp_path / "out.csv", "orders=[2]")
    assert output.out.splitlines() == [
        f"{tmp_path / 'out.csv'}: 5 rows, 4 images, 2 facts",
        f"image paths are relative to {tmp_path / 'set'}: train on it with data.table={tmp_path / 'out.csv'} "
        f"data.root={tmp_path / 'set'}",
    ]
    assert command("data", "check", tmp_path / "out.csv", "--root", tmp_path / "set").code == 0
    output = command("data", "export", "vrd", tmp_path / "set", tmp_path / "out.csv", "order=[2]")
    assert (output.code, "unknown key data.table.order" in output.err) == (2, True)


def test_data_check_and_scenes(finished: Path, tmp_path: Path, command: Command) -> None:
    output = command("data", "check", finished / "base.csv")
    assert output.code == 0
    assert "no problem found" in output.out
    (tmp_path / "bad.csv").write_text("image,subject,predicate,object,split\nnowhere.png,dog,,,train\n")
    output = command("data", "check", tmp_path / "bad.csv")
    assert output.code == 1
    assert "nowhere.png" in output.out
    assert not json.loads(command("data", "check", tmp_path / "bad.csv", "--json").out)["ok"]
    scenes = tmp_path / "scenes"
    output = command("data", "scenes", scenes, "--facts", "12", "--train", "1", "--test", "1", "--size", "32")
    assert output.out == f"{scenes / 'facts.csv'}\n"
    assert len(list((scenes / "images").iterdir())) == 24


def test_index_query_and_describe(run: Path, photos: Path, command: Command) -> None:
    output = command("index", run, photos)
    assert output.code == 0
    assert f"3 photos in {run / 'index'}: 3 added, 0 changed, 0 removed, 1 skipped" in output.out
    assert f"skipped: {photos / 'broken.png'}: not an image" in output.out
    extra = field.photo(photos.parent / "extra.png", "blue", 1)
    assert json.loads(command("index", "add", run, extra, "--json").out)["photos"] == 4
    assert command("index", "add", run, photos / "missing.png").code == 2
    assert json.loads(command("index", "remove", run, extra, "--json").out)["removed"] == 1
    assert "kind      flat" in command("index", "info", run).out

    output = command("query", run, "?", "lying", "-k", "2", "--sheet", photos.parent / "sheet.png")
    assert output.code == 0
    assert output.out.startswith("understood as <?, lying, ?>")
    assert len([line for line in output.out.splitlines() if line.endswith(".png") and "photos/" in line]) == 2
    assert (photos.parent / "sheet.png").exists()
    answer = json.loads(command("query", run, "--like", photos / "red-0.png", "--json").out)
    assert answer["stage"] == 2
    assert len(answer["hits"]) == 2, "the example is not found itself"

    output = command("describe", run, photos / "red-0.png", photos / "broken.png", "-k", "1")
    assert output.code == 0
    assert re.search(r"^\.\d{3}  <", output.out, re.MULTILINE)
    assert "not an image" in output.out
    output = command("describe", run, photos / "broken.png")
    assert output.code == 2
    assert "not an image" in output.err


def test_a_query_takes_filters_and_prints_dates_and_folders(run: Path, photos: Path, command: Command) -> None:
    old = photos / "red-0.png"
    os.utime(old, (datetime(2019, 6, 30, 12).timestamp(),) * 2)
    command("index", run, photos)
    output = command("query", run, "red", "--before", "2019", "--name", "RED*", "--folder", photos.name)
    assert output.code == 0
    assert f"only photos up to 2019-12-31, folder {photos.name}, name RED*" in output.out
    (line,) = (line for line in output.out.splitlines() if line.endswith(".png"))
    assert line.split()[2:] == ["2019-06-30", photos.name, str(old)]
    words = json.loads(command("query", run, "red, in June 2019", "--json").out)
    assert words["query"].endswith("from 2019-06-01 to 2019-06-30")
    (hit,) = words["hits"]
    assert {"path": str(old), "date": "2019-06-30", "folder": str(photos), "name": old.name}.items() <= hit.items()
    copies = photos.parent / "copies"
    assert f"exported: {copies}" in command("query", run, "red", "-k", "2", "--export", f"folder:{copies}").out
    assert len(list(copies.iterdir())) == 2
    for option, value, sentence in (
        ("--export", "found", "'found' is no place to export to"),
        ("--after", "2030", "none of the 3 photos meets the filter: from 2030-01-01 on"),
        ("--after", "soon", "'soon' is no date; write 2019, 2019-06 or 2019-06-30"),
        ("--near", "here", "'here' is no place"),
        ("--orientation", "upright", "'upright' is no orientation"),
    ):
        output = command("query", run, "red", option, value)
        assert (output.code, output.err.count("\n")) == (2, 1)
        assert sentence in output.err


def test_photos_without_a_file_are_said(run: Path, photos: Path, command: Command) -> None:
    command("index", run, photos)
    moved = photos.rename(photos.parent / "moved")
    removal = f"tripletcl index remove {run} {photos}"
    assert f"3 of these photos have no file any more, {photos / 'red-0.png'} first" in command("index", run, moved).out
    assert removal in command("query", run, "red").out
    assert command("index", run, photos).code == 2
    assert command(*removal.split()[1:]).code == 0
    assert "no file any more" not in command("query", run, "red").out


def test_upgrade_and_drift(run: Path, photos: Path, command: Command) -> None:
    assert command("index", run, photos, "--stage", "1").code == 0
    assert command("query", run, "red").out.count("tripletcl index upgrade") == 1
    field.photos(photos.parent / "more", "blue", 12)
    field.photos(photos.parent / "more", "green", 12)
    upgraded = json.loads(command("index", "upgrade", run, "--images", photos.parent / "more", "--json").out)
    assert (upgraded["from_stage"], upgraded["stage"], upgraded["learned_from"]) == (1, 2, 24)
    assert "are of stage 2 already" in command("index", "upgrade", run).out
    output = command("drift", run)
    assert output.code == 0
    assert "stage 1" in output.out
    (drift,) = json.loads(command("drift", run, "--json").out)
    assert drift["stages"] == [1, 2]


def test_adapt_teach_and_tasks(run: Path, photos: Path, command: Command) -> None:
    output = command("adapt", run, "--images", photos)
    assert output.code == 0
    assert "importance measured on 3 photos" in output.out
    assert "broken.png: not an image" in output.out
    output = command("teach", run, "cyan lying", photos)
    assert output.code == 0
    assert "<cyan, lying> learned from three photos: stage 3" in output.out
    assert "broken.png: not an image" in output.out
    output = command("tasks", run)
    assert "taught: <cyan, l" in output.out
    assert "adapted" in output.out
    known = json.loads(command("tasks", run, "--json").out)
    assert (len(known["tasks"]), len(known["adaptations"])) == (3, 1)
    assert "<cyan, lying> is undone: stage 2 is the latest again" in command("teach", run, "--undo").out
    assert command("teach", run, "--undo").code == 2
    assert command("teach", run).code == 2


def test_recognise(recogniser: Path, command: Command) -> None:
    photos = [recogniser / "red" / "test" / f"class{number}" / "0.png" for number in range(3)]
    output = command("recognise", recogniser / "run", *photos)
    assert output.code == 0
    assert [line.partition(": ")[0] for line in output.out.splitlines()] == list(map(str, photos))
    assert re.search(r": class\d \.\d\d, class\d \.\d\d, class\d \.\d\d$", output.out.splitlines()[0])


def test_recognise_passes_over_a_broken_photo_and_names_it(recogniser: Path, photos: Path, command: Command) -> None:
    run, whole, broken = recogniser / "run", recogniser / "red" / "test" / "class0" / "0.png", photos / "broken.png"
    output = command("recognise", run, broken, whole)
    assert output.code == 0
    assert output.out.splitlines()[0].startswith(f"{broken}: not an image")
    assert output.out.splitlines()[1].startswith(f"{whole}: class")
    first, second = json.loads(command("recognise", run, broken, whole, "--json").out)
    assert set(first) == {"image", "error"}
    assert second["image"] == str(whole)
    assert "label" in second
    output = command("recognise", run, broken)
    assert output.code == 2
    assert output.err == f"tripletcl: {broken}: not an image, or of a format that Pillow cannot read\n"


def test_an_argument_that_is_no_photo_ends_a_command_before_its_work(
    run: Path, recogniser: Path, photos: Path, command: Command
) -> None:
    photo = next(photos.glob("*.png"))
    for words in (
        ("teach", run, "person", "riding", "unicycle", photo),
        ("describe", run, "riding", photo),
        ("recognise", recogniser / "run", "riding", photo),
        ("index", "add", run, "riding", photo),
    ):
        output = command(*words)
        assert (output.code, output.out) == (2, "")
        assert output.err.startswith("tripletcl: 'riding': no such file; put what has several words in quotes, as in ")


def test_a_lesson_is_read_in_the_words_of_the_run(run: Path, photos: Path, command: Command) -> None:
    assert "<red, standing> learned from" in command("teach", run, "the Red stands", photos).out
    output = command("teach", run, "ice cream", photos)
    assert (output.code, "can be read in several ways" in output.err) == (2, True)


def test_names_in_tables_are_no_markup(run: Path, tmp_path: Path, command: Command) -> None:
    """Square brackets are printed as they are, in titles and in cells."""
    bracketed = Path(shutil.move(run, tmp_path / "[bold]run[/]"))
    assert "[bold]run[/], after task 2" in command("evaluate", bracketed).out
    table = field.table(tmp_path, "[red]more", ["purple", "cyan"])
    assert command("train", "--continue", bracketed, table, "training.epochs=1", "--quiet").code == 0
    assert "[red]more.csv" in command("tasks", bracketed).out


@pytest.mark.parametrize("words", [(), ("data",), ("index",)])
def test_help_names_every_command_and_describes_it(words: tuple[str, ...], command: Command) -> None:
    overview = command(*words, "--help").out
    names = re.findall(r"^  ([a-z]+)  +[A-Z]", overview.partition("Commands:")[2], re.MULTILINE)
    assert len(names) >= 3
    for name in names:
        output = command(*words, name, "--help")
        assert output.code == 0
        assert output.out.startswith("Usage: ")
