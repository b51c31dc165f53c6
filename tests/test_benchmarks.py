"""The programs of benchmarks/ run; how fast is not asked here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / program), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_one_command_gives_one_object_a_row() -> None:
    printed = run("speed.py", "--only", "evaluation", "--quick", "--json", "--clock", "cpu", "--threads", "1").stdout
    rows: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    assert len(rows) == 5
    assert all({"name", "part", "device", "ratio", "goal", "direction"} <= set(row) for row in rows)
    assert {(row["part"], row["device"], row["direction"]) for row in rows} == {("evaluation", "cpu", "at least")}
    assert all(math.isfinite(row["ratio"]) and row["ratio"] > 0 for row in rows)
    assert len({row["name"] for row in rows}) == len(rows)
    assert [row["goal"] for row in rows] == [50, 50, None, None, None]
    assert all(row["difference"] <= 1e-6 for row in rows)


def test_what_trains_and_measures_runs() -> None:
    parts = ("importance", "step", "throughput")
    only = [word for part in parts for word in ("--only", part)]
    printed = run("speed.py", *only, "--quick", "--json", "--threads", "1").stdout
    rows: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
    assert [row["part"] for row in rows] == ["importance"] * 4 + ["step"] * 2 + ["throughput"] * 3
    assert len({row["name"] for row in rows}) == len(rows)
    assert all(math.isfinite(row["ratio"]) and row["ratio"] > 0 and row["device"] == "cpu" for row in rows)
    assert [row["goal"] for row in rows] == [1.3, 1.3, None, None, 1.05, 1.05, 1.5, 1.5, 1.5]
    assert [row["direction"] for row in rows] == ["at most"] * 2 + ["at least"] * 2 + ["at most"] * 2 + ["at least"] * 3


@pytest.mark.slow
def test_hostile_uploads_and_calls_are_refused_and_leave_nothing() -> None:
    """It ends with 1 where an answer was a 500, a trace was printed, or an upload was left; once of each kind."""
    printed = run("hostile.py", "--uploads", "25", "--calls", "60", "--seconds", "60").stdout
    assert "0 answers of 500 and above; 0 traces" in printed
    assert "left after its end: 0 files" in printed
    (foreign,) = {line.split(" | ")[2] for line in printed.splitlines() if line.startswith("| foreign origin")}
    assert foreign == "403"


def test_a_part_that_cannot_run_is_left_out_with_a_sentence() -> None:
    done = run("speed.py", "--only", "avalanche", "--quick", "--device", "cuda")
    assert done.stdout.startswith("avalanche is skipped: ")


@pytest.mark.slow
def test_costs_at_scale_are_measured_within_their_bounds() -> None:
    """On a tiny table; the analytic run is killed and resumed."""
    lines = run("scale.py", "--quick", "--blocks", "3").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["reading", "reading,", "a", "a", "analytic,"]
    assert not any("NOT KEPT" in line for line in lines)
