"""The table over several sequences: numbers by hand, order, marks, and what is missing."""

from __future__ import annotations

import math

import pytest
from cells import best, cells, fields, texts

from tripletcl.errors import UserError
from tripletcl.report.formatting import MINUS, MISSING
from tripletcl.report.sequences import SequenceRow, exact_sequences, sequence_rows, sequence_table
from tripletcl.report.table import terminal_table

AB, BA = ("flowers", "scenes"), ("scenes", "flowers")
FORWARD, BACKWARD = "flowers → scenes", "scenes → flowers"


@pytest.fixture(scope="module")
def run(make_run):
    """A run on two tasks: the first when it was learned, the first at the end, the second at the end."""

    def build(method: str, tasks: tuple[str, ...], learned: float, first: float, last: float, **fields: object):
        matrix = [[None, None], [learned, None], [first, last]]
        if method == "joint":
            matrix = [[None, None], [first, last]]
        return make_run(method, matrix, tasks=tasks, split=" → ".join(tasks), **{"metric": "accuracy", **fields})

    return build


@pytest.fixture(scope="module")
def runs(run):
    """Two orders of two tasks, given in an unusual order; finetune and MAS on both, EWC and joint on one."""
    return [
        run("joint", AB, 0.0, 0.91, 0.86),
        run("mas", AB, 0.90, 0.89, 0.80),
        run("ewc", AB, 0.90, 0.85, 0.81),
        run("finetune", AB, 0.90, 0.70, 0.84),
        run("mas", BA, 0.80, 0.795, 0.90),
        run("finetune", BA, 0.80, 0.72, 0.92),
    ]


def row_of(rows: list[SequenceRow], method: str) -> SequenceRow:
    return next(row for row in rows if row.method == method)


def test_numbers_by_hand(runs):
    rows = sequence_rows(runs)
    assert [row.method for row in rows] == ["finetune", "mas", "ewc", "joint"]
    mas = row_of(rows, "mas")
    assert list(mas.outcomes) == [AB, BA]
    assert mas.outcomes[AB].last.mean == pytest.approx(0.80)
    assert mas.outcomes[AB].change.mean == pytest.approx(-0.01)
    assert mas.outcomes[AB].average.mean == pytest.approx(0.845)
    assert mas.mean_drop == pytest.approx((0.01 + 0.005) / 2)
    assert mas.against_finetune == pytest.approx((-0.04 - 0.02) / 2)
    assert row_of(rows, "finetune").mean_drop == pytest.approx((0.20 + 0.08) / 2)
    table = sequence_table(rows)
    assert table.titles == ["method", FORWARD, BACKWARD, "mean drop", "new task against finetune"]
    assert texts(table) == {
        "finetune": [f"84.0 ({MINUS}20.0)", f"92.0 ({MINUS}8.0)", "14.0", MISSING],
        "MAS": [f"80.0 ({MINUS}1.0)", f"90.0 ({MINUS}0.5)", "0.8", f"{MINUS}3.0"],
        "EWC": [
            f"81.0 ({MINUS}5.0)",
            MISSING,
            MISSING,
            MISSING,
        ],  # a mean over some sequences would flatter or shame it
        "joint": ["86.0", MISSING, MISSING, MISSING],
    }


def test_seeds_give_a_mean_and_a_sample_deviation(run):
    rows = sequence_rows([run("mas", AB, 0.9, 0.9 - lost, 0.80 + lost, seed=s) for s, lost in enumerate((0.01, 0.03))])
    outcome = rows[0].outcomes[AB]
    assert (outcome.last.mean, outcome.change.mean) == pytest.approx((0.82, -0.02))
    assert (outcome.last.std, outcome.change.std) == pytest.approx((0.02 / math.sqrt(2), 0.02 / math.sqrt(2)))
    table = sequence_table(rows)
    assert texts(table) == {"MAS": [f"82.0 ({MINUS}2.0)", "2.0"]}
    assert cells(table)["MAS"][FORWARD].spread == "±1.4 (±1.4)"
    assert "standard deviation over two runs" in table.caption


def test_one_definition_for_any_number_of_tasks(make_run):
    matrix = [[None] * 3, [0.9, None, None], [0.8, 0.7, None], [0.6, 0.8, 0.5]]
    rows = sequence_rows([make_run("mas", matrix, tasks="abc", metric="accuracy")])
    assert texts(sequence_table(rows))["MAS"] == [f"50.0 ({MINUS}10.0)", "10.0"]  # a lost .3, b gained .1
    assert "points that the earlier tasks gained on average since each was just learned" in sequence_table(rows).caption
    single = sequence_rows([make_run("mas", [[None], [0.9]], tasks=["a"], metric="accuracy")])
    assert texts(sequence_table(single))["MAS"] == ["90.0"]


