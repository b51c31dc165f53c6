"""A run on disk: what it holds, in order; it is read once, and reading it changes nothing."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import field
import pytest

import tripletcl
from tripletcl.cli import main
from tripletcl.compare.plan import plan
from tripletcl.config import dump_config, parse_config
from tripletcl.errors import UserError
from tripletcl.runs import layout, stored
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.history import task_records
from tripletcl.runs.kinds import open_run
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach, undo
from tripletcl.runs.train import train

MOST_FILES = 37
"""Of the package that a query runs through; 47 in version 0.1, which had no filters, no dates beside hits, no base
model and no answer that nothing is shown."""


@pytest.fixture(scope="module")
def finished(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a photo index and a lesson; not to be changed."""
    run = Path(shutil.copytree(place / "analytic", tmp_path_factory.mktemp("finished") / "run"))
    command("index", str(run), str(place / "base"))
    teach(run, "cyan lying", field.photos(place / "picks", "cyan", 5))
    return run


def command(*words: str) -> None:
    """Run `tripletcl` in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tripletcl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code


@pytest.fixture
def long_run(tmp_path: Path) -> FactRun:
    """The folder of a run of 101 stages whose models are empty files."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(dump_config(field.settings(tmp_path)))
    for stage in range(102):
        folder = run / "stages" / f"stage-{stage:02d}"
        folder.mkdir(parents=True)
        (folder / "embedder.json").write_text(f'{{"fingerprint": "{stage % 100}"}}')
        (folder / "vectors.safetensors").write_text("")
    return FactRun.open(run)


def test_the_latest_stage_is_the_one_of_the_highest_number(long_run: FactRun) -> None:
    assert long_run.stages == list(range(102))
    assert long_run.stage_folder().name == "stage-101"
    assert long_run.fingerprint() == "1"
    assert long_run.stage_of("1") == 101
    assert long_run.stage_of("2") == 2
    with pytest.raises(UserError, match="has no model of stage 102"):
        long_run.stage_folder(102)


def test_a_lesson_reads_the_settings_once(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    calls: list[str] = []

    def counted(values: dict[str, Any], source: str) -> object:
        calls.append(source)
        return parse_config(values, source)

    monkeypatch.setattr(stored, "parse_config", counted)
    photos = field.photos(tmp_path / "picks", "purple", 5)
    for action in (lambda: teach(run, "purple lying", photos), lambda: undo(run), lambda: task_records(run)):
        calls.clear()
        action()
        assert calls == [str(run / "config.yaml")]


def test_reading_writes_nothing(finished: Path, tmp_path: Path) -> None:
    before = field.contents(finished, "")
    run = open_run(finished)
    assert isinstance(run, FactRun)
    for name in dir(run):
        getattr(run, name)
    assert (run.task_count, run.first_tasks, run.undo_stage, run.stage_of_index()) == (3, 2, 2, 3)
    assert len(run.table().facts) == 5
    assert field.contents(finished, "") == before
    (planned,) = plan(field.settings(tmp_path).model_copy(), tmp_path / "out")[:1]
    assert planned.result is None
    assert not (tmp_path / "out").exists()


def test_every_file_of_a_run_is_named(finished: Path) -> None:
    """By the picture of a run in `tripletcl.runs.layout`."""
    named = re.findall(r"^(?: {4}RUN/| {8})(\S+)", layout.__doc__ or "", flags=re.MULTILINE)
    known = {name.rstrip("/") for name in named}
    for file in (path for path in finished.rglob("*") if path.is_file()):
        parts = file.relative_to(finished).parts
        names = {"/".join(parts[: depth + 1]) for depth in range(len(parts))} | {parts[-1]}
        assert names & known or parts[0] == "stages", file
    stage = {path.name for path in FactRun.open(finished).stage_folder().iterdir()}
    assert stage - known == {"embedder.json", "model.safetensors"}


def test_tasks_whose_test_photos_are_missing_have_no_score(place: Path, tmp_path: Path) -> None:
    """Nothing is cached, since the trunk is trained."""
    for colour in ("red", "green", "blue", "yellow"):
        for number in range(9):
            field.photo(tmp_path / "base" / f"{colour}-{number}.png", colour, number)
    shutil.copy(place / "base.csv", tmp_path)
    config = field.settings(place, training={"epochs": 1}, table=str(tmp_path / "base.csv"), cache_features=False)
    train(config, tmp_path / "run")
    whole = evaluate(tmp_path / "run")
    run = FactRun.open(tmp_path / "run")
    table, first = run.table(), run.read_tasks()[0]
    for image in {image for image, _ in table.rows_of("test", first).tolist()}:
        table.paths[image].unlink()
    scores = evaluate(tmp_path / "run")
    assert scores["map_tasks"][0] is None
    assert scores["map_tasks_all"][0] is None
    assert scores["map_tasks"][1] == pytest.approx(whole["map_tasks"][1])
    shutil.rmtree(tmp_path / "base")
    scores = evaluate(tmp_path / "run")
    assert scores["map_tasks"] == [None, None]
    assert scores["map_all"] is scores["mrr"] is None
    assert set(scores["recall"].values()) == {None}


def test_a_query_goes_through_few_files(finished: Path) -> None:
    """As many as a reader opens who follows `tripletcl query` to its end; imports do not count."""
    command("query", str(finished), "red lying")
    package, files = Path(tripletcl.__file__).parent, set[str]()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(package)):
            files.add(str(Path(frame.f_code.co_filename).relative_to(package)))

    sys.setprofile(note)
    try:
        command("query", str(finished), "red lying")
    finally:
        sys.setprofile(None)
    assert len(files) <= MOST_FILES, "\n".join(sorted(files))
