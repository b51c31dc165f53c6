"""Tables and a page from the folders of object runs, and what `evaluate` prints for such a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from tripletcl.cli.app import app
from tripletcl.compare.plan import PlannedRun, plan
from tripletcl.compare.write import write_page, write_summary, write_tables
from tripletcl.config import ObjectConfig, dump_config, parse_config
from tripletcl.continual import RunFolder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.report.formatting import MISSING

SETS = ("flowers", "scenes")


def config_of(root: Path, methods: list[object], **compare: object) -> ObjectConfig:
    sets = [{"root": str(root / name)} for name in SETS]
    values = {"learns": "objects", "data": {"sets": sets}, "compare": {"methods": methods, **compare}}
    config = parse_config(values, "test")
    assert isinstance(config, ObjectConfig)
    return config


def finish(run: PlannedRun, images: Path) -> None:
    """Write the files of a finished run, its figures by the length of its label; one image a task is missing."""
    tasks = run.config.data.set_names  # type: ignore[attr-defined]
    kept = 0.6 + 0.01 * len(run.label)
    stages: list[list[float | None]] = [[None, None], [0.8, None], [kept, 0.7]]
    result = RunResult(
        str(run.config.method[0]["name"]), run.config.seed, " → ".join(tasks), tasks, stages,
        [None, 0.8, (kept + 0.7) / 2], 1.0, metric="accuracy",
    )  # fmt: skip
    RunFolder(run.folder, dump_config(run.config), {"torch": "2"}).finish(result.to_dict())
    stored = [
        {"name": name, "classes": ["a"], "images": [str(images / f"{name}.png"), str(images / "missing.png")]}
        for name in tasks
    ]
    (run.folder / "tasks.json").write_text(json.dumps(stored))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for name in SETS:
        Image.new("RGB", (32, 32), "red").save(tmp_path / f"{name}.png")
    return tmp_path


def test_a_page_and_tables_of_two_sequences(images: Path) -> None:
    config = config_of(images, ["finetune", "mas"], orders="pairs", seeds=[0, 1])
    runs = plan(config, images / "runs")
    for run in runs:
        finish(run, images)
    page = write_summary([images / "runs"], images / "page.html", command="tripletcl compare objects")
    html = page.read_text(encoding="utf-8")
    assert "Objects learned task after task" in html
    assert "two sequences · two methods · eight runs" in html
    assert html.count('<details class="sequence"') == 2
    assert "Queries" not in html
    assert "facts" not in html.partition("<body>")[2].partition("Settings")[0]
    assert html.count('<div class="scene">') == 2, "each task's strip, once"
    assert html.count('alt="flowers"') == 1, "without the missing image"
    results = [result for run in runs if (result := run.result) is not None]
    write_tables(results, {"finetune": None, "mas": None}, images)
    assert "flowers → scenes" in (images / "table.md").read_text(encoding="utf-8")
    assert (images / "table-2.csv").exists()


def test_runs_that_differ_in_lam_alone_are_a_sweep(images: Path) -> None:
    methods = ["finetune", *({"name": "mas", "lam": lam} for lam in (0.1, 1, 10))]
    config = config_of(images, methods, orders=[list(SETS)])
    runs = plan(config, images / "runs")
    for run in runs:
        finish(run, images)
    html = write_summary([images / "runs"], images / "page.html").read_text(encoding="utf-8")
    assert "Weight of the penalty" in html
    assert "MAS-lam10.0" in html
    fewer = [run.folder for run in runs[:-1]]
    assert "Weight of the penalty" not in write_summary(fewer, images / "page.html").read_text(encoding="utf-8")


def test_facts_and_objects_have_a_page_each(images: Path) -> None:
    (run,) = plan(config_of(images, ["mas"]), images / "runs")
    finish(run, images)
    facts = parse_config({"method": "mas"}, "test")
    values = RunResult("mas", 0, "random-0", ["a"], [[0.1], [0.2]], [0.1, 0.2], 1.0).to_dict()
    RunFolder(images / "facts", dump_config(facts), {}).finish(values)
    with pytest.raises(UserError, match="some of these runs learned facts and some objects"):
        write_summary([images / "facts", run.folder], images / "page.html")


def test_evaluate_prints_the_accuracy_of_each_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"stage": 1, "tasks": list(SETS), "accuracy_tasks": [0.9931, None], "average_accuracy": 0.9931}
    monkeypatch.setattr("tripletcl.runs.evaluate.evaluate", lambda *_: scores)
    (tmp_path / "a-run").mkdir()
    (tmp_path / "a-run" / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    output = CliRunner().invoke(app, ["evaluate", "a-run"]).stdout
    assert "a-run, after task 1" in output
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert {"flowers 99.31", f"scenes {MISSING}", "average of learned tasks 99.31"} <= set(lines)
    (printed,) = json.loads(CliRunner().invoke(app, ["evaluate", "a-run", "--json"]).stdout)
    assert printed == scores


def test_a_page_of_results_has_the_names_that_its_caller_gives(images: Path) -> None:
    (run,) = plan(config_of(images, ["mas"]), images / "runs")
    finish(run, images)
    assert run.result is not None
    results = {run.folder: replace(run.result, method="mas-of-today")}
    assert "MAS-of-today" in write_page(results, images / "page.html").read_text(encoding="utf-8")


def test_a_run_is_called_what_its_folder_is_called(images: Path) -> None:
    config = config_of(images, ["mas"], importance=["train", "test"])
    runs = plan(config, images / "runs")
    for run in runs:
        finish(run, images)
    html = write_summary([images / "runs"], images / "page.html").read_text(encoding="utf-8")
    assert "MAS-train" in html
    assert "MAS-test" in html
    assert [replace(result, seconds=0).method for run in runs if (result := run.result)] == ["mas-train", "mas-test"]
