"""Damaged files of a run: a command refuses each in one sentence, or answers as it did before."""

from __future__ import annotations

import io
import json
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import field
import pytest

from tripletcl.cli import main
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.retrieval import writing
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.history import task_records
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach
from tripletcl.runs.train import train

COMMANDS = {
    "query": "query run red --like picks/cyan-0.png --json",
    "describe": "describe run picks/cyan-0.png --json",
    "tasks": "tasks run --json",
    "evaluate": "evaluate run --json",
    "report": "report run --out page.html",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run with a lesson and an index, in the working folder; `whole` is its copy."""
    folder = field.workplace(tmp_path_factory.mktemp("field"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        train(field.settings(folder, field.ANALYTIC), folder / "run")
        teach(folder / "run", "cyan lying", field.photos(folder / "picks", "cyan", 6))
        run = FactRun.open(folder / "run")
        with writing(run.index, FactEmbedder.from_pretrained(run.stage_folder()), stage=run.stage()) as index:
            index.sync(folder / "base")
        answer("query")  # fits the calibration
        shutil.copytree(folder / "run", folder / "whole")
        yield folder


@pytest.fixture
def run(place: Path) -> Path:
    """The run, to be damaged."""
    shutil.rmtree(place / "run")
    return Path(shutil.copytree(place / "whole", place / "run"))


def answer(name: str) -> tuple[int, str]:
    """Run a command; returns its exit code, and its result or its message."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["tripletcl", *COMMANDS[name].split()])
        try:
            main()
        except SystemExit as end:
            if end.code:
                return int(str(end.code)), err.getvalue()
    return 0, Path("page.html").read_text() if name == "report" else out.getvalue()


def damage(path: Path, number: int) -> None:
    """Cut a file, empty it, or change some of its bytes."""
    raw, rng = bytearray(path.read_bytes()), random.Random(number)
    if number % 4 < 2:
        del raw[rng.randrange(len(raw)) if number % 4 else 0 :]
    for _ in range(number % 4 - 1):
        raw[rng.randrange(len(raw))] ^= rng.randrange(1, 256)
    path.write_bytes(raw)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_damaged_file_is_refused_or_changes_nothing(name: str, place: Path, run: Path) -> None:
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size]
    expected, refused, latest = answer(name), 0, FactRun.open(run).stage_folder()
    for number, path in enumerate(file for file in files if file.name != "config.yaml"):
        if number % 3 and number % len(COMMANDS) != list(COMMANDS).index(name) and path.parent != latest:
            continue
        whole = path.read_bytes()
        damage(path, number + len(name))
        code, text = answer(name)
        if code:
            refused += 1
            *_, last = text.strip().splitlines()
            assert (code, last[:11], "Traceback" in text) == (2, "tripletcl: ", False), (path, text)
        else:
            assert text == expected[1], path
        path.write_bytes(whole)
    assert refused


@pytest.mark.parametrize(
    "content", [b"", b"data: {tasks: '", b"\xff\xfe", b"data: {tasks: []}", b"[1]", b"learns: facts"]
)
def test_damaged_settings_are_refused(run: Path, content: bytes) -> None:
    """What is missing is no default: a run on other data would be prepared."""
    (run / "config.yaml").write_bytes(content)
    code, text = answer("tasks")
    assert (code, text.count("\n")) == (2, 1)
    assert "config.yaml" in text


def test_an_index_whose_database_was_emptied_keeps_its_vectors(run: Path) -> None:
    before = field.contents(run, "index")
    (run / "index" / "index.db").write_bytes(b"")
    with pytest.raises(UserError, match=r"index\.db is empty"), writing(run / "index"):
        pass
    assert field.contents(run, "index").keys() == before.keys()


def test_a_changed_table_of_a_run_is_refused(run: Path) -> None:
    path = run / "tables" / "base.csv"
    path.write_text(path.read_text().replace("red,lying", "red,dying"))
    with pytest.raises(UserError, match=r"base\.csv is damaged \(its SHA-256 is not the one in tasks\.json\)"):
        FactRun.open(run).table()


def test_figures_that_are_missing_are_named(run: Path) -> None:
    (run / "result.json").unlink()
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    rest = [line for line in lines if line.get("after") != 1]
    path.write_text("".join(json.dumps(line) + "\n" for line in rest))
    with pytest.raises(UserError, match=r"metrics\.jsonl has no figures of stage 1: restore it from a copy"):
        continue_run(run)
    stages = [{key: value for key, value in line.items() if key not in ("map_all", "sha256")} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in stages))
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged \(it lacks 'map_all'\)"):
        continue_run(run)


def test_nothing_is_learned_on_top_of_a_lost_stage(place: Path, run: Path) -> None:
    *_, latest = sorted((run / "checkpoints").iterdir())
    latest.write_bytes(latest.read_bytes()[:-1])
    photos = field.photos(place / "more", "purple", 4)
    with pytest.raises(UserError, match=r"the checkpoint of the end of .*run is damaged: .*result\.json") as refused:
        teach(run, "purple standing", photos)
    assert "since stage 2 again" in str(refused.value)
    before = FactRun.open(run).result
    (run / "result.json").unlink()
    assert continue_run(run).matrix == before.matrix
    assert teach(run, "purple standing", photos).stage == 4
    assert len(task_records(run)) == 4
