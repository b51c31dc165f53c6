"""The main commands in the order of a user, on a handful of drawn scenes."""

from __future__ import annotations

import io
import json
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tripletcl.cli import main
from tripletcl.compare.plan import plan
from tripletcl.config import load_config
from tripletcl.files import read_json
from tripletcl.runs.train import train

SETTINGS = {
    "model.image_size": 64,
    "data.tasks": 2,
    "data.cache_features": "true",
    "data.scenes.facts": 12,
    "data.scenes.train": 6,
    "data.scenes.test": 2,
    "model.freeze_until": "blocks4",
    "training.epochs": 2,
    "training.batch_size": 8,
    "training.checkpoint_minutes": 0,
    "device": "cpu",
}


@dataclass
class Output:
    """The printed output of a command."""

    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working folder: it holds a config, and the cache."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "small.yaml").write_text("compare: {methods: [finetune, {name: mas, lam: 3}, joint], seeds: [0]}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("COLUMNS", "200")
        yield folder


def tripletcl(*arguments: str, code: int = 0) -> Output:
    """Run a command in this process, where torch is imported already, and check its exit code."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(stdout), redirect_stderr(stderr):
        patch.setattr(sys, "argv", ["tripletcl", *arguments])
        try:
            main()
            exit_code: object = 0
        except SystemExit as exit_:
            exit_code = exit_.code or 0
    assert exit_code == code, stderr.getvalue()
    return Output(stdout.getvalue(), stderr.getvalue())


def settings(**changes: object) -> list[str]:
    return [f"{key}={value}" for key, value in (SETTINGS | changes).items()]


@pytest.fixture(scope="module")
def compared(workplace: Path) -> Path:
    """A finished comparison; joint training had been finished before, in this process."""
    (joint,) = (run for run in plan(load_config("small.yaml", settings()), Path("runs")) if run.label == "joint")
    train(joint.config, joint.folder)
    output = tripletcl("compare", "small.yaml", *settings(), "--out", "runs", "--json")
    rows = json.loads(output.stdout)
    assert [row["method"] for row in rows] == ["finetune", "mas", "joint"]
    return workplace / "runs"


def test_compare_leaves_tables_json_and_a_page(compared: Path) -> None:
    rows = json.loads((compared / "compare.json").read_text())
    for row in rows:
        assert {"method", "seed", "split", "map_tasks", "map_all", "forgetting", "gap_closed", "seconds"} <= row.keys()
        assert len(row["map_tasks"]) == 2
        assert 0 < row["map_all"] <= 1
    assert rows[0]["gap_closed"] in (0, None)  # None where two epochs of joint training are no better than finetune
    assert rows[2]["forgetting"] is None
    assert {"table.md", "table.csv", "table.tex", "properties.md", "report.html"} <= {
        p.name for p in compared.iterdir()
    }
    assert rows[0]["method_bytes"][-1] == 0 < rows[1]["method_bytes"][-1]
    page = (compared / "report.html").read_text()
    assert "data:image" in page
    assert "http" + "://" not in page.replace("http" + "://www.w3.org", "")


def test_finished_runs_are_reused(workplace: Path, compared: Path) -> None:
    before = (compared / "mas-split0-seed0" / "result.json").stat().st_mtime_ns
    tripletcl("compare", "small.yaml", *settings(), "--out", "runs")
    assert (compared / "mas-split0-seed0" / "result.json").stat().st_mtime_ns == before


BROKEN = """
from tripletcl import UserError
from tripletcl.continual import Method

class Broken(Method):
    name = "broken"

    def start(self, learner, inputs):
        raise UserError("the method is broken")
