"""Every command, once, on a tiny run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import field
import pytest
from command_line import Command

from tripletcl.report.formatting import MISSING
from tripletcl.runs.train import train


def test_evaluate_prints_a_dash_for_a_task_without_test_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    place = field.workplace(tmp_path)
    train(field.settings(place), place / "run")
    shutil.rmtree(place / "cache")
    for photo in (place / "base").iterdir():
        photo.unlink()

    said = command("evaluate", place / "run")
    assert said.code == 0
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.out.splitlines() if "│" in line]
    assert cells == [["own images", MISSING, MISSING, ""], ["all test images", *[MISSING] * 3]]
    assert f"MRR {MISSING}" in said.out
    (scores,) = json.loads(command("evaluate", place / "run", "--json").out)
    assert scores["map_tasks"] == [None, None]
