"""The comparison of methods: its numbers by hand, its order, its marks, its columns."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import pytest
from cells import best, cells, fields, texts
from rich.console import Console

from tripletcl.errors import UserError
from tripletcl.report import comparison_rows, comparison_table, latex_table, markdown_table, terminal_table
from tripletcl.report.comparison import Row, chosen_lams, exact_comparison
from tripletcl.report.formatting import MINUS, MISSING, duration, fraction, megabytes, method_label, shortened, signed


def row_of(rows: list[Row], method: str) -> Row:
    return next(row for row in rows if row["method"] == method)


def test_numbers_of_two_methods_and_two_seeds_by_hand(six_runs):
    row = row_of(comparison_rows(six_runs), "mas")
    half = math.sqrt(2) / 2  # the sample standard deviation of (a, a + d) is d / sqrt(2)

    assert row["runs"] == 2
    for name, mean, step in [("task 1", 0.6, 0.2), ("task 2", 0.6, 0.0)]:
        assert row["tasks"][name].mean == pytest.approx(mean)
        assert row["tasks"][name].std == pytest.approx(step * half)
    expected = {
        "mean_score": (0.6, 0.1),  # .55 and .65
        "overall": (0.37, 0.06),
        "forgetting": (0.05, 0.1),  # .6 to .5, and .7 to .7
        "backward_transfer": (-0.05, 0.1),
        "recall@5": (0.4, 0.0),
        "mrr": (0.25, 0.0),
        "gap_closed": ((14 / 30 + 10 / 30) / 2, 4 / 30),  # each seed between its own finetune and joint
        "seconds": (120.0, 40.0),
    }
    for key, (mean, step) in expected.items():
        assert row[key].mean == pytest.approx(mean), key
        assert row[key].std == pytest.approx(step * half), key
    assert row_of(comparison_rows(six_runs), "finetune")["forgetting"].mean == pytest.approx(0.4)


def test_finetune_comes_first_and_joint_last(six_runs, make_run):
    matrix = six_runs[1].matrix
    runs = [make_run("zeta", matrix), *six_runs, make_run("alpha", matrix)]
    assert [row["method"] for row in comparison_rows(runs)] == ["finetune", "zeta", "mas", "alpha", "joint"]


def test_one_run_has_no_standard_deviation(six_runs):
    row = comparison_rows([six_runs[1]])[0]
    assert row["overall"].mean == pytest.approx(0.34)
    assert row["overall"].std is None
    assert "±" not in markdown_table(comparison_table([row])).partition("\n\n")[0]


def test_only_joint_has_no_forgetting_and_no_gap(six_runs):
    rows = comparison_rows([six_runs[0]])
    assert [rows[0][key] for key in ("forgetting", "backward_transfer", "gap_closed")] == [None, None, None]
    table = comparison_table(rows)
    numbers = [".700", ".800", ".750", ".500", MISSING, MISSING, ".400", ".250", MISSING, "60 s"]
    assert texts(table) == {"joint": numbers}
    assert "Gap closed" not in table.caption


def test_one_task_has_no_forgetting(make_run):
    rows = comparison_rows([make_run("mas", [[0.1], [0.6]])])
    assert rows[0]["forgetting"] is None
    assert cells(comparison_table(rows))["MAS"]["forgetting"].text == MISSING


def test_gap_needs_finetune_and_joint_of_the_same_seed(six_runs):
    rows = comparison_rows([six_runs[2], six_runs[4], six_runs[0]])  # mas of seed 1, the others of seed 0
    assert row_of(rows, "mas")["gap_closed"] is None


def test_the_best_in_sequence_is_bold_and_controls_do_not_compete(six_runs, make_run):
    frozen = make_run("frozen", [[0.1, 0.1], [0.9, 0.1], [0.9, 0.1]], map_all=0.15)
    marked = best(comparison_table(comparison_rows([*six_runs, frozen])))
    assert marked["task 1"] == ["MAS"]
    assert marked["task 2"] == ["finetune"]
    assert marked["forgetting"] == ["MAS"]
    assert marked["backward transfer"] == ["MAS"]
    assert marked["recall@5"] == ["finetune", "MAS"]  # equal as printed
    assert marked["time"] == []


def test_nothing_is_bold_where_one_method_has_no_rival(six_runs):
    table = comparison_table(comparison_rows([run for run in six_runs if run.method != "mas"]))
    assert not any(best(table).values())
    assert "Bold" not in table.caption


def test_unequal_numbers_of_runs_are_shown(six_runs):
    table = comparison_table(comparison_rows(six_runs[1:]))
    assert [row["runs"].text for row in cells(table).values()] == ["2", "2", "1"]


def test_tasks_named_differently_by_the_runs_are_numbered(make_run):
    matrix = [[0.1, 0.1], [0.6, 0.1], [0.5, 0.6]]
    same = [make_run("mas", matrix, tasks=["sports", "streets"])]
    other = [*same, make_run("mas", matrix, seed=1, tasks=["streets", "sports"])]
    assert list(comparison_rows(same)[0]["tasks"]) == ["sports", "streets"]
    assert list(comparison_rows(other)[0]["tasks"]) == ["task 1", "task 2"]


def test_runs_that_cannot_be_in_one_table_are_refused(six_runs, make_run):
    with pytest.raises(UserError, match="at least one run"):
        comparison_rows([])
    with pytest.raises(UserError, match="1 and 2 tasks"):
        comparison_rows([*six_runs, make_run("mas", [[0.1], [0.5]], seed=5)])
    with pytest.raises(UserError, match="mas, seed 0"):
        comparison_rows([six_runs[1], six_runs[1]])
    with pytest.raises(UserError, match="stages"):
        comparison_rows([six_runs[1], make_run("mas", [[0.1, 0.1], [0.5, 0.5]], seed=1)])


def test_csv_keeps_full_precision_and_leaves_the_undefined_empty(six_runs):
    exact = replace(six_runs[0], overall=[0.0, 1 / 3], method='a,"b"')
    line = fields(exact_comparison(comparison_rows([exact])))['a,"b"']
    assert float(line["map_all"]) == 1 / 3
    assert line["map_all std"] == line["forgetting"] == ""
    assert float(line["map task 1"]) == 0.7


def test_names_of_tasks_and_methods_are_escaped(six_runs):
    runs = [replace(run, method="<b>", tasks=["a_b", "50%"]) for run in six_runs if run.method == "mas"]
    table = comparison_table(comparison_rows(runs))
    latex = latex_table(table, "tab:comparison")
    assert r"a\_b & 50\%" in latex
    assert ".600 $\\pm$ .141" in latex  # .5 and .7
    assert r"| \<b\> | .600 ± .141 |" in markdown_table(table)


def test_terminal_table_fits_80_characters_and_prints_names_as_they_are(make_run):
    row = [0.1] * 4
    runs = [
        make_run(method, [row, [0.6] * 4, [0.5] * 4, [0.45] * 4, [0.4] * 4], seed=seed, map_all=0.3 + 0.01 * seed)
        for method in ("finetune", "[red]x")
        for seed in (0, 1)
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(terminal_table(comparison_table(comparison_rows(runs))))
    text = console.export_text()
    assert "[red]x" in text
    assert "…" not in text
    assert "±.007" in text
    assert max(map(len, text.splitlines())) <= 80


def printed(rows: list[Row], width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal_table(comparison_table(rows), width))
    return console.export_text()


def test_a_narrow_terminal_goes_without_columns_and_says_so(many_runs):
    rows = comparison_rows(many_runs)
    lines = printed(rows, 80).splitlines()
    header = lines[0].split()
    assert header[0] == "method"
    assert {"all", "gap", "lost"} <= set(header)
    assert "MRR" not in header
    assert "without task 1, task 2" in " ".join(lines[-3:])
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith("MAS-scopelocal ")]) == 1
    assert len(lines) == 2 + 2 * 13 + 2  # no number is broken in two: a title, means, deviations, what is missing


def test_a_wide_terminal_shows_everything(many_runs):
    text = printed(comparison_rows(many_runs), 250)
    assert "without" not in text
    titles = "method 1 2 3 4 mean all open sub lost BWT R@5 MRR gap time mem lam"
    assert text.splitlines()[1].split() == titles.split()  # "task" is above the numbers


def test_a_number_that_no_run_has_is_no_column(six_runs):
    assert comparison_table(comparison_rows(six_runs)).titles[-1] == "time"
    measured = {"map_open": [0.1, 0.2, 0.25], "map_subset": [0.0, 0.5, 0.6], "method_bytes": [0, 5, 2_400_000]}
    measured["lams"] = [None, 3.0]
    runs = [replace(run, **measured) if run.method == "mas" else run for run in six_runs]
    rows = comparison_rows(runs)
    table, titles = comparison_table(rows), ("open vocabulary", "subset", "memory", "chosen lam")
    assert [cells(table)["MAS"][title].text for title in titles] == [".250", ".600", "2.4 MB", "3"]
    assert {cells(table)["finetune"][title].text for title in titles} == {MISSING}
    assert "1 MB = 10" in table.caption
    line = fields(exact_comparison(rows))["mas"]
    assert (line["method_bytes"], line["lams"], line["map_open"]) == ("2400000.0", "3.0 3.0", "0.25")


def test_chosen_lams_of_one_run_and_of_several(six_runs):
    one = replace(six_runs[1], lams=[None, 3.0, 6.0])
    assert chosen_lams([one]) == [3.0, 6.0]
    other = replace(six_runs[4], lams=[None, 1.5, 1.5, 12.0])
    assert chosen_lams([one, other, replace(six_runs[0], lams=[])]) == [4.5, 1.5]
    assert cells(comparison_table(comparison_rows([one])))["MAS"]["chosen lam"].text == "3, 6"


def test_caption_names_gallery_normaliser_and_spread(six_runs):
    caption = comparison_table(comparison_rows(six_runs)).caption
    assert "each task on its own test images, all facts on all test images" in caption
    assert "AP is divided by the number of images that show the fact" in caption
    assert "standard deviation over two runs" in caption
    assert "One run a method" in comparison_table(comparison_rows(six_runs[:3])).caption


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4449, ".445"),
        (0, ".000"),
        (1, "1.000"),
        (-0.0123, f"{MINUS}.012"),
        (-0.0001, ".000"),
        (None, MISSING),
        (math.nan, MISSING),
    ],
)
def test_fractions_have_three_digits_and_no_leading_zero(value, text):
    assert fraction(value) == text


def test_the_signs_are_a_true_minus_and_an_en_dash():
    assert (ord(MINUS), ord(MISSING)) == (0x2212, 0x2013)


def test_other_numbers_and_names():
    assert [signed(value) for value in (0.012, -0.012, 0.0)] == ["+.012", f"{MINUS}.012", ".000"]
    assert [duration(value) for value in (8.21, 42, 99.4, 720, 5040, None)] == [
        "8.2 s",
        "42 s",
        "99 s",
        "12 min",
        "84 min",
        MISSING,
    ]
    assert duration(7200) == "2.0 h"
    assert [method_label(name) for name in ("mas-local", "mas+lwf", "mas_alpha", "mine")] == [
        "MAS-local",
        "MAS+LwF",
        "MAS-alpha",
        "mine",
    ]
    assert [megabytes(value) for value in (0, 3_000, 2_400_000, 27e6, 1.2e10, None)] == [
        "0 MB",
        "<0.1 MB",
        "2.4 MB",
        "27 MB",
        "12,000 MB",
        MISSING,
    ]
    assert shortened("a  long\nname", 8) == "a long…"