def test_map_is_a_fraction(run):
    rows = sequence_rows(
        [run("mas", AB, 0.9, 0.89, 0.8, metric="MAP"), run("finetune", AB, 0.9, 0.7, 0.84, metric="MAP")]
    )
    assert texts(sequence_table(rows))["MAS"] == [f".800 ({MINUS}.010)", ".010", f"{MINUS}.040"]
    assert sequence_table(rows).caption.startswith(
        "MAP of the last task and, in brackets, the MAP that the first task gained"
    )


def best_changes(table) -> list[list[str]]:
    """For each column the rows whose number in brackets is marked as the best."""
    named = cells(table).items()
    return [[name for name, row in named if row[t].change and row[t].change.best] for t in table.titles[1:]]


def test_the_best_in_sequence_are_marked_the_score_and_the_change_each(run, runs):
    frozen = [run("frozen", tasks, 0.9, 0.9, 0.3) for tasks in (AB, BA)]
    table = sequence_table(sequence_rows([*runs, *frozen]))  # frozen and joint do not compete
    assert list(best(table).values()) == [["finetune"], ["finetune"], ["MAS"], []]  # in the last MAS has no rival
    assert best_changes(table) == [["MAS"], ["MAS"], [], []]
    assert "Bold:" in table.caption


def test_equal_texts_are_marked_together_and_a_single_method_is_not(run):
    runs = [run("mas", AB, 0.9, 0.8901, 0.8), run("si", AB, 0.9, 0.8899, 0.7)]
    table = sequence_table(sequence_rows(runs))
    assert best(table)[FORWARD] == ["MAS"]
    assert best_changes(table)[0] == ["MAS", "SI"]
    single = sequence_table(sequence_rows(runs[:1]))
    assert not any([*best(single).values(), *best_changes(single)])
    assert "Bold:" not in single.caption


def test_the_caption_says_what_is_there(runs):
    whole = sequence_table(sequence_rows(runs)).caption
    assert whole.startswith(
        "Accuracy of the last task in percent and, in brackets, the points that the first task gained"
    )
    for word in ("Joint training", "Mean drop", "Against finetune", MISSING, "One run a method"):
        assert word in whole
    few = sequence_table(sequence_rows([runs[1]])).caption
    for word in ("Joint training", "Against finetune", MISSING):
        assert word not in few


def test_csv_in_full_precision_and_empty_where_there_is_nothing(run, runs):
    exact = [*runs, run("si", AB, 1.0, 1 / 3, 2 / 3), run("si", AB, 1.0, 1.0, 2 / 3, seed=1)]
    lines = fields(exact_sequences(sequence_rows(exact)))
    si = lines["si"]
    assert si[f"{FORWARD} runs"] == "2"
    assert float(si[f"{FORWARD} newest"]) == 2 / 3
    assert float(si[f"{FORWARD} change"]) == (1 / 3 - 1.0) / 2
    assert float(si[f"{FORWARD} average std"]) == pytest.approx((1 / 3) / math.sqrt(2))
    assert [si[f"{BACKWARD} {name}"] for name in ("runs", "newest", "change std")] == ["", "", ""]
    assert lines["joint"][f"{FORWARD} change"] == ""
    assert lines["mas"]["mean drop"] == str(row_of(sequence_rows(exact), "mas").mean_drop)


def test_a_narrow_terminal_goes_without_the_last_sequences(runs):
    table = sequence_table(sequence_rows(runs))

    def titles(width: int) -> list[str]:
        return [str(column.header) for column in terminal_table(table, width).columns]

    assert titles(80) == table.titles
    assert titles(45) == ["method", FORWARD, "mean drop", "new task against finetune"]
    assert titles(5) == titles(45), "the first sequence is always there"


def test_runs_that_cannot_be_in_one_table_are_refused(run, runs):
    with pytest.raises(UserError, match="at least one run"):
        sequence_rows([])
    with pytest.raises(UserError, match="joint, seed 0"):
        sequence_rows([*runs, runs[0]])
    with pytest.raises(UserError, match="MAP and in accuracy"):
        sequence_rows([*runs, run("si", AB, 0.9, 0.8, 0.7, metric="MAP")])
