"""Results survive JSON and sum up over seeds."""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import Any

import pytest

from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult, Spread, forgetting, gap_closed, summarise

MATRIX = [[0.1, 0.1, 0.1], [0.8, 0.2, 0.1], [0.5, 0.9, 0.3], [0.6, 0.4, 0.7]]


def result(method: str = "mas", seed: int = 0, final: float = 0.3, **changes: Any) -> RunResult:
    whole = RunResult(
        method=method,
        seed=seed,
        split="random-0",
        tasks=["a", "b", "c"],
        map_matrix=MATRIX,
        map_matrix_all=MATRIX,
        map_all=[0.02, 0.1, 0.2, final],
        recall={"1": 0.1, "5": 0.4, "10": 0.6},
        mrr=0.25,
        ap=[("<dog>", 0.5), ("<person, riding, horse>", 0.1)],
        seconds=12.5,
    )
    return dataclasses.replace(whole, **changes)


def test_json_round_trip() -> None:
    assert RunResult.from_dict(json.loads(json.dumps(result().to_dict(), allow_nan=False))) == result()


@pytest.mark.parametrize("damage", [lambda d: d.pop("mrr"), lambda d: d.update(color=1)])
def test_a_missing_or_unknown_field_is_named(damage: Any) -> None:
    values = result().to_dict()
    damage(values)
    with pytest.raises(UserError, match=r"mrr|color"):
        RunResult.from_dict(values)


def test_derived_numbers() -> None:
    run = result()
    assert run.map_tasks == [0.6, 0.4, 0.7]
    assert run.map_tasks_mean == pytest.approx(1.7 / 3)
    assert run.map_all_final == 0.3
    assert run.forgetting == forgetting(MATRIX)
    assert run.backward_transfer == pytest.approx(-0.35)
    assert run.forward_transfer == pytest.approx(0.15)


def test_gap_closed() -> None:
    finetune, joint = result("finetune", final=0.2), result("joint", final=0.4)
    assert gap_closed(result(final=0.3), finetune, joint) == pytest.approx(0.5)
    assert gap_closed(joint, finetune, joint) == 1
    assert gap_closed(finetune, finetune, joint) == 0
    assert gap_closed(finetune, joint, finetune) is None
    assert gap_closed(finetune, joint, joint) is None


def test_summary_over_seeds() -> None:
    joint_matrix = MATRIX[:2]
    runs = [
        run
        for seed, (low, mid, high) in enumerate([(0.2, 0.3, 0.4), (0.1, 0.3, 0.5), (0.2, 0.25, 0.3)])
        for run in (
            result("finetune", seed, low),
            result("mas", seed, mid, seconds=float(seed)),
            result("joint", seed, high, map_matrix=joint_matrix, map_matrix_all=joint_matrix, map_all=[0.02, high]),
        )
    ]
    finetune, mas, joint = summarise(runs)
    assert [row.method for row in (finetune, mas, joint)] == ["finetune", "mas", "joint"]
    assert mas.runs == 3
    assert mas.map_all == Spread(pytest.approx(0.85 / 3), pytest.approx(statistics.stdev([0.3, 0.3, 0.25])))
    assert mas.gap_closed == Spread(pytest.approx(0.5), pytest.approx(0, abs=1e-12))
    assert finetune.gap_closed == Spread(0, 0)
    assert joint.gap_closed == Spread(1, 0)
    assert mas.recall["5"] == Spread(pytest.approx(0.4), pytest.approx(0, abs=1e-12))
    assert mas.seconds == Spread(1, 1)
    assert mas.forgetting is not None
    assert joint.forgetting is joint.backward_transfer is joint.forward_transfer is None


def test_one_run_has_no_deviation_and_no_gap_without_its_bounds() -> None:
    (row,) = summarise([result()])
    assert row.map_all == Spread(0.3, None)
    assert row.gap_closed is None


def test_bounds_of_another_seed_do_not_count() -> None:
    rows = summarise([result(), result("finetune", seed=1, final=0.1), result("joint", seed=1, final=0.5)])
    assert rows[0].gap_closed is None


def test_the_same_run_twice_is_refused() -> None:
    with pytest.raises(UserError, match="method mas, seed 0, split random-0"):
        summarise([result(), result()])
