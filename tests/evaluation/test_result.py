"""Results survive JSON and sum up over seeds."""

from __future__ import annotations

import dataclasses
import json
import statistics
from typing import Any

import pytest

from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult, Spread, forgetting, gap_closed, new_tasks, new_tasks_among, summarise

MATRIX = [[0.1, 0.1, 0.1], [0.8, 0.2, 0.1], [0.5, 0.9, 0.3], [0.6, 0.4, 0.7]]


def result(method: str = "mas", seed: int = 0, final: float = 0.3, **changes: Any) -> RunResult:
    whole = RunResult(
        method=method,
        seed=seed,
        split="random-0",
        tasks=["a", "b", "c"],
        matrix=MATRIX,
        map_matrix_all=MATRIX,
        overall=[0.02, 0.1, 0.2, final],
        recall={"1": 0.1, "5": 0.4, "10": 0.6},
        mrr=0.25,
        ap=[("<dog>", 0.5), ("<person, riding, horse>", 0.1)],
        seconds=12.5,
    )
    return dataclasses.replace(whole, **changes)


def test_json_round_trip() -> None:
    assert RunResult.from_dict(json.loads(json.dumps(result().to_dict(), allow_nan=False))) == result()


def test_results_of_facts_keep_the_names_that_scripts_know_and_older_ones_are_read() -> None:
    written = result().to_dict()
    assert (written["map_matrix"], written["map_all"]) == (MATRIX, [0.02, 0.1, 0.2, 0.3])
    del written["metric"]
    assert RunResult.from_dict(written) == result()
    newer = {**written, "matrix": written.pop("map_matrix"), "overall": written.pop("map_all")}
    del newer["map_matrix"], newer["map_all"]
    assert RunResult.from_dict(newer) == result()


def test_a_result_of_objects_has_nothing_of_facts() -> None:
    result = RunResult("mas", 0, "a → b", ["a", "b"], [[None, None], [0.9, None], [0.8, 0.7]], [None, 0.9, 0.75], 1.0)
    result = dataclasses.replace(result, metric="accuracy")
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert written["matrix"] == [[None, None], [0.9, None], [0.8, 0.7]]
    assert not {"map_matrix", "map_all"} & written.keys()
    assert RunResult.from_dict(written) == result
    assert (result.recall, result.mrr, result.ap, result.map_open) == ({}, None, [], [])


@pytest.mark.parametrize("damage", [lambda d: d.pop("seconds"), lambda d: d.update(color=1)])
def test_a_missing_or_unknown_field_is_named(damage: Any) -> None:
    values = result().to_dict()
    damage(values)
    with pytest.raises(UserError, match=r"seconds|color"):
        RunResult.from_dict(values)


def test_derived_numbers() -> None:
    run = result()
    assert run.scores == [0.6, 0.4, 0.7]
    assert run.mean_score == pytest.approx(1.7 / 3)
    assert run.final == 0.3
    assert run.forgetting == forgetting(MATRIX)
    assert run.backward_transfer == pytest.approx(-0.35)
    assert run.forward_transfer == pytest.approx(0.15)


def test_scores_when_learned_and_drops_since() -> None:
    run = result()
    assert run.scores_when_learned == [0.8, 0.9, 0.7]
    assert run.drops == [pytest.approx(0.2), pytest.approx(0.5), 0]
    assert run.drop == pytest.approx(0.35)
    joint = result("joint", matrix=MATRIX[:2])
    assert (joint.scores_when_learned, joint.drops, joint.drop) == (MATRIX[1], [None] * 3, None)
    unknown = result(matrix=[*MATRIX[:3], [0.6, None, 0.7]])
    assert unknown.drops == [pytest.approx(0.2), None, 0]
    held = result(matrix=[MATRIX[0], [0.8, 0.2, 0.1], [0.8, 0.9, 0.3], [0.8, 0.9, 0.7]])
    assert str(held.drop) == "0.0", "not minus zero"


def test_new_tasks_are_held_against_finetune_of_the_same_seed_and_sequence() -> None:
    plain = result("finetune", matrix=[MATRIX[0], [0.9, 0, 0], [0.5, 0.92, 0], [0.4, 0.3, 0.8]])
    assert new_tasks(result(), plain) == pytest.approx(((0.9 - 0.92) + (0.7 - 0.8)) / 2)
    assert new_tasks(plain, plain) == 0
    assert new_tasks(result("joint", matrix=MATRIX[:2]), plain) is None
    assert new_tasks_among(result(), [result(), plain]) == new_tasks(result(), plain)
    for other in ({"seed": 1}, {"split": "random-1"}, {"tasks": ["b", "a", "c"]}):
        assert new_tasks_among(result(), [result(), dataclasses.replace(plain, **other)]) is None


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
            result("joint", seed, high, matrix=joint_matrix, map_matrix_all=joint_matrix, overall=[0.02, high]),
        )
    ]
    summaries = summarise(runs)
    assert list(summaries) == ["finetune", "mas", "joint"]
    finetune, mas, joint = summaries.values()
    assert mas["overall"] == Spread(pytest.approx(0.85 / 3), pytest.approx(statistics.stdev([0.3, 0.3, 0.25])))
    assert mas["gap_closed"] == Spread(pytest.approx(0.5), pytest.approx(0, abs=1e-12))
    assert finetune["gap_closed"] == Spread(0, 0)
    assert joint["gap_closed"] == Spread(1, 0)
    assert mas["recall@5"] == Spread(pytest.approx(0.4), pytest.approx(0, abs=1e-12))
    assert mas["seconds"] == Spread(1, 1)
    assert mas["forgetting"] is not None
    assert joint["forgetting"] is joint["backward_transfer"] is joint["forward_transfer"] is None


def test_one_run_has_no_deviation_and_no_gap_without_its_bounds() -> None:
    summary = summarise([result()])["mas"]
    assert summary["overall"] == Spread(0.3, None)
    assert summary["gap_closed"] is None


def test_bounds_of_another_seed_do_not_count() -> None:
    summaries = summarise([result(), result("finetune", seed=1, final=0.1), result("joint", seed=1, final=0.5)])
    assert summaries["mas"]["gap_closed"] is None


def test_the_same_run_twice_is_refused() -> None:
    with pytest.raises(UserError, match="method mas, seed 0, split random-0"):
        summarise([result(), result()])
