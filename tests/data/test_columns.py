"""Columns of a table: those that pyarrow reads equal those of the csv module, and all is done by distinct value."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tripletcl.data.columns import Column, _read_any_csv, _read_csv, _read_plain_csv, combine, distinct_rows
from tripletcl.errors import UserError

NAMES = ["image", "subject"]
HEADER = " image,note, subject\n"
PATH = Path("facts.csv")

cells = st.text(st.characters(exclude_categories=["Cs"], exclude_characters='\r\n,"'), max_size=6)
rows = st.lists(st.tuples(cells, cells, cells).map(",".join), min_size=1, max_size=9)


@settings(deadline=None)
@given(rows, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n", "\r\n\n"]))
def test_lines_without_quotes_are_read_as_by_the_csv_module(lines: list[str], ending: str, end: str) -> None:
    text = HEADER + ending.join(lines) + end
    plain, numbered = _read_plain_csv(PATH, text, NAMES, ()), _read_any_csv(PATH, text, NAMES, ())
    assert plain is not None
    assert plain.numbers.tolist() == numbered.numbers.tolist()
    assert plain.bad == numbered.bad == []
    for name in NAMES:
        assert plain.columns[name].values == numbered.columns[name].values
        assert plain.columns[name].codes.tolist() == numbered.columns[name].codes.tolist()


@pytest.mark.parametrize(
    "body", ['a,"b",c\n', "a,b\n", "a,b,c,d\n", "a,b,c\n\na,b,c\n", "a,b,c\ra,b,c\n", "", "\n", 'a,b,"c\n', "  \n"]
)
def test_other_texts_are_left_to_the_csv_module(tmp_path: Path, body: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(HEADER + body, newline="")
    assert _read_plain_csv(PATH, HEADER + body, NAMES, ()) is None
    read, numbered = _read_csv(path, NAMES, ()), _read_any_csv(PATH, HEADER + body, NAMES, ())
    assert (read.numbers.tolist(), read.bad) == (numbered.numbers.tolist(), numbered.bad)


def test_values_that_cannot_be_read_stay_in_their_place() -> None:
    def half(number: int) -> int:
        if number % 2:
            raise UserError(f"{number} is odd")
        return number // 2 % 2

    column = Column.of([4, 3, 0, 4, 6])
    assert (column.values, column.codes.tolist()) == ([4, 3, 0, 6], [0, 1, 2, 0, 3])
    halves = column.parse(half)
    assert [value if isinstance(value, int) else str(value) for value in halves.values] == [0, "3 is odd", 1]
    assert halves.refused().tolist() == [False, True, False, False, False]
    assert halves.take(~halves.refused()).cells() == [0, 0, 0, 1]
    with pytest.raises(UserError, match="3 is odd"):
        halves.cells()
    both = combine([column, halves])
    assert both.refused().tolist() == halves.refused().tolist()
    assert both.take(np.array([4, 0])).cells() == [(6, 1), (4, 0)]


def test_taken_values_are_in_order_of_first_appearance() -> None:
    taken = Column.of(list("abcab")).take(np.array([2, 1, 2, 4]))
    assert (taken.values, taken.codes.tolist()) == (["c", "b"], [0, 1, 0, 1])


def test_cells_that_cannot_be_hashed_are_compared_as_text() -> None:
    assert Column.of([["a"], None, ["a"], "x"]).values == [["a"], None, "x"]


def test_equal_rows_are_found() -> None:
    first, codes = distinct_rows([Column.of(list("aabab")), Column.of([1, 2, 1, 1, 1])])
    assert sorted(first.tolist()) == [0, 1, 2]
    assert first[codes].tolist() == [0, 1, 2, 0, 2]
