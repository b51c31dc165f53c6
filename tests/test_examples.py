"""The examples run and print what their documentation says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from tripletcl.data import read_table
from tripletcl.scenes import write_scenes

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_a_photo_collection_from_first_photo_to_a_lesson_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    example = runpy.run_path(str(EXAMPLES / "photo_collection.py"))
    example["main"](tmp_path, facts=18, size=64)
    printed = capsys.readouterr().out
    before, after = printed.split("taken back")
    assert "the index went from stage 2 to 3: exact" in printed
    assert "taught: " in before
    assert "taught: " not in after
    assert before.count("MAP") > after.count("MAP")
    assert (tmp_path / "found.png").stat().st_size > 0


def test_facts_are_learned_by_a_loop_written_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    example = runpy.run_path(str(EXAMPLES / "train_facts.py"))
    table = read_table(write_scenes(tmp_path / "scenes", facts=12, train=6, test=3, size=64))
    torch.manual_seed(0)
    score = example["main"](table, tmp_path / "cache", size=64, epochs=3)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == ["task 1", "task 2", "task 3"]
    assert printed[-1].endswith(f"{score:.3f}")
    assert score > 2 / 12  # an untrained network gives about 1 / 12
