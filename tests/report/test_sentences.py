"""The words of the report say what the numbers say, also when the method one hoped for is worse."""

from __future__ import annotations

from dataclasses import replace

from tripletcl.report.grouping import group_by_method
from tripletcl.report.sentences import (
    ap_title,
    curve_title,
    final_title,
    findings,
    forgetting_title,
    headline,
    matrix_title,
)
from tripletcl.report.tables import comparison_rows


def test_headline_and_findings_where_mas_is_better(six_runs):
    assert headline(six_runs) == "After two tasks, finetune keeps .30 of .70 on the first; MAS keeps .60 of .65."
    text = " ".join(findings(six_runs))
    assert "finetune .250, MAS .370, joint .550" in text
    assert "MAS closes 40% of the gap between finetune and joint training." in text  # the mean of 14/30 and 10/30
    assert "On the newest task: finetune .70, MAS .60." in text
    assert "within the spread" not in text  # .12 apart, .071 and .042 of deviation
    assert "Not repeated" not in text


def test_a_worse_method_is_called_worse(six_runs):
    runs = [replace(run, overall=[0.0, 0.0, 0.1]) if run.method == "mas" else run for run in six_runs]
    runs = [replace(run, matrix=[[0, 0], [0.5, 0], [0.1, 0.2]]) if run.method == "mas" else run for run in runs]
    assert headline(runs) == "After two tasks, finetune keeps .30 of .70 on the first; MAS keeps .10 of .50."
    text = " ".join(findings(runs))
    assert "MAS does not beat finetune there." in text
    assert "closes" not in text
    assert final_title(group_by_method(runs)) == "In sequence, finetune knows most: .250"


def test_a_difference_within_the_spread_is_said_to_be(six_runs):
    near = {0: 0.24, 1: 0.30}
    runs = [replace(run, overall=[0.0, near[run.seed]]) if run.method == "mas" else run for run in six_runs]
    assert "The difference between finetune and MAS is within the spread of the runs." in findings(runs)


def test_one_seed_is_said_to_be_one_seed(six_runs):
    assert any(sentence.startswith("Not repeated with other splits or seeds") for sentence in findings(six_runs[:3]))


def test_holding_and_rising_are_not_called_keeping(make_run):
    held = make_run("finetune", [[0.1, 0.1], [0.601, 0.1], [0.599, 0.6]], map_all=0.2)
    risen = make_run("mas", [[0.1, 0.1], [0.6, 0.1], [0.65, 0.6]], map_all=0.3)
    assert headline([held, risen]) == "After two tasks, finetune holds .60 on the first; MAS rises from .60 to .65."
    assert matrix_title("mas", [risen]) == "MAS gains on task 1: .60 → .65"
    assert forgetting_title(comparison_rows([risen])) == "No method forgets; MAS gains most, .050 a task"


def test_the_best_of_many_is_named_as_the_best_of_many(six_runs, make_run):
    better = [make_run("lwf", [[0.1, 0.1], [0.6, 0.1], [0.6, 0.6]], map_all=0.45, seed=seed) for seed in (0, 1)]
    runs = [*six_runs, *better]
    assert "; LwF holds .60." in headline(runs)
    assert "LwF is the best of two methods compared with finetune." in findings(runs)


def test_a_frozen_model_that_does_as_well_is_not_hidden(six_runs, make_run):
    frozen = make_run("frozen", [[0.1, 0.1], [0.7, 0.1], [0.7, 0.1]], map_all=0.6)
    assert "MAS" in headline([*six_runs, frozen])
    assert "Learning only the first task does as well: .600." in findings([*six_runs, frozen])
    assert final_title(group_by_method([*six_runs, frozen])) == "In sequence, frozen knows most: .600"


def test_no_gap_where_joint_is_not_better(six_runs):
    runs = [replace(run, overall=[0.0, 0.2]) if run.method == "joint" else run for run in six_runs]
    text = " ".join(findings(runs))
    assert "no gap to close" in text
    assert "closes" not in text


def test_one_method_only_joint_and_one_task(six_runs, make_run):
    assert headline([six_runs[1]]) == "After two tasks, MAS keeps .50 of .60 on the first."
    assert headline([six_runs[0]]) == "Trained on both tasks at once, joint reaches MAP .50 over all facts."
    assert findings([six_runs[0]]) == []
    alone = [make_run("mas", [[0.1], [0.6]], map_all=0.4), make_run("finetune", [[0.1], [0.6]], map_all=0.3)]
    assert headline(alone) == "On one task, finetune reaches MAP .30 over all facts, MAS .40."


def test_without_finetune_the_lowest_method_is_the_plain_one(six_runs, make_run):
    runs = [make_run("si", [[0.1, 0.1], [0.6, 0.1], [0.4, 0.6]], map_all=0.2), six_runs[1]]
    assert headline(runs) == "After two tasks, SI keeps .40 of .60 on the first; MAS keeps .50 of .60."


def test_titles_of_pictures(six_runs):
    groups = group_by_method(six_runs)
    rows = comparison_rows(six_runs)
    assert matrix_title("finetune", groups["finetune"]) == "finetune forgets task 1: .70 → .30"
    assert matrix_title("joint", groups["joint"]) == "joint: all tasks at once"
    assert curve_title(groups, 0) == "finetune forgets task 1: .70 → .30; MAS has .60"
    assert curve_title(groups, 1) == "task 2, the newest: finetune has .70"
    assert forgetting_title(rows) == "finetune forgets .400 a task, MAS .050"
    assert final_title(groups) == "In sequence, MAS knows most: .370"
    assert ap_title(groups) == "Half the facts reach AP .40 with MAS, .40 with finetune"
