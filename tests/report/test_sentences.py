"""The words of the report say what the numbers say, also when the method one hoped for is worse."""

from __future__ import annotations

from dataclasses import replace

from tripletcl.report.sentences import findings, headline


def test_headline_and_findings_where_mas_is_better(six_runs):
    assert headline(six_runs) == "After two tasks, finetune keeps .30 of .70 on the first; MAS keeps .60 of .65."
    text = " ".join(findings(six_runs))
    assert "finetune .250, MAS .370, joint .550" in text
    assert "MAS closes 40% of the gap between finetune and joint training." in text  # the mean of 14/30 and 10/30
    assert "On the last task: finetune .70, MAS .60." in text
    assert "within the spread" not in text  # .12 apart, .071 and .042 of deviation
    assert "Not repeated" not in text


def test_a_worse_method_is_called_worse(six_runs):
    runs = [replace(run, overall=[0.0, 0.0, 0.1]) if run.method == "mas" else run for run in six_runs]
    runs = [replace(run, matrix=[[0, 0], [0.5, 0], [0.1, 0.2]]) if run.method == "mas" else run for run in runs]
    assert headline(runs) == "After two tasks, finetune keeps .30 of .70 on the first; MAS keeps .10 of .50."
    text = " ".join(findings(runs))
    assert "MAS does not beat finetune there." in text
    assert "closes" not in text


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


def test_the_best_of_many_is_named_as_the_best_of_many(six_runs, make_run):
    better = [make_run("lwf", [[0.1, 0.1], [0.6, 0.1], [0.6, 0.6]], map_all=0.45, seed=seed) for seed in (0, 1)]
    runs = [*six_runs, *better]
    assert "; LwF holds .60." in headline(runs)
    assert "LwF is the best of two methods compared with finetune." in findings(runs)


def test_a_frozen_model_that_does_as_well_is_not_hidden(six_runs, make_run):
    frozen = make_run("frozen", [[0.1, 0.1], [0.7, 0.1], [0.7, 0.1]], map_all=0.6)
    assert "MAS" in headline([*six_runs, frozen])
    assert "Learning only the first task does as well: .600." in findings([*six_runs, frozen])


def test_no_gap_where_joint_is_not_better(six_runs):
    runs = [replace(run, overall=[0.0, 0.2]) if run.method == "joint" else run for run in six_runs]
    text = " ".join(findings(runs))
    assert "no gap to close" in text
    assert "closes" not in text


def test_one_method_only_joint_and_one_task(six_runs, make_run):
    assert headline([six_runs[1]]) == "After two tasks, MAS keeps .50 of .60 on the first."
    assert headline([six_runs[0]]) == "Trained on both tasks at once, joint reaches MAP .50 over all facts."
    assert findings([six_runs[0]]) == []
    single = [make_run("mas", [[0.1], [0.6]], map_all=0.4), make_run("finetune", [[0.1], [0.6]], map_all=0.3)]
    assert headline(single) == "On one task, finetune reaches MAP .30 over all facts, MAS .40."


def test_without_finetune_the_lowest_method_is_the_plain_one(six_runs, make_run):
    runs = [make_run("si", [[0.1, 0.1], [0.6, 0.1], [0.4, 0.6]], map_all=0.2), six_runs[1]]
    assert headline(runs) == "After two tasks, SI keeps .40 of .60 on the first; MAS keeps .50 of .60."
