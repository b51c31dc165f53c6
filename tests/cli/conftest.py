"""A finished tiny run, and the command line in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import field
import pytest
from command_line import Command, Output

from tripletcl.cli import main
from tripletcl.runs.train import train


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run `tripletcl` with these words."""

    def run(*words: object) -> Output:
        monkeypatch.setattr("sys.argv", ["tripletcl", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Output(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a table, photos and a finished run, not to be changed."""
    folder = field.workplace(tmp_path_factory.mktemp("commands"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        train(field.settings(folder), folder / "run")
        yield folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished / "run", tmp_path / "run"))
