"""Runs with numbers that one can check by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from many_methods import random_runs

from tripletcl.evaluation.result import RunResult

MakeRun = Callable[..., RunResult]


@pytest.fixture(scope="session")
def make_run() -> MakeRun:
    """Build a run from its MAP matrix; everything else has a default."""

    def make(
        method: str,
        matrix: Sequence[Sequence[float]],
        *,
        map_all: float = 0.3,
        seed: int = 0,
        split: str = "random-0",
        tasks: Sequence[str] | None = None,
        **fields: object,
    ) -> RunResult:
        values: dict[str, object] = {
            "method": method,
            "seed": seed,
            "split": split,
            "tasks": list(tasks or [f"task {task + 1}" for task in range(len(matrix[0]))]),
            "matrix": [list(row) for row in matrix],
            "map_matrix_all": [list(row) for row in matrix],
            "overall": [0.01] * (len(matrix) - 1) + [map_all],
            "recall": {"1": 0.1, "5": 0.4, "10": 0.6},
            "mrr": 0.25,
            "ap": [("<dog, running>", 0.2), ("<person, riding, horse>", 0.6), ("<cat>", 0.4)],
            "seconds": 60.0,
        }
        return RunResult(**{**values, **fields})  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def six_runs(make_run: MakeRun) -> list[RunResult]:
    """finetune, mas and joint on two tasks and two seeds, given in an unusual order."""
    return [
        make_run("joint", [[0.1, 0.1], [0.7, 0.8]], map_all=0.50),
        make_run("mas", [[0.1, 0.1], [0.6, 0.1], [0.5, 0.6]], map_all=0.34, seconds=100.0),
        make_run("finetune", [[0.1, 0.1], [0.6, 0.2], [0.3, 0.7]], map_all=0.20),
        make_run("joint", [[0.1, 0.1], [0.7, 0.6]], map_all=0.60, seed=1),
        make_run("mas", [[0.1, 0.1], [0.7, 0.1], [0.7, 0.6]], map_all=0.40, seed=1, seconds=140.0),
        make_run("finetune", [[0.1, 0.1], [0.8, 0.2], [0.3, 0.7]], map_all=0.30, seed=1),
    ]


@pytest.fixture(scope="session")
def many_runs() -> list[RunResult]:
    """Thirteen methods on three splits of four tasks, with everything that a run can measure."""
    return random_runs()
