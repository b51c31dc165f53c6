"""The examples run, and print what they promise."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

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
