"""The table over several sequences: numbers by hand, order, marks, and what becomes of what is missing."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace

import pytest
from rich.console import Console

from tripletcl.errors import UserError
from tripletcl.report.formatting import MINUS, MISSING
from tripletcl.report.sequences import (
    SequenceRow,
    csv_sequences,
    html_sequences,
    latex_sequences,
    markdown_sequences,
    sequence_caption,
    sequence_cells,
    sequence_rows,
    terminal_sequences,
)

AB, BA = ("flowers", "scenes"), ("scenes", "flowers")
FORWARD, BACKWARD = "flowers → scenes", "scenes → flowers"
HOSTILE = r'<script>&_#$%{}~^\|"'


@pytest.fixture(scope="module")
def run(make_run):
    """A run on two tasks: the first when it was learned, the first at the end, the second at the end."""

    def build(method: str, tasks: tuple[str, ...], learned: float, kept: float, newest: float, **fields: object):
        matrix = [[None, None], [learned, None], [kept, newest]]
        if method == "joint":
            matrix = [[None, None], [kept, newest]]
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


def printed(rows: list[SequenceRow]) -> dict[str, list[str]]:
    return {row.method: [pair.plain for pair in line] for row, line in zip(rows, sequence_cells(rows)[1], strict=True)}


def test_numbers_by_hand(runs):
    rows = sequence_rows(runs)
    assert [row.method for row in rows] == ["finetune", "mas", "ewc", "joint"]
    mas = row_of(rows, "mas")
    assert list(mas.outcomes) == [AB, BA]
    assert mas.outcomes[AB].newest.mean == pytest.approx(0.80)
    assert mas.outcomes[AB].change.mean == pytest.approx(-0.01)
    assert mas.outcomes[AB].average.mean == pytest.approx(0.845)
    assert mas.mean_drop == pytest.approx((0.01 + 0.005) / 2)
    assert mas.against_finetune == pytest.approx((-0.04 - 0.02) / 2)
    assert row_of(rows, "finetune").mean_drop == pytest.approx((0.20 + 0.08) / 2)
    assert sequence_cells(rows)[0] == [FORWARD, BACKWARD, "mean drop", "new task against finetune"]
    assert printed(rows) == {
        "finetune": [f"84.0 ({MINUS}20.0)", f"92.0 ({MINUS}8.0)", "14.0", MISSING],
        "mas": [f"80.0 ({MINUS}1.0)", f"90.0 ({MINUS}0.5)", "0.8", f"{MINUS}3.0"],
        "ewc": [
            f"81.0 ({MINUS}5.0)",
            MISSING,
            MISSING,
            MISSING,
        ],  # a mean over some sequences would flatter or shame it
        "joint": ["86.0", MISSING, MISSING, MISSING],
    }


def test_seeds_give_a_mean_and_a_sample_deviation(run):
    rows = sequence_rows([run("mas", AB, 0.9, 0.9 - lost, 0.80 + lost, seed=s) for s, lost in enumerate((0.01, 0.03))])
    found = rows[0].outcomes[AB]
    assert (found.newest.mean, found.change.mean) == pytest.approx((0.82, -0.02))
    assert (found.newest.std, found.change.std) == pytest.approx((0.02 / math.sqrt(2), 0.02 / math.sqrt(2)))
    assert markdown_sequences(rows).splitlines()[2] == f"| MAS | 82.0 ± 1.4 ({MINUS}2.0 ± 1.4) | 2.0 |"
    assert f"<td>82.0 ({MINUS}2.0)<small>±1.4 (±1.4)</small></td>" in html_sequences(rows)
    assert "standard deviation over two runs" in sequence_caption(rows)


def test_one_definition_for_any_number_of_tasks(make_run):
    matrix = [[None] * 3, [0.9, None, None], [0.8, 0.7, None], [0.6, 0.8, 0.5]]
    rows = sequence_rows([make_run("mas", matrix, tasks="abc", metric="accuracy")])
    assert printed(rows)["mas"] == [f"50.0 ({MINUS}10.0)", "10.0"]  # a lost .3, b gained .1
    assert "points that the earlier tasks gained on average since each was just learned" in sequence_caption(rows)
    alone = sequence_rows([make_run("mas", [[None], [0.9]], tasks=["a"], metric="accuracy")])
    assert printed(alone)["mas"] == ["90.0"]


def test_map_is_a_fraction(run):
    rows = sequence_rows(
        [run("mas", AB, 0.9, 0.89, 0.8, metric="MAP"), run("finetune", AB, 0.9, 0.7, 0.84, metric="MAP")]
    )
    assert printed(rows)["mas"] == [f".800 ({MINUS}.010)", ".010", f"{MINUS}.040"]
    assert sequence_caption(rows).startswith(
        "MAP of the last task and, in brackets, the MAP that the first task gained"
    )


def best_of(rows: list[SequenceRow]) -> list[tuple[list[str], list[str]]]:
    """Of each column the methods with a bold number, and those with bold brackets."""
    columns = zip(*sequence_cells(rows)[1], strict=True)
    return [
        (
            [row.method for row, pair in zip(rows, column, strict=True) if pair.number.best],
            [row.method for row, pair in zip(rows, column, strict=True) if pair.change and pair.change.best],
        )
        for column in columns
    ]


def test_the_best_in_sequence_are_bold_the_score_and_the_change_each(run, runs):
    frozen = [run("frozen", tasks, 0.9, 0.9, 0.3) for tasks in (AB, BA)]
    rows = sequence_rows([*runs, *frozen])  # frozen and joint do not compete
    best = [(["finetune"], ["mas"]), (["finetune"], ["mas"]), (["mas"], []), ([], [])]
    assert best_of(rows) == best  # against finetune: MAS alone has a number, and nobody to beat
    markdown = markdown_sequences(rows)
    assert f"| MAS | 80.0 (**{MINUS}1.0**) |" in markdown
    assert f"| finetune | **84.0** ({MINUS}20.0) |" in markdown
    assert r"MAS & 80.0 (\textbf{$-$1.0})" in latex_sequences(rows)
    assert f"<td>80.0 (<b>{MINUS}1.0</b>)</td>" in html_sequences(rows)
    assert "Bold:" in sequence_caption(rows)


def test_what_looks_equal_is_bold_together_and_one_alone_is_not(run):
    runs = [run("mas", AB, 0.9, 0.8901, 0.8), run("si", AB, 0.9, 0.8899, 0.7)]
    assert best_of(sequence_rows(runs))[0] == (["mas"], ["mas", "si"])
    alone = sequence_rows(runs[:1])
    assert best_of(alone)[0] == ([], [])
    assert "Bold:" not in sequence_caption(alone)


def test_the_caption_says_what_is_there(runs):
    whole = sequence_caption(sequence_rows(runs))
    assert whole.startswith(
        "Accuracy of the last task in percent and, in brackets, the points that the first task gained"
    )
    for word in ("Joint training", "Mean drop", "Against finetune", MISSING, "One run a method"):
        assert word in whole
    few = sequence_caption(sequence_rows([runs[1]]))
    for word in ("Joint training", "Against finetune", MISSING):
        assert word not in few


def test_csv_in_full_precision_and_empty_where_there_is_nothing(run, runs):
    exact = [*runs, run("si", AB, 1.0, 1 / 3, 2 / 3), run("si", AB, 1.0, 1.0, 2 / 3, seed=1)]
    lines = {line["method"]: line for line in csv.DictReader(io.StringIO(csv_sequences(sequence_rows(exact))))}
    si = lines["si"]
    assert si[f"{FORWARD} runs"] == "2"
    assert float(si[f"{FORWARD} newest"]) == 2 / 3
    assert float(si[f"{FORWARD} change"]) == (1 / 3 - 1.0) / 2
    assert float(si[f"{FORWARD} average std"]) == pytest.approx((1 / 3) / math.sqrt(2))
    assert [si[f"{BACKWARD} {name}"] for name in ("runs", "newest", "change std")] == ["", "", ""]
    assert lines["joint"][f"{FORWARD} change"] == ""
    assert lines["mas"]["mean drop"] == str(row_of(sequence_rows(exact), "mas").mean_drop)


def test_a_terminal_goes_without_what_does_not_fit_and_says_so(runs):
    rows = sequence_rows(runs)
    wide, narrow = (Console(width=width, record=True, file=io.StringIO()) for width in (80, 45))
    wide.print(terminal_sequences(rows, width=80))
    narrow.print(terminal_sequences(rows, width=45))
    text, short = wide.export_text(), narrow.export_text()
    assert f"80.0 ({MINUS}1.0)" in text
    assert f"90.0 ({MINUS}0.5)" in text
    assert "without" not in text
    assert f"90.0 ({MINUS}0.5)" not in short
    assert f"without {BACKWARD}" in " ".join(short.split())
    assert "0.8" in short  # the mean over both sequences stays
    assert max(map(len, short.splitlines())) <= 45


def test_hostile_names_are_escaped(runs):
    named = [replace(run, method=HOSTILE if run.method == "mas" else run.method) for run in runs]
    rows = sequence_rows([replace(run, tasks=[HOSTILE, run.tasks[1]]) for run in named])
    html = html_sequences(rows)
    assert "<script>" not in html
    assert html.startswith('<div class="card scroll"><table class="compare">')
    for line in markdown_sequences(rows).splitlines()[:3]:
        assert line.replace(r"\|", "").count("|") == 6  # five cells
    latex = latex_sequences(rows)
    assert r"\_\#\$\%\{\}\textasciitilde{}" in latex
    assert r"$\to$ scenes" in latex
    Console(file=io.StringIO()).print(terminal_sequences(rows))


def test_what_cannot_stand_in_one_table_is_refused(run, runs):
    with pytest.raises(UserError, match="at least one run"):
        sequence_rows([])
    with pytest.raises(UserError, match="joint, seed 0"):
        sequence_rows([*runs, runs[0]])
    with pytest.raises(UserError, match="MAP and in accuracy"):
        sequence_rows([*runs, run("si", AB, 0.9, 0.8, 0.7, metric="MAP")])
