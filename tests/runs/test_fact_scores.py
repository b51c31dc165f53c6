"""The scores of single facts lie in a file of their stage, not in lines of metrics or in the run's figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tripletcl.errors import UserError
from tripletcl.evaluation import StageScores
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.fact_scores import read_fact_scores, write_fact_scores
from tripletcl.runs.layout import FACT_SCORES, METRICS, RESULT
from tripletcl.runs.stored import FactRun

SCORES = StageScores(
    [0.5],
    [0.5],
    0.5,
    [("<dog>", 1 / 3), ("<cat, sitting>", 1.0)],
    {},
    None,
    0,
    training_images=[7, 0],
    verified_facts=[False, True],
)


def test_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    write_fact_scores(path, SCORES)
    fields = {"training_images": SCORES.training_images, "verified_facts": SCORES.verified_facts}
    assert read_fact_scores(path) == {"ap": SCORES.ap, **fields}
    write_fact_scores(path, StageScores([None], [None], None, [], {}, None, 3))
    assert read_fact_scores(path) == {"ap": [], "training_images": [], "verified_facts": []}


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "facts.parquet"
    write_fact_scores(path, SCORES)
    whole = path.read_bytes()
    at = whole.index(b"cat, sitting")
    for damaged in (whole[:-9], b"", whole[:at] + b"r" + whole[at + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"facts\.parquet is damaged \(") as caught:
            read_fact_scores(path)
        assert "\n" not in str(caught.value)


def test_a_run_has_them_at_every_stage(trained: dict[str, Path], tmp_path: Path) -> None:
    run = FactRun.open(trained["mas"])
    result, table = run.result, run.table()
    shown = np.bincount(table.rows_of("train")[:, 1], minlength=len(table.facts))
    assert result.ap
    assert dict(result.ap) == pytest.approx(dict(evaluate(run.path)["ap"]))
    assert result.training_images == [shown[[*map(str, table.facts)].index(fact)] for fact, _ in result.ap]
    assert all((run.stage_folder(stage) / FACT_SCORES).exists() for stage in run.stages)
    for file in (METRICS, RESULT):
        assert '"ap"' not in (run.path / file).read_text()

    former = Path(shutil.copytree(run.path, tmp_path / "former"))
    (FactRun.open(former).stage_folder() / FACT_SCORES).unlink()
    assert FactRun.open(former).result.ap == []
    values = json.loads((former / RESULT).read_text())
    del values["sha256"]
    (former / RESULT).write_text(json.dumps({**values, "ap": result.ap}))
    assert FactRun.open(former).result.ap == result.ap
