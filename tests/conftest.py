"""Fixtures that several test files share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from digits import write_mnist


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real photographs and MNIST; tests that ask for it are skipped where it is missing."""
    root = Path(os.environ.get("TRIPLETCL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set TRIPLETCL_DATA to its folder")
    return root


@pytest.fixture(scope="session", autouse=True)
def collected_garbage_is_the_tests_own() -> Iterator[None]:
    """To collect garbage takes a tenth of a second and more among all that torch has imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MNIST in its own file format."""
    return write_mnist(tmp_path_factory.mktemp("mnist"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives the test an empty cache of its own."""
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
