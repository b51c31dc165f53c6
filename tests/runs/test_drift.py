"""Drift of a small run of two tasks: MAP of its first stage's index afterwards, and the upgrade of the index."""

from __future__ import annotations

import io
import json
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import field
import numpy as np
import pytest
import torch

from tripletcl.cli import main
from tripletcl.config import parse_config
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation import FactEvaluator
from tripletcl.report.formatting import fraction
from tripletcl.retrieval import FactIndex
from tripletcl.runs import upgrade_index
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.drift import measure_drift, read_drift
from tripletcl.runs.layout import DRIFT
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train
from tripletcl.runs.upgrade_index import training_photos

SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "data": {"scenes": {"facts": 12, "train": 6, "test": 2}, "tasks": 2, "cache_features": True},
    "model": {"image_size": 64, "freeze_until": "blocks4"},
    "training": {"epochs": 3, "batch_size": 8},
    "method": {"name": "finetune"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished run of two tasks; its cache is next to it."""
    folder = tmp_path_factory.mktemp("drift")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        patch.setenv("COLUMNS", "200")
        train(parse_config(SETTINGS, "test"), folder / "run")
        yield folder / "run"


@pytest.fixture(scope="module")
def measured(run: Path) -> dict[str, Any]:
    return measure_drift(run)


@pytest.fixture(scope="module")
def old_index(run: Path, tests: Path) -> Path:
    """The test images, embedded by the model of the first task."""
    run_command(["index", str(run), str(tests), "--stage", "1", "--out", str(run.parent / "old-index")])
    return run.parent / "old-index"


@pytest.fixture(scope="module")
def tests(run: Path) -> Path:
    """A folder of only the test images."""
    table, folder = FactRun.open(run).table(), run.parent / "tests"
    folder.mkdir()
    for image in np.unique(table.rows_of("test")[:, 0]):
        shutil.copy(table.paths[image], folder)
    return folder


@pytest.fixture
def index(old_index: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(old_index, tmp_path / "index"))


def run_command(arguments: list[str], code: int = 0) -> str:
    """Run a command, and return its output, or the error of one that fails."""
    out, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(errors):
        patch.setattr(sys, "argv", ["tripletcl", *arguments])
        try:
            main()
            ended: object = 0
        except SystemExit as end:
            ended = end.code or 0
    assert ended == code, errors.getvalue()
    return errors.getvalue() if code else out.getvalue()


# --- the measurement -------------------------------------------------------------------------------------------------


def test_the_matrix_has_what_the_run_measured_on_its_own_galleries(run: Path, measured: dict[str, Any]) -> None:
    result = FactRun.open(run).result
    assert result is not None
    assert measured["stages"] == [1, 2]
    matrix = measured["matrix"]
    assert matrix["all"][1][1] == pytest.approx(result.final)
    assert matrix["old"][0][0] == pytest.approx(result.map_matrix_all[1][0])
    # The text branch is frozen: the new model's queries find the same in the old gallery as the old model's.
    assert matrix["old"][0][1] == pytest.approx(result.map_matrix_all[1][0])
    assert matrix["new"][0][1] == pytest.approx(result.map_matrix_all[1][1])
    assert matrix["new"][1][0] == pytest.approx(result.map_matrix_all[2][1])
    assert matrix["new"][0][0] is None
    assert measured["ac"] == {"all": 0.0, "old": 0.0, "new": 0.0}
    assert measured["aa"]["old"] == pytest.approx(
        np.mean([matrix["old"][0][0], *matrix["old"][0][1:], matrix["old"][1][1]])
    )


def test_the_states_of_an_index_agree_with_the_matrix_and_each_other(measured: dict[str, Any]) -> None:
    (up,) = measured["upgrades"]
    assert (up["from"], up["to"], up["exact"]) == (1, 2, False)
    assert up["how"] == "kernel"
    assert 0 < up["held_out_error"]["kernel"] < up["held_out_error"]["identity"]
    for group, at in (("all", (0, 1)), ("old", (0, 1)), ("new", (0, 1))):
        assert up["map"]["stale"][group] == pytest.approx(measured["matrix"][group][at[0]][at[1]])
    assert up["map"]["reembedded"]["all"] == pytest.approx(measured["matrix"]["all"][1][1])
    stale, upgraded, reembedded = (up["map"][way]["new"] for way in ("stale", "upgraded", "reembedded"))
    lost = reembedded - stale  # whether the toy's stale index has lost anything depends on rounding
    assert up["recovered"]["new"] == (pytest.approx((upgraded - stale) / lost) if lost > 0 else None)


def test_an_upgraded_index_has_the_measured_map(run: Path, index: Path, measured: dict[str, Any]) -> None:
    run_command(["index", "upgrade", str(run), "--index", str(index)])
    upgraded, table = FactIndex.load(index), FactRun.open(run).table()
    place = {path.name: row for row, path in enumerate(upgraded.paths)}
    ids = np.unique(table.rows_of("test")[:, 0])
    rows = upgraded.rows([place[table.paths[image].name] for image in ids])
    vectors = FactRun.open(run).vectors(2)
    evaluator = FactEvaluator(table, [np.arange(len(table.facts))], vectors["facts"], vectors["present"])
    result = evaluator.evaluate(torch.from_numpy(rows.copy()).unflatten(1, (3, -1)), ids)
    # Not equal to the last digit: the measurement uses cached features of half precision.
    assert result.map_all == pytest.approx(measured["upgrades"][0]["map"]["upgraded"]["all"], abs=0.02)


def test_a_result_is_stored_with_the_run_and_valid_for_its_models(run: Path, measured: dict[str, Any]) -> None:
    assert read_drift(run) == measured
    about = run / "stages" / "stage-02" / "embedder.json"
    before = about.read_text()
    try:
        other = json.loads(before) | {"weights_sha256": "another"}
        del other["sha256"]
        about.write_text(json.dumps(other))
        assert read_drift(run) is None
    finally:
        about.write_text(before)
    assert read_drift(run.parent) is None


def test_the_command_prints_the_stored_result(run: Path, measured: dict[str, Any]) -> None:
    printed = run_command(["drift", str(run)])
    for way in ("stale", "mapped", "upgraded", "reembedded"):
        assert fraction(measured["upgrades"][0]["map"][way]["new"]) in printed
    assert "AC .000" in printed
    (printed_result,) = json.loads(run_command(["drift", str(run), "--json"]))
    assert printed_result == {"run": str(run), **measured}
    assert (run / DRIFT).exists()


def test_the_page_shows_it(run: Path, measured: dict[str, Any]) -> None:
    run_command(["report", str(run)])
    assert "Photo indexes after more learning" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("stages", [[2], [0], [7]])
def test_only_stages_before_the_last_become_stale(run: Path, stages: list[int]) -> None:
    with pytest.raises(UserError, match=rf"no stage {stages[0]} before the last; there are \[1\]"):
        measure_drift(run, stages)


def test_a_continued_run_is_measured_without_the_photos_of_its_first_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    train(field.settings(field.workplace(tmp_path), method={"name": "finetune"}), folder)
    continue_run(folder, field.table(tmp_path, "more", ["purple", "cyan"], train=12))
    before = measure_drift(folder, [2])
    assert before["stages"] == [1, 2, 3]
    assert before["upgrades"][0]["photos"] == 24
    for folder_to_delete in (tmp_path / "base", tmp_path / "cache"):
        shutil.rmtree(folder_to_delete)
    after = measure_drift(folder, [2])
    assert after["upgrades"][0]["map"]["stale"] == pytest.approx(before["upgrades"][0]["map"]["stale"])
    np.testing.assert_allclose(after["matrix"]["all"], before["matrix"]["all"], atol=1e-6)
    expected = {f"{colour}-{number}.png" for colour in ("purple", "cyan") for number in range(12)}
    assert {path.name for path in training_photos(FactRun.open(folder), 1, 3)} == expected


# --- the index -------------------------------------------------------------------------------------------------------


def test_an_index_is_upgraded_to_the_latest_stage_once(run: Path, index: Path) -> None:
    before = FactIndex.load(index)
    paths, rows = list(before.paths), before.rows().copy()
    done = json.loads(run_command(["index", "upgrade", str(run), "--index", str(index), "--json"]))
    assert (done["from_stage"], done["stage"], done["photos"]) == (1, 2, len(paths))
    assert done["how"] == "kernel"
    assert done["learned_from"] == len(training_photos(FactRun.open(run), 1, 2))
    embedder = FactEmbedder.from_pretrained(FactRun.open(run).stage_folder(2))
    after = FactIndex.load(index, embedder)
    assert (list(after.paths), after.stage, after.model) == (paths, 2, done["model"])
    assert not np.allclose(after.rows(), rows)
    assert "are of stage 2 already" in run_command(["index", "upgrade", str(run), "--index", str(index)])
    np.testing.assert_array_equal(FactIndex.load(index).rows(), after.rows())


def test_it_prints_the_map_and_its_error(run: Path, index: Path) -> None:
    printed = run_command(["index", "upgrade", str(run), "--index", str(index)])
    assert "stage 1 -> 2 by the map 'kernel'" in printed
    assert "33% of each old vector is kept" in printed
    assert re.search(r"1 - cosine on \d+ held-out photos: kernel \.\d+, identity \.\d+", printed)


def test_it_learns_from_any_photos(run: Path, index: Path, tests: Path) -> None:
    words = ["index", "upgrade", str(run), "--index", str(index), "--images", str(tests), "--keep", "0", "--json"]
    done = json.loads(run_command(words))
    assert (done["learned_from"], done["keep"]) == (len(list(tests.iterdir())), 0)


def test_too_few_photos_are_refused_in_a_sentence(run: Path, index: Path, tests: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for photo in sorted(tests.iterdir())[:3]:
        shutil.copy(photo, few)
    error = run_command(["index", "upgrade", str(run), "--index", str(index), "--images", str(few)], code=2)
    assert error.strip().endswith("3 photos are too few to learn a map of vectors from; it takes 20")


def test_an_index_of_another_run_is_refused_with_both_models(run: Path, index: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    for stage in (0, 1):
        shutil.rmtree(other / "stages" / f"stage-{stage:02}")
    error = run_command(["index", "upgrade", str(other), "--index", str(index)], code=2)
    assert f"made by model {FactRun.open(run).fingerprint(1)}, which is no stage of" in error
    assert FactRun.open(run).fingerprint(2) in error
    assert FactIndex.load(index).stage == 1


def test_without_training_photos_it_learns_from_stored_test_vectors(
    run: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade_index, "training_photos", lambda *_: [])
    done = json.loads(run_command(["index", "upgrade", str(run), "--index", str(index), "--json"]))
    assert (done["stage"], done["learned_from"]) == (2, len(FactRun.open(run).vectors(2)["image_ids"]))


def test_it_learns_from_the_present_photos_of_the_tasks_between(run: Path) -> None:
    opened = FactRun.open(run)
    table = opened.table()
    groups = opened.read_tasks()
    expected = {table.paths[image] for image, _ in table.rows_of("train", groups[1])}
    assert set(training_photos(opened, 1, 2)) == expected == set(training_photos(opened, 2, 1))
    hidden = sorted(expected)[0]
    moved = hidden.rename(hidden.with_suffix(".gone"))
    try:
        assert set(training_photos(opened, 1, 2)) == expected - {hidden}
    finally:
        moved.rename(hidden)
