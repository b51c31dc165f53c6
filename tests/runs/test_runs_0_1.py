"""Runs written by version 0.1 still open, answer, learn on and count as finished.

`tests/stored_0_1/facts` holds four colours, a comparison with one run of MAS, and an analytic run that was taught a
fact and has a photo index; `objects` holds digits and a comparison with one run of MAS. The JSON files next to them
are what version 0.1 printed.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import field
import pytest

from tripletcl.compare.plan import compare
from tripletcl.compare.write import write_summary
from tripletcl.config import load_config
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.retrieval import answer, parse_request
from tripletcl.runs.collection import open_collection
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.history import task_records
from tripletcl.runs.kinds import open_run
from tripletcl.runs.teach import teach, undo
from tripletcl.runs.train import train

STORED = Path(__file__).parents[1] / "stored_0_1"
WRITTEN_IN = "/tmp/colours"
FACTS, OBJECTS = Path("compared/mas-split0-seed0"), Path("compared/mas-mnist-seed0")


@pytest.fixture
def facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the runs on facts in the working folder; the tables they stored name its photos."""
    opened(tmp_path, monkeypatch, "facts")
    for table in tmp_path.glob("**/tables/*.csv"):
        table.write_text(table.read_text().replace(WRITTEN_IN, str(tmp_path / "facts")))


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of the run on objects in the working folder."""
    opened(tmp_path, monkeypatch, "objects")


def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(shutil.copytree(STORED / name, tmp_path / name))


def stored_result(run: Path) -> RunResult:
    """The figures that version 0.1 wrote."""
    return RunResult.from_dict(json.loads((run / "result.json").read_text()))


def printed(name: str) -> Any:
    """What version 0.1 printed."""
    return json.loads(Path(name).read_text())


def assert_same(scores: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal up to rounding, but for a field that no longer exists."""
    expected.pop("gap_closed", None)
    for key, value in expected.items():
        if key in ("recall", "ap"):
            assert dict(scores[key]) == pytest.approx(dict(value))
        else:
            assert scores[key] == (pytest.approx(value) if isinstance(value, float | list) else value), key


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize(("run", "name"), [(FACTS, "compared.json"), (Path("taught"), "taught.json")])
def test_facts_evaluate_to_the_same_figures(run: Path, name: str) -> None:
    assert open_run(run).result == stored_result(run)
    assert_same(evaluate(run), printed(name)[0])


@pytest.mark.usefixtures("objects")
def test_objects_evaluate_to_the_same_figures() -> None:
    assert open_run(OBJECTS).result == stored_result(OBJECTS)
    assert_same(evaluate(OBJECTS), printed("compared.json")[0])


@pytest.mark.usefixtures("facts")
def test_an_index_answers_by_the_stage_that_made_it() -> None:
    expected = printed("cyan.json")
    collection = open_collection(Path("taught"))
    assert (collection.stage, collection.newer) == (3, None)
    hits = answer(collection.index, parse_request(["cyan lying"], collection.embedder.facts), 6, collection.calibration)
    assert [str(hit.path) for hit in hits] == [hit["path"] for hit in expected["hits"]]
    assert [hit.score for hit in hits] == pytest.approx([hit["score"] for hit in expected["hits"]], rel=1e-3)


@pytest.mark.usefixtures("facts")
def test_a_finished_comparison_of_facts_is_not_run_again() -> None:
    assert_nothing_to_do(FACTS, lam=3)


@pytest.mark.usefixtures("objects")
def test_a_finished_comparison_of_objects_is_not_run_again() -> None:
    assert_nothing_to_do(OBJECTS, lam=1)


def assert_nothing_to_do(run: Path, lam: float) -> None:
    """`compare` and `train` by the config of version 0.1 return the stored figures, and a page is written."""
    expected, lines = stored_result(run), list[str]()
    assert compare(load_config("config.yaml"), Path("compared"), lines.append) == [expected]
    assert lines == ["1 of 1 runs are finished already"]
    assert train(load_config("config.yaml", ["method=mas", f"method.lam={lam}"]), run) == expected
    assert write_summary([Path("compared")], Path("page.html")).exists()


@pytest.mark.usefixtures("facts")
def test_a_run_is_taught_a_fact_and_continued() -> None:
    assert [task.name for task in task_records(Path("taught"))] == ["task 1", "task 2", "taught: <cyan, lying>"]
    lesson = teach(Path("taught"), "purple standing", field.photos(Path("picks"), "purple", 5))
    assert (lesson.stage, lesson.index) == (4, "brought to stage 4 exactly")
    result = continue_run(Path("taught"), field.table(Path(), "more", ["purple", "cyan"]))
    assert len(result.tasks) == 5
    assert len(continue_run(FACTS, Path("more.csv")).tasks) == 3


@pytest.mark.usefixtures("facts")
def test_a_lesson_is_taken_back() -> None:
    config = (Path("taught") / "config.yaml").read_text()
    undone = undo(Path("taught"))
    assert (str(undone.fact), undone.stage, undone.index) == ("<cyan, lying>", 2, "brought to stage 2 exactly")
    plain = load_config("config.yaml", ["model.freeze_until=fc2", "method={name: analytic, features: 24}"])
    assert train(plain, Path("taught")) == open_run(Path("taught")).result
    lesson = teach(Path("taught"), "cyan lying", field.photos(Path("picks"), "cyan", 6))
    assert lesson.stage == 3
    assert "taught: <cyan, lying>" in config


@pytest.mark.usefixtures("facts")
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_finished_run_without_the_figures_of_a_stage_says_so(after: int) -> None:
    path = FACTS / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    others = [line for line in lines if json.loads(line).get("after") != after]
    assert len(others) == len(lines) - 1
    path.write_text("".join(others))
    with pytest.raises(UserError, match=rf"metrics\.jsonl has no figures of stage {after}"):
        task_records(FACTS)
