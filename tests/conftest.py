"""Fixtures that several test files share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real photographs and MNIST; tests that ask for it are skipped where it is missing."""
    root = Path(os.environ.get("TRIPLETCL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set TRIPLETCL_DATA to its folder")
    return root
