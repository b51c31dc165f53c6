"""A run refuses other rows or photos than it learned from, and runs on other data are not compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import field
import pytest
import torch

from tripletcl.compare.plan import compare, plan
from tripletcl.compare.write import write_summary
from tripletcl.config import FactConfig, parse_config
from tripletcl.errors import UserError
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train
from tripletcl.web.state import open_state


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a table, its photos, and a finished run; not to be changed."""
    folder, threads = field.workplace(tmp_path_factory.mktemp("field")), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        train(field.settings(folder, field.ANALYTIC), folder / "run")
        yield folder
    torch.set_num_threads(threads)


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    """The same, to be changed; the run names the table that was copied."""
    shutil.copytree(trained, tmp_path / "place")
    path = tmp_path / "place" / "run" / "config.yaml"
    path.write_text(path.read_text().replace(str(trained), str(tmp_path / "place")))
    return tmp_path / "place"


def settings(place: Path) -> FactConfig:
    return field.settings(place, field.ANALYTIC)


def test_a_finished_run_is_that_of_its_table_wherever_that_lies_now(place: Path) -> None:
    assert train(settings(place), place / "run") == FactRun.open(place / "run").result
    table = place / "base.csv"
    table.unlink()
    assert train(settings(place), place / "run") == FactRun.open(place / "run").result
    shutil.rmtree(place / "base")
    assert train(settings(place), place / "run") == FactRun.open(place / "run").result


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("red,lying", "purple,lying", r"row 1 was <red, lying> \(train\), and is <purple, lying> \(train\)"),
        ("base/red-8.png,red,lying,,test\n", "", "it had 36 rows and has 35"),
        ("base/red-0.png", "base/green-0.png", "its rows name other photos"),
    ],
)
def test_other_rows_are_refused(place: Path, old: str, new: str, words: str) -> None:
    table = place / "base.csv"
    table.write_text(table.read_text().replace(old, new))
    before = field.contents(place / "run", "")
    with pytest.raises(UserError, match=rf"base\.csv has changed since .*run learned from it: {words}; name another"):
        train(settings(place), place / "run")
    assert field.contents(place / "run", "") == before


def test_a_photo_of_another_content_is_refused_also_by_a_comparison(place: Path) -> None:
    values = settings(place).model_dump(mode="json", exclude={"compare"})
    config = parse_config({**values, "compare": {"methods": [field.ANALYTIC]}}, "test")
    (run,) = plan(config, place)
    train(run.config, run.folder)
    assert compare(config, place) == [run.result]
    field.photo(place / "base" / "red-3.png", "red", 7)
    with pytest.raises(UserError, match=r"1 of its 36 photos have another content; the first is .*red-3\.png; name"):
        train(settings(place), place / "run")
    with pytest.raises(UserError, match="1 of its 36 photos have another content"):
        compare(config, place)


def test_a_follow_up_table_that_changed_is_refused(place: Path) -> None:
    more = field.table(place, "more", ["purple"])
    continue_run(place / "run", more)
    config = FactRun.open(place / "run").settings
    train(config, place / "run")
    field.photo(place / "more" / "purple-3.png", "red", 7)
    with pytest.raises(UserError, match=r"more\.csv has changed since .*: 1 of its 9 photos have another content"):
        train(config, place / "run")


def test_runs_on_other_data_are_not_on_one_page(place: Path) -> None:
    others = settings(place).model_copy(update={"seed": 1})
    train(others, place / "same")
    assert FactRun.open(place / "run").data_digests == FactRun.open(place / "same").data_digests != {}
    write_summary([place / "run", place / "same"], place / "page.html")
    field.photo(place / "base" / "red-3.png", "red", 7)
    train(others, place / "other")
    with pytest.raises(UserError, match=r"run and .*other learned from other rows or images, so their figures do not"):
        write_summary([place / "run", place / "other"], place / "page.html")
    open_state(place / "run", place / "same")
    with pytest.raises(UserError, match=r"other has other images or tasks than .*run; a run can be compared"):
        open_state(place / "run", place / "other")


def test_a_run_without_contents_still_opens(place: Path) -> None:
    """As early versions stored it."""
    base = place / "run" / "tables" / "base.csv"
    lines = [line.rpartition(",")[0] for line in base.read_text().splitlines()]
    base.write_text("\n".join(lines) + "\n")
    tasks = place / "run" / "tasks.json"
    tasks.write_text(json.dumps(json.loads(tasks.read_text())["tasks"]))
    assert FactRun.open(place / "run").data_digests == {}
    assert train(settings(place), place / "run") == FactRun.open(place / "run").result
    (place / "base.csv").write_text((place / "base.csv").read_text().replace("red,lying", "purple,lying"))
    with pytest.raises(UserError, match="has changed since"):
        train(settings(place), place / "run")
