"""Runs that are removed while a command reads or writes them: one sentence, and nothing is created anew."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from killing import Workplace, in_child, train_run

from tripletcl.cli import main
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening


def removes_before(folder: Path, opening: int) -> Callable[[str, tuple[Any, ...]], None]:
    """An audit hook that removes a folder before one of its files is opened for the n-th time."""
    openings = itertools.count(1)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event in ("open", "sqlite3.connect") and str(folder) in str(args[0]) and next(openings) == opening:
            shutil.rmtree(folder, ignore_errors=True)

    return hook


@pytest.mark.parametrize("words", [["query", "RUN", "red"], ["tasks", "RUN"], ["report", "RUN", "--out", "PAGE"]])
@pytest.mark.parametrize("opening", [2, 5, 11, 17])
def test_a_run_that_is_removed_while_it_is_read_is_one_sentence(
    workplace: Workplace, words: list[str], opening: int, capfd: pytest.CaptureFixture[str]
) -> None:
    place = workplace.restore("mas, indexed")
    paths = {"RUN": str(place / "run"), "PAGE": str(place / "page.html")}

    def command() -> None:
        sys.addaudithook(removes_before(place / "run", opening))
        sys.argv = ["tripletcl", *(paths.get(word, word) for word in words)]
        with suppress(SystemExit):
            main()

    assert in_child(command)[0] == 0, capfd.readouterr()
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert not said or len(said.splitlines()) == 1


def test_a_run_that_is_removed_while_it_is_trained_is_not_created_anew(workplace: Workplace) -> None:
    place = workplace.restore("empty")

    def remove(progress: Progress) -> None:
        if progress.loss is not None:
            shutil.rmtree(place / "run", ignore_errors=True)

    with pytest.raises(UserError, match="run was removed while this command was writing to it"), listening(remove):
        train_run(place)
    assert not (place / "run").exists()
