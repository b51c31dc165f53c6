"""What groups of processes compute, and what one process alone does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import together
import torch
from launching import Group, group_of


@pytest.fixture(scope="session")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that two processes begin, one goes on with and three end."""
    return tmp_path_factory.mktemp("run") / "run"


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Group:
    return group_of(2, tmp_path_factory.mktemp("two"), run, 5)


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory, one_thread: None, two: Group, run: Path) -> dict[str, Any]:
    """The results of one process."""
    return together.compute(tmp_path_factory.mktemp("alone")) | {"run": together.resumed(4, run)}


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory, alone: dict[str, Any], run: Path) -> Group:
    return group_of(3, tmp_path_factory.mktemp("three"), run, 1000)