"""


def test_a_failed_run_is_a_row_with_its_reason(
    workplace: Path, compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table and the page hold the runs that are finished."""
    (tmp_path / "broken_method.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(compared, tmp_path / "runs", ignore=shutil.ignore_patterns("table*", "*.html", "compare.json"))
    methods = "compare.methods=[finetune, {name: mas, lam: 3}, joint, broken_method:Broken]"
    output = tripletcl("compare", "small.yaml", methods, *settings(), "--out", str(tmp_path / "runs"), code=2)
    assert "1 of 4 runs failed: broken, split 0, seed 0" in output.stderr
    assert f"page: {tmp_path}/runs/report.html" in output.stdout
    table = (tmp_path / "runs" / "table.md").read_text()
    assert "| broken, split 0, seed 0 | see its output |" in table
    assert [line.split(" ")[1] for line in table.splitlines()[2:5]] == ["finetune", "MAS", "joint"]
    assert len(json.loads((tmp_path / "runs" / "compare.json").read_text())) == 3


def test_a_run_of_another_config_is_refused(workplace: Path, compared: Path) -> None:
    output = tripletcl("compare", "small.yaml", *settings(**{"training.lr": 0.5}), "--out", "runs", code=2)
    assert "holds a run of another config" in output.stderr


def test_evaluate_gives_the_figures_of_the_run(workplace: Path, compared: Path) -> None:
    (row,) = json.loads(tripletcl("evaluate", "runs/mas-split0-seed0", "--json").stdout)
    stored = json.loads((compared / "compare.json").read_text())[1]
    for key in ("method", "seed", "split"):
        assert row[key] == stored[key]
    for key in ("map_tasks", "map_all", "forgetting", "recall", "mrr"):
        assert row[key] == pytest.approx(stored[key], rel=1e-4), key
    (untrained,) = json.loads(tripletcl("evaluate", "runs/mas-split0-seed0", "--stage", "0", "--json").stdout)
    assert untrained["map_all"] != row["map_all"]


def test_index_query_describe(workplace: Path, compared: Path) -> None:
    images = next((workplace / "cache" / "scenes").glob("*/images"))
    tripletcl("index", "runs/mas-split0-seed0", str(images))
    facts = json.loads((compared / "mas-split0-seed0" / "stages" / "stage-02" / "embedder.json").read_text())["facts"]
    subject, predicate, object_ = max(facts, key=lambda fact: sum(unit is not None for unit in fact))
    for words in ([subject, predicate, object_], ["?", predicate, "?"], [f"{subject}, {predicate}, ?"]):
        answer = json.loads(tripletcl("query", "runs/mas-split0-seed0", *words, "-k", "3", "--json").stdout)
        assert len(answer["hits"]) == 3
        assert all(Path(hit["path"]).is_file() for hit in answer["hits"])
        assert answer["notes"] == []
    unknown = json.loads(tripletcl("query", "runs/mas-split0-seed0", "zebra", "--json").stdout)
    assert "never trained" in unknown["notes"][0]
    image = answer["hits"][0]["path"]
    (entry,) = json.loads(tripletcl("describe", "runs/mas-split0-seed0", image, "--json").stdout)
    assert all(row["fact"] in facts for row in entry["facts"])
    probabilities = [row["probability"] for row in entry["facts"]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_an_index_is_synced_with_its_folder(workplace: Path, compared: Path) -> None:
    run, album = "runs/mas-split0-seed0", workplace / "album"
    album.mkdir()
    pictures = sorted(next((workplace / "cache" / "scenes").glob("*/images")).glob("*"))[:5]
    for picture in pictures[:4]:
        shutil.copy(picture, album)
    (album / "broken.jpg").write_bytes(b"no picture")
    out = ["--out", "album.index"]
    created = tripletcl("index", run, "album", *out)
    assert "4 photos in album.index: 4 added, 0 changed, 0 removed, 1 skipped" in created.stdout
    assert "flat: 4 photos" in created.stdout
    assert f"skipped: {album / 'broken.jpg'}: not an image" in created.stdout
    shutil.copy(pictures[4], album)
    (album / pictures[0].name).unlink()
    synced = json.loads(tripletcl("index", run, str(album), *out, "--json").stdout)
    assert [synced[key] for key in ("photos", "added", "changed", "removed", "stage", "kind")] == [
        4,
        1,
        0,
        1,
        2,
        "flat",
    ]
    assert "4 photos in album.index: 0 added" in tripletcl("index", "add", run, str(album), *out).stdout
    removed = tripletcl("index", "remove", run, str(album / pictures[1].name), *out)
    assert "3 photos in album.index: 0 added, 0 changed, 1 removed" in removed.stdout
    about = json.loads(tripletcl("index", "info", run, *out, "--json").stdout)
    assert (about["photos"], about["stage"], len(about["skipped"])) == (3, 2, 1)
    assert about["model"] in tripletcl("index", "info", run, *out).stdout
    refused = tripletcl("index", run, str(album), *out, "--stage", "1", code=2)
    assert f"was made by model {about['model']}, not by " in refused.stderr
    assert "tripletcl index upgrade" in refused.stderr


def test_from_a_script(workplace: Path, compared: Path) -> None:
    code = (
        "from tripletcl import FactEmbedder, FactIndex\n"
        "embedder = FactEmbedder.from_pretrained('runs/mas-split0-seed0/stages/stage-02')\n"
        "index = FactIndex.load('runs/mas-split0-seed0/index', embedder)\n"
        "for hit in index.search('?, running, ?', k=2):\n    print(f'{hit.score:.3f}', hit.path)\n"
    )
    (workplace / "script.py").write_text(code)
    with redirect_stdout(io.StringIO()) as printed:
        runpy.run_path("script.py")
    assert len(printed.getvalue().splitlines()) == 2


def test_from_augmented_images_with_forked_branches_and_a_trained_text_side(workplace: Path) -> None:
    """Without cached features: images as inputs, Model 2, a text projection, importance on other images."""
    changes = {
        "data.cache_features": "false",
        "data.augmentation": "{flip: true, crop: [0.6, 1.0], jitter: 0.2}",
        "data.importance": "both",
        "data.split": "semantic",
        "model.freeze_until": "blocks5",
        "model.fork_at": "blocks6",
        "model.text_projection": "true",
        "model.width": 32,
        "model.centre": "true",
        "training.epochs": 1,
        "method": "mas",
    }
    output = tripletcl("train", "small.yaml", *settings(**changes), "--out", "images", "--json")
    result = json.loads(output.stdout)
    assert result["split"] == "semantic-0"
    stages = [load_file(workplace / "images" / "stages" / f"stage-0{i}" / "model.safetensors") for i in range(3)]
    for name in ("text.projection.weight", "image.heads.1.weight", "image.branches.1.head.conv_head.weight"):
        assert not torch.equal(stages[0][name], stages[1][name]), f"{name} was not trained"
        assert not torch.equal(stages[1][name], stages[2][name]), f"{name} was not trained"
    (scores,) = json.loads(tripletcl("evaluate", "images", "--json").stdout)
    assert scores["map_all"] == pytest.approx(result["map_all"][-1], rel=1e-4)


def test_a_killed_run_ends_with_the_same_numbers(workplace: Path, compared: Path) -> None:
    """After kill -9 during a task, the next start ends with the files of the uninterrupted run, bit for bit."""
    run = workplace / "killed"
    arguments = ["train", "runs/mas-split0-seed0/config.yaml", "--out", str(run), "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "tripletcl", *arguments])
    names: set[str] = set()
    while len(names) < 3 and process.poll() is None:
        names |= {p.name for p in (run / "checkpoints").glob("*.safetensors")}
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    # In a process of its own like the others: this one may use more threads, which sum in another order.
    subprocess.run([sys.executable, "-m", "tripletcl", *arguments], check=True)
    whole = compared / "mas-split0-seed0"
    for name in ("stages/stage-01/model.safetensors", "stages/stage-02/model.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    results = [read_json(folder / "result.json") | {"seconds": 0} for folder in (run, whole)]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nothing"], "no config 'nothing'"),
        (["train", "small.yaml", "training.epoch=3", "loss.name=l3"], "did you mean epochs"),
        (["train", "small.yaml", "method.name=mas", "method.lambda=3"], "lambda"),
        (["train", "small.yaml"], "several methods: give one of method=finetune"),
        (["train", "small.yaml", "method=mas", "data.table=missing.csv"], "missing.csv"),
        (["train", "small.yaml", "method={name: mas, lam: -1}", "--out", "negative"], "at least 0"),
        (["evaluate", "."], "no run folder"),
        (["query", "runs/mas-split0-seed0", "dog", "--index", "no-index"], "no index in no-index"),
        (["index", "runs/mas-split0-seed0", "no-folder"], "no-folder"),
        (["index", "runs/mas-split0-seed0", "runs", "--kind", "tree"], "no index of kind 'tree'"),
        (["index", "add", "runs/mas-split0-seed0", "no-photo.jpg"], "'no-photo.jpg': no such file"),
        (["index", "remove", "runs/mas-split0-seed0", "a.jpg", "--out", "no-index"], "no index in no-index"),
        (["index", "info", "runs/mas-split0-seed0", "--out", "runs"], "no index in runs"),
        (["report", "cache"], "no run folder"),
    ],
)
def test_a_users_error_is_one_sentence_and_code_2(
    workplace: Path, compared: Path, arguments: list[str], words: str
) -> None:
    output = tripletcl(*arguments, code=2)
    assert words in output.stderr
    assert len([line for line in output.stderr.splitlines() if line.startswith("tripletcl:")]) == 1
