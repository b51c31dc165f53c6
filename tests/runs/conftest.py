"""A folder of photos and finished runs that the tests of runs share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import field
import pytest
import torch
from killing import Workplace

from tripletcl.runs.train import train


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Use the folder's cache, and one thread, as a forked child does."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def finished_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tables, and the runs `mas` and `analytic` on the first; not to be changed."""
    folder = field.workplace(tmp_path_factory.mktemp("field"))
    field.table(folder, "more", ["purple", "red"])
    with working_in(folder):
        train(field.settings(folder), folder / "mas")
        train(field.settings(folder, field.ANALYTIC), folder / "analytic")
    return folder


@pytest.fixture(scope="module")
def place(finished_runs: Path) -> Iterator[Path]:
    """The folder of tables and finished runs, with a cache."""
    with working_in(finished_runs):
        yield finished_runs


@pytest.fixture(scope="module")
def trained(place: Path) -> dict[str, Path]:
    """Finished runs, not to be changed."""
    return {name: place / name for name in ("mas", "analytic")}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """A run and photos for commands that are killed."""
    folder = tmp_path_factory.mktemp("killed")
    with working_in(folder):
        workplace = Workplace(folder)
        workplace.warm_up()
        yield workplace
