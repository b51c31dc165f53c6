"""The whole way as a user goes it, on a handful of drawn scenes: commands in, files and printed results out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config; the cache lies in it, too."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "small.yaml").write_text("compare: {methods: [finetune, {name: mas, lam: 3}, joint], seeds: [0]}\n")
    return folder


def command(workplace: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tripletcl", *arguments]


def environment(workplace: Path) -> dict[str, str]:
    return os.environ | {"TRIPLETCL_CACHE": str(workplace / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def tripletcl(workplace: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and check its exit code."""
    ended = subprocess.run(
        command(workplace, *arguments),
        cwd=workplace,
        env=environment(workplace),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended


def settings(**changes: object) -> list[str]:
    return [f"{key}={value}" for key, value in (SETTINGS | changes).items()]


@pytest.fixture(scope="module")
def compared(workplace: Path) -> Path:
    """A finished comparison."""
    ended = tripletcl(workplace, "compare", "small.yaml", *settings(), "--out", "runs", "--json")
    rows = json.loads(ended.stdout)
    assert [row["method"] for row in rows] == ["finetune", "mas", "joint"]
    return workplace / "runs"


def test_compare_leaves_tables_json_and_a_page(compared: Path) -> None:
    rows = json.loads((compared / "compare.json").read_text())
    for row in rows:
        assert {"method", "seed", "split", "map_tasks", "map_all", "forgetting", "gap_closed", "seconds"} <= row.keys()
        assert len(row["map_tasks"]) == 2
        assert 0 < row["map_all"] <= 1
    assert rows[0]["gap_closed"] == 0
    assert rows[2]["forgetting"] is None
    assert {"table.md", "table.csv", "table.tex", "report.html"} <= {p.name for p in compared.iterdir()}
    page = (compared / "report.html").read_text()
    assert "data:image" in page
    assert "http" + "://" not in page.replace("http" + "://www.w3.org", "")


def test_finished_runs_are_reused(workplace: Path, compared: Path) -> None:
    before = (compared / "mas-seed0" / "result.json").stat().st_mtime_ns
    tripletcl(workplace, "compare", "small.yaml", *settings(), "--out", "runs")
    assert (compared / "mas-seed0" / "result.json").stat().st_mtime_ns == before


def test_a_run_of_another_config_is_refused(workplace: Path, compared: Path) -> None:
    ended = tripletcl(workplace, "compare", "small.yaml", *settings(**{"training.lr": 0.5}), "--out", "runs", code=2)
    assert "holds a run of another config" in ended.stderr


def test_evaluate_gives_the_figures_of_the_run(workplace: Path, compared: Path) -> None:
    (row,) = json.loads(tripletcl(workplace, "evaluate", "runs/mas-seed0", "--json").stdout)
    recorded = json.loads((compared / "compare.json").read_text())[1]
    for key in ("method", "seed", "split", "map_tasks", "map_all", "forgetting", "recall", "mrr"):
        assert row[key] == pytest.approx(recorded[key], rel=1e-4), key
    (early,) = json.loads(tripletcl(workplace, "evaluate", "runs/mas-seed0", "--stage", "0", "--json").stdout)
    assert early["map_all"] != row["map_all"]


def test_index_query_describe(workplace: Path, compared: Path) -> None:
    images = next((workplace / "cache" / "scenes").glob("*/images"))
    tripletcl(workplace, "index", "runs/mas-seed0", str(images))
    facts = json.loads((compared / "mas-seed0" / "stages" / "stage-02" / "embedder.json").read_text())["facts"]
    subject, predicate, object_ = max(facts, key=lambda fact: sum(unit is not None for unit in fact))
    for words in ([subject, predicate, object_], ["?", predicate, "?"], [f"{subject}, {predicate}, ?"]):
        found = json.loads(tripletcl(workplace, "query", "runs/mas-seed0", *words, "-k", "3", "--json").stdout)
        assert len(found["hits"]) == 3
        assert all(Path(hit["path"]).is_file() for hit in found["hits"])
        assert found["notes"] == []
    unknown = json.loads(tripletcl(workplace, "query", "runs/mas-seed0", "zebra", "--json").stdout)
    assert "never trained" in unknown["notes"][0]
    image = found["hits"][0]["path"]
    ranked = json.loads(tripletcl(workplace, "describe", "runs/mas-seed0", image, "--json").stdout)
    assert all(row["fact"] in facts for row in ranked)
    assert [row["score"] for row in ranked] == sorted((row["score"] for row in ranked), reverse=True)


def test_from_a_script(workplace: Path, compared: Path) -> None:
    code = (
        "from tripletcl import FactEmbedder, FactIndex\n"
        "embedder = FactEmbedder.from_pretrained('runs/mas-seed0/stages/stage-02')\n"
        "index = FactIndex.load('runs/mas-seed0/index', embedder)\n"
        "for hit in index.search('?, running, ?', k=2):\n    print(f'{hit.score:.3f}', hit.path)\n"
    )
    (workplace / "script.py").write_text(code)
    ended = subprocess.run(
        [sys.executable, "script.py"], cwd=workplace, env=environment(workplace), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 2


def test_killed_at_any_moment_the_numbers_stay(workplace: Path, compared: Path) -> None:
    """kill -9 twice in mid-task; the third start ends with the files of the uninterrupted run, bit for bit."""
    run = workplace / "killed"
    arguments = ["train", "runs/mas-seed0/config.yaml", "--out", str(run), "--quiet"]
    for wanted in (2, 5):
        process = subprocess.Popen(command(workplace, *arguments), cwd=workplace, env=environment(workplace))
        seen: set[str] = set()
        while len(seen) < wanted and process.poll() is None:
            seen |= {p.name for p in (run / "checkpoints").glob("*.safetensors")}
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    tripletcl(workplace, *arguments)
    whole = compared / "mas-seed0"
    for name in ("stages/stage-01/model.safetensors", "stages/stage-02/model.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    results = [json.loads((folder / "result.json").read_text()) | {"seconds": 0} for folder in (run, whole)]
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nothing"], "no config 'nothing'"),
        (["train", "small.yaml", "training.epoch=3", "loss.name=l3"], "did you mean epochs"),
        (["train", "small.yaml", "method.name=mas", "method.lambda=3"], "lambda"),
        (["train", "small.yaml", "data.table=missing.csv"], "missing.csv"),
        (["train", "small.yaml", "method={name: mas, lam: -1}", "--out", "negative"], "at least 0"),
        (["evaluate", "."], "no run folder"),
        (["query", "runs/mas-seed0", "a", "b", "c", "d"], "quote"),
        (["index", "runs/mas-seed0", "no-folder"], "no-folder"),
        (["report", "cache"], "no run folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_code_2(
    workplace: Path, compared: Path, arguments: list[str], words: str
) -> None:
    ended = tripletcl(workplace, *arguments, code=2)
    assert words in ended.stderr
    assert len([line for line in ended.stderr.splitlines() if line.startswith("tripletcl:")]) == 1
