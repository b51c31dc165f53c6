"""One table in all its writings: the same cells, everything escaped, what does not fit named."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from jinja2 import UndefinedError
from rich.console import Console

from tripletcl.report.formatting import MINUS, MISSING
from tripletcl.report.html import macros, render
from tripletcl.report.table import Cell, Column, Table, csv_table, latex_table, markdown_table, terminal_table

HOSTILE = r'<script>&_#$%{}~^\|"'


@pytest.fixture
def table() -> Table:
    columns = [Column("method", align="left"), Column("all facts", "all"), Column("last task", dropped=1)]
    mas = [Cell("MAS"), Cell(".445", ".012", best=True), Cell("80.0", ".4", change=Cell(f"{MINUS}1.0", best=True))]
    return Table(columns, [mas, [Cell(HOSTILE), Cell(MISSING), Cell("90.0")]], "What it shows.", "A title")


class Cells(HTMLParser):
    """The texts of the cells of a table, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False
        self.tags: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = True
        elif tag == "small":
            self.rows[-1][-1] += " "

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def printed(table: Table, width: int) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(terminal_table(table, width))
    return console.export_text()


def test_markdown_has_the_cells_the_alignment_and_the_caption(table):
    title, blank, *lines = markdown_table(table).splitlines()
    assert (title, blank) == ("## A title", "")
    assert lines[0] == "| method | all facts | last task |"
    assert lines[1] == "| --- | ---: | ---: |"
    assert lines[2] == f"| MAS | **.445** ± .012 | 80.0 ± .4 (**{MINUS}1.0**) |"
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]] == [4] * 4
    assert not re.search(r"(?<!\\)<", lines[3])
    assert lines[4:] == ["", "What it shows."]


def test_csv_has_one_field_a_cell(table):
    rows = list(csv.reader(io.StringIO(csv_table(table))))
    assert rows == [table.titles, ["MAS", ".445", "80.0"], [HOSTILE, MISSING, "90.0"]]


def test_latex_escapes_every_special_character(table):
    text = latex_table(table, "tab:one")
    assert r"    MAS & \textbf{.445} $\pm$ .012 & 80.0 $\pm$ .4 (\textbf{$-$1.0}) \\" in text
    assert (
        r"\textless{}script\textgreater{}\&\_\#\$\%\{\}\textasciitilde{}\textasciicircum{}"
        r"\textbackslash{}\textbar{}''" in text
    )
    assert r"\begin{tabular}{lrr}" in text
    assert r"\caption{What it shows.}" in text
    assert r"\label{tab:one}" in text
    bare = re.sub(r"\\[\\{}$&%#_]|\\[a-z]+", "", text)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert not set('%#_~^<>|"') & set(bare)


def test_html_has_the_cells_and_escapes_them(table):
    html = str(macros().table(table))
    cells = Cells(html)
    assert cells.rows == [
        ["method", "all facts", "last task"],
        ["MAS", ".445 ± .012", f"80.0 ({MINUS}1.0) ± .4 ({MISSING})"],
        [HOSTILE, MISSING, "90.0"],
    ]
    assert "script" not in cells.tags
    assert f"<b>.445</b><small>± .012</small></td><td>80.0 (<b>{MINUS}1.0</b>)" in html
    assert '<p class="note">What it shows.</p>' in html


def test_html_rows_have_colours_and_pairs_have_no_head(table):
    html = macros().table(table, "compare", ["#123456", "#654321"])
    assert re.findall(r"background:(#\d+)", html) == ["#123456", "#654321"]
    pairs = Table([Column(""), Column("")], [[Cell("torch"), Cell("2.11")]])
    html = str(macros().table(pairs))
    assert "thead" not in html
    assert Cells(html).rows == [["torch", "2.11"]]


def test_a_terminal_as_wide_as_the_table_shows_it_all(table):
    text = printed(table, 80)
    assert text.split("\n")[0].strip() == "A title"
    assert {"method", "all", "last", "task"} <= set(text.split())
    assert f"80.0 ({MINUS}1.0)" in text
    assert f"±.4 ({MISSING})" in text
    assert "without" not in text


def test_a_narrow_terminal_goes_without_columns_and_names_them(table):
    text = printed(table, 30)
    assert "80.0" not in text
    assert "without last task" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 30


def test_templates_are_rendered_by_their_path_and_miss_no_value():
    assert render("report/templates/style.css").startswith(":root")
    with pytest.raises(UndefinedError):
        macros().head()
