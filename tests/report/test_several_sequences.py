"""Runs of several sequences of tasks on one page, in one table file and on one terminal."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from itertools import permutations

import pytest
from many_methods import random_object_runs

from tripletcl.report import print_tables, write_report, written_tables
from tripletcl.report.chart_style import method_styles, palette
from tripletcl.report.sentences import sequences_findings, sequences_headline
from tripletcl.report.sequences import sequence_rows

AB, BA = ("flowers", "scenes"), ("scenes", "flowers")
NUMBERS = {"finetune": (0.5, 0.6, 0, 0), "mas": (0.9, 0.58, 2, 0), "lwf": (0.8, 0.6, 1, 0), "joint": (1, 0.66, 0, 0)}


@pytest.fixture(scope="module")
def runs():
    """Four methods on two orders with two seeds; LwF only on the second."""
    everything = random_object_runs([AB, BA], 2, NUMBERS)
    return [run for run in everything if run.method != "lwf" or tuple(run.tasks) == BA]


def page_of(tmp_path, runs, **changes) -> str:
    path = write_report(tmp_path / "page.html", runs, title="t", settings={}, environment={}, **changes)
    return path.read_text(encoding="utf-8")


def run_of(make_run, method, tasks, learned, first, last):
    stages = [[None, None], [learned, None], [first, last]]
    stages = [stages[0], stages[2]] if method == "joint" else stages
    overall = [None] * (len(stages) - 1) + [(first + last) / 2]
    return make_run(method, stages, tasks=tasks, split=" → ".join(tasks), metric="accuracy", overall=overall)


def test_the_table_over_all_comes_first_then_a_part_for_each(tmp_path, runs):
    html = page_of(tmp_path, runs)
    words = re.sub(r"<[^>]+>|\s+", " ", html.partition("<main>")[2])
    words = re.sub(r"\s+", " ", words)
    parts = [
        "Over two sequences, finetune loses",
        "two sequences · four methods · 14 runs",
        "Sequences",
        "Accuracy of the last task in percent",
        "flowers → scenes After two tasks, finetune keeps",
        "Comparison",
        "Each task after each stage",
        "Stage by stage",
        "At the end",
        "Memory",
        "scenes → flowers After two tasks, finetune keeps",
        "Comparison",
    ]
    at = 0
    for part in parts:
        assert part in words[at:], part
        at += words[at:].index(part) + 1
    assert html.count('<details class="sequence" open>') == 2
    assert html.count("<h1>") == 1


def test_a_method_has_its_colour_in_every_part(tmp_path, runs):
    html = page_of(tmp_path, runs)
    styles = method_styles(["finetune", "mas", "lwf", "joint"])
    swatches = re.findall(r'class="swatch" style="background:(#\w+)"></i>([^<]+)<', html)
    names = {"finetune": "finetune", "MAS": "mas", "LwF": "lwf", "joint": "joint"}
    assert set(swatches) == {(styles[method].color, name) for name, method in names.items()}
    assert len(swatches) == 4 + 3 + 4  # over all; without LwF; with it


def test_a_palette_keeps_the_colours_of_all():
    everything = ["finetune", "si", "ewc", "mas"]
    with palette(everything):
        assert method_styles(["ewc"]) == {"ewc": method_styles(everything)["ewc"]}
    assert method_styles(["ewc"])["ewc"].color == method_styles(everything)["si"].color, "the first of one"


def test_many_sequences_have_their_tables_alone(tmp_path):
    orders = list(permutations(["flowers", "scenes", "birds", "cars"], 2))[:9]
    html = page_of(tmp_path, random_object_runs(orders, 1, {m: NUMBERS[m] for m in ("finetune", "mas")}))
    assert html.count('<details class="sequence">') == 9
    assert "Stage by stage" not in html
    assert "<img" not in html


def test_facts_of_different_tasks_stand_in_two_parts(tmp_path, six_runs, make_run):
    longer = [
        make_run(method, [[0.1] * 3, [0.6, 0.1, 0.1], [0.5, 0.6, 0.1], [0.4, 0.5, last]], seed=7)
        for method, last in (("finetune", 0.6), ("mas", 0.7))
    ]
    html = page_of(tmp_path, [*six_runs, *longer])
    words = re.sub(r"<[^>]+>", " ", html)
    assert "After two tasks, finetune keeps .30 of .70 on the first; MAS keeps .60 of .65." in words
    assert "After three tasks, finetune keeps .40 of .60 on the first; MAS keeps .40 of .60." in words
    assert words.count("Best and worst facts") == 2
    assert "±" in words


def test_headline_and_findings_over_sequences_by_hand(make_run):
    runs = [
        run_of(make_run, "finetune", AB, 0.90, 0.70, 0.84),
        run_of(make_run, "finetune", BA, 0.80, 0.72, 0.92),
        run_of(make_run, "mas", AB, 0.90, 0.89, 0.80),
        run_of(make_run, "mas", BA, 0.80, 0.79, 0.90),
        run_of(make_run, "joint", AB, 0.0, 0.92, 0.88),
    ]
    rows = sequence_rows(runs)
    assert sequences_headline(rows) == (
        "Over two sequences, finetune loses 14.0 points on each earlier task; MAS loses 1.0 points."
    )
    assert sequences_findings(rows) == [
        "Accuracy at the end, on average over tasks and sequences: finetune 79.5 %, MAS 84.5 %.",
        "On the last task MAS is 3.0 points below finetune.",
        "Not repeated with other seeds: the influence of chance on these numbers is not known.",
    ]


def test_a_worse_method_is_called_worse_over_sequences(make_run):
    runs = [
        run_of(make_run, method, tasks, 0.8, first, last)
        for tasks in (AB, BA)
        for method, first, last in (("finetune", 0.8, 0.9), ("mas", 0.82, 0.5))
    ]
    rows = sequence_rows(runs)
    assert sequences_headline(rows) == (
        "Over two sequences, finetune loses nothing on each earlier task; MAS gains 2.0 points."
    )
    assert "MAS does not beat finetune there." in sequences_findings(rows)
    only_joint = sequence_rows([run_of(make_run, "joint", tasks, 0, 0.8, 0.8) for tasks in (AB, BA)])
    assert sequences_headline(only_joint) == "Two sequences of tasks, one method."


def test_tables_are_written_over_all_and_for_each(runs):
    written = written_tables(runs)
    assert set(written) == {"table.md", "table.csv", "table.tex", "table-1.csv", "table-2.csv"}
    assert re.findall(r"^## .*$", written["table.md"], re.MULTILINE) == ["## flowers → scenes", "## scenes → flowers"]
    assert written["table.md"].index("Accuracy of the last task") < written["table.md"].index("## flowers")
    assert len(set(re.findall(r"\\label\{([^}]+)\}", written["table.tex"]))) == 3
    first, second = (list(csv.DictReader(io.StringIO(written[f"table-{n}.csv"]))) for n in (1, 2))
    assert [row["method"] for row in first] == ["finetune", "mas", "joint"]
    assert [row["method"] for row in second] == ["finetune", "mas", "lwf", "joint"]
    one = written_tables([run for run in runs if tuple(run.tasks) == AB])
    assert set(one) == {"table.md", "table.csv", "table.tex"}


def test_the_terminal_shows_the_table_over_all_then_each(runs, capsys):
    print_tables(runs)
    output = capsys.readouterr().out
    places = [output.index(part) for part in ("→", "Accuracy of the last task", "Accuracy after the last task")]
    assert places == sorted(places)
    assert output.count("Accuracy after the last task") == 1, "a caption that holds for all is printed once"
    assert output.count("gap") >= 2
    print_tables([run for run in runs if tuple(run.tasks) == AB])
    assert "Accuracy of the last task" not in capsys.readouterr().out


def test_a_sweep_has_a_picture_over_lam(tmp_path, runs):
    lams = {f"mas-lam{lam}": lam for lam in (0.1, 1.0, 10.0)}
    ab = [run for run in runs if tuple(run.tasks) == AB and run.method != "mas"]
    swept = [
        replace(run, method=label) for label in lams for run in random_object_runs([AB], 2, {"mas-x": NUMBERS["mas"]})
    ]
    html = page_of(tmp_path, [*ab, *swept], sweeps={"mas": lams})
    assert "Weight of the penalty" in html
    few = dict(list(lams.items())[:2])
    assert "Weight of the penalty" not in page_of(tmp_path, [*ab, *swept], sweeps={"mas": few})
