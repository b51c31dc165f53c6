"""Runs that recognise objects: percent, points, the columns and the words of accuracy, checked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from cells import best, cells, fields, texts

from tripletcl.compare.plan import comparison_objects
from tripletcl.errors import UserError
from tripletcl.report import comparison_rows, comparison_table, terminal_table
from tripletcl.report.comparison import exact_comparison
from tripletcl.report.figures import ap_figure, curve_figures, final_figure, forgetting_figure, matrix_figures
from tripletcl.report.formatting import (
    MINUS,
    MISSING,
    fraction_tick,
    percent,
    percent_tick,
    short_percent,
    signed_percent,
)
from tripletcl.report.grouping import group_by_method, lowest_score
from tripletcl.report.metric import METRICS, metric_of
from tripletcl.report.sentences import findings, headline

TASKS = ["flowers", "scenes"]


@pytest.fixture(scope="module")
def run(make_run):
    """A run of two tasks: the score of the first when it was learned, then of both at the end."""

    def build(method: str, learned: float, first: float, last: float, seed: int = 0):
        stages = [[None, None], [learned, None], [first, last]]
        stages = [stages[0], stages[2]] if method == "joint" else stages
        means = [None, learned, (first + last) / 2]
        return make_run(
            method, stages, seed=seed, tasks=TASKS, split="flowers → scenes", metric="accuracy",
            overall=[None, means[2]] if method == "joint" else means, recall={}, mrr=None, ap=[], map_matrix_all=[],
        )  # fmt: skip

    return build


@pytest.fixture(scope="module")
def runs(run):
    """finetune, MAS and joint with two seeds."""
    return [
        run("joint", 0.0, 0.92, 0.88),
        run("mas", 0.88, 0.86, 0.80),
        run("finetune", 0.90, 0.70, 0.84),
        run("joint", 0.0, 0.92, 0.88, seed=1),
        run("mas", 0.90, 0.90, 0.80, seed=1),
        run("finetune", 0.92, 0.68, 0.86, seed=1),
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9931, "99.31"),
        (0.9923, "99.23"),  # .08 points apart
        (1, "100.00"),
        (0, "0.00"),
        (-0.012, f"{MINUS}1.20"),
        (-0.00001, "0.00"),
        (None, MISSING),
        (math.nan, MISSING),
    ],
)
def test_accuracies_are_written_in_percent(value, text):
    assert percent(value) == text


def test_points_have_a_sign_and_round_numbers_no_digits():
    assert [signed_percent(value) for value in (0.012, -0.012, 0.0)] == ["+1.20", f"{MINUS}1.20", "0.00"]
    assert [short_percent(value) for value in (0.8844, 1.0, None)] == ["88.4", "100", MISSING]
    assert [percent_tick(value) for value in (0, 0.2, 0.985, 1, -0.1)] == ["0", "20", "98.5", "100", f"{MINUS}10"]
    assert [fraction_tick(value) for value in (0, 1e-17, 0.2, 0.25, 1)] == ["0", "0", ".2", ".25", "1"]


def test_a_row_of_the_table_by_hand(runs):
    table = comparison_table(comparison_rows(runs))
    assert table.titles == ["method", *TASKS, "average", "drop", "forgetting", "new tasks", "gap closed", "time"]
    assert [(cell.text, cell.std) for cell in cells(table)["MAS"].values()] == [
        ("88.00", "2.83"),
        ("80.00", "0.00"),
        ("84.00", "1.41"),
        ("1.00", "1.41"),  # 2 and 0 points
        ("1.00", "1.41"),
        (f"{MINUS}5.00", "1.41"),  # 80 against 84, 80 against 86
        ("53.8", "10.9"),  # 6 / 13 and 8 / 13
        ("60 s", ""),
    ]
    assert texts(table)["finetune"] == ["69.00", "85.00", "77.00", "22.00", "22.00", "0.00", "0.0", "60 s"]
    assert texts(table)["joint"] == ["92.00", "88.00", "90.00", MISSING, MISSING, MISSING, "100", "60 s"]
    marked = {title for title, names in best(table).items() if names == ["MAS"]}
    assert marked == {"flowers", "average", "drop", "forgetting", "gap closed"}


def test_a_number_that_needs_another_run_has_a_column_only_with_it(runs):
    table = comparison_table(comparison_rows([run for run in runs if run.method == "mas"]))
    assert table.titles == ["method", *TASKS, "average", "drop", "forgetting", "time"]
    assert "finetune" not in table.caption


def test_the_caption_explains_each_number(runs):
    caption = comparison_table(comparison_rows(runs)).caption
    for part in (
        "Accuracy after the last task, in percent: each task on its own test images, and their average.",
        "Drop: points that an earlier task lost since it was just learned, on average.",
        "New tasks: points by which tasks after the first, each just learned, are above finetune's.",
        "in average accuracy, in percent.",
        "± is the standard deviation over two runs.",
    ):
        assert part in caption
    assert "MAP" not in caption


def test_csv_has_fractions(runs):
    line = fields(exact_comparison(comparison_rows(runs)))["mas"]
    assert float(line["accuracy flowers"]) == pytest.approx(0.88)
    assert float(line["average_accuracy"]) == pytest.approx(0.84)
    assert float(line["new_tasks"]) == pytest.approx(-0.05)
    assert not any("map" in name or "mrr" in name for name in line)


def test_objects_for_scripts(runs):
    rows = {(row["method"], row["seed"]): row for row in comparison_objects(runs)}
    row = rows["mas", 0]
    keys = "method seed split tasks metric accuracy_tasks average_accuracy drops forgetting backward_transfer new_tasks"
    assert row.keys() == {*keys.split(), "gap_closed", "seconds", "method_bytes", "lams"}
    assert row["accuracy_tasks"] == [0.86, 0.80]
    assert row["average_accuracy"] == pytest.approx(0.83)
    assert row["drops"] == [pytest.approx(0.02), 0]
    assert row["new_tasks"] == pytest.approx(-0.04)
    assert row["gap_closed"] == pytest.approx(6 / 13)
    assert (rows["joint", 0]["drops"], rows["joint", 0]["new_tasks"]) == ([None, None], None)
    assert comparison_objects([run for run in runs if run.method == "mas"])[0]["new_tasks"] is None


def test_headline_and_findings(runs):
    assert headline(runs) == "After two tasks, finetune keeps 69.0 of 91.0 % on flowers; MAS keeps 88.0 of 89.0 %."
    text = " ".join(findings(runs))
    assert "Average accuracy over all tasks, in percent: finetune 77.00, MAS 84.00, joint 90.00." in text
    assert "MAS closes 54% of the gap between finetune and joint training." in text
    assert "On the last task: finetune 85.0 %, MAS 80.0 %." in text
    assert "MAP" not in text


def test_a_worse_method_is_called_worse_and_one_that_gains_gains(run):
    runs = [run("finetune", 0.90, 0.80, 0.84), run("mas", 0.50, 0.55, 0.30)]
    assert headline(runs) == "After two tasks, finetune keeps 80.0 of 90.0 % on flowers; MAS rises from 50.0 to 55.0 %."
    text = " ".join(findings(runs))
    assert "MAS does not beat finetune there." in text
    assert "Not repeated with other seeds" in text


def test_one_task_joint_only_and_frozen(run, make_run, runs):
    single = make_run("mas", [[None], [0.884]], tasks=["flowers"], metric="accuracy", overall=[None, 0.884])
    assert headline([single]) == "On one task, MAS reaches 88.4 % average accuracy over all tasks."
    assert headline(runs[:1]) == "Trained on both tasks at once, joint reaches 90.0 % average accuracy over all tasks."
    frozen = run("frozen", 0.90, 0.90, 0.88)
    assert "A model that is frozen after the first task does as well: 89.00 %." in findings([*runs, frozen])


def test_stages_before_a_head_is_trained_are_not_drawn(runs):
    axes = matrix_figures(runs)["mas"].axes[0]
    assert [text.get_text() for text in axes.texts] == ["89.0", "88.0", MISSING, "80.0"]  # after tasks 1 and 2
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2"]
    shared = [replace(run, matrix=[[0.1, 0.1], *run.matrix[1:]]) for run in runs]
    assert len(matrix_figures(shared)["mas"].axes[0].texts) == 6


def test_curves_of_high_scores_do_not_start_at_zero(runs):
    figure = curve_figures(runs)["flowers"]
    low, high = figure.axes[0].get_ylim()
    assert 0.5 < low < 0.68
    assert 0.92 < high < 1
    assert low == lowest_score(group_by_method(runs))
    assert [text.get_text() for text in figure.axes[0].texts] == ["69.0 finetune", "88.0 MAS", "92.0 joint"]
    heights = [text.get_position()[1] for text in figure.axes[0].texts]
    assert heights == sorted(heights)
    assert all(low <= height <= high for height in heights)


def test_bars_are_in_percent(runs):
    final, lost = final_figure(runs).axes[0], forgetting_figure(runs).axes[0]
    assert [text.get_text() for text in final.texts] == ["77.00", "84.00", "90.00"]
    assert final.get_xlabel() == "average accuracy over all tasks, %"
    assert [text.get_text() for text in lost.texts] == ["22.00", "1.00"]
    assert ap_figure(runs) is None


def test_a_narrow_terminal_shows_the_main_columns(runs):
    table = terminal_table(comparison_table(comparison_rows(runs)), width=60)
    assert {"mean", "drop", "new"} <= {str(column.header) for column in table.columns}


def test_facts_and_objects_are_not_in_one_table(runs, six_runs):
    with pytest.raises(UserError, match="measured in MAP and in accuracy"):
        comparison_rows([*runs, *six_runs])
    with pytest.raises(UserError, match="at least one run"):
        metric_of([])


def test_every_metric_writes_all_its_columns():
    for metric in METRICS.values():
        assert set(metric.expendable) <= {*metric.measures, "tasks", "runs", "lams"}
        assert set(metric.notes) <= {*metric.measures, "lams"}
        assert all(column.text(0.5) and column.text(None) == MISSING for column in metric.measures.values())
        assert np.all([metric.text(None) == MISSING, metric.tick(0.0) == "0"])
