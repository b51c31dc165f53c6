"""A run on disk: what it holds, in order, and reading it changes nothing."""

from __future__ import annotations

from pathlib import Path

import field
import pytest

from tripletcl.config import dump_config
from tripletcl.errors import UserError
from tripletcl.runs.stored import FactRun


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
    assert list(long_run.stages) == list(range(102))
    assert long_run.stage_folder().name == "stage-101"
    assert long_run.fingerprint() == "1"
    assert long_run.stage_of("1") == 101
    assert long_run.stage_of("2") == 2
    with pytest.raises(UserError, match="has no model of stage 102"):
        long_run.stage_folder(102)
