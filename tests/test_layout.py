"""The shape of the code: imports flow one way, every package is installed, the help answers without torch."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["data", "embedding", "continual", "mas", "methods", "evaluation", "retrieval", "report", "config"]
"""A package may import those before it; experiment, runs, comparison, summary and cli stand above all."""


def imported_packages(file: Path) -> set[str]:
    """The tripletcl packages that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
        found |= {parts[1] for name in names if (parts := name.split("."))[0] == "tripletcl" and len(parts) > 1}
    return found


@pytest.mark.parametrize("package", ORDER)
def test_imports_flow_one_way(package: str) -> None:
    allowed = {*ORDER[: ORDER.index(package) + 1], "errors", "files", "configs"}
    files = list((ROOT / "tripletcl" / package).rglob("*.py"))
    assert files
    for file in files:
        assert imported_packages(file) <= allowed, file


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    there = {".".join(f.parent.relative_to(ROOT).parts) for f in (ROOT / "tripletcl").rglob("__init__.py")}
    assert set(settings["tool"]["setuptools"]["packages"]) == there | {"tripletcl.configs"}


def test_help_does_not_import_torch() -> None:
    """The help is to answer within half a second: importing torch alone takes longer."""
    code = (
        "import sys\nfrom tripletcl.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'transformers', 'faiss', 'pydantic', 'numpy', 'matplotlib', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "compare" in ended.stdout


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "7"}])
def test_how_idle_threads_wait_is_set_before_torch_and_left_to_who_has_set_it(own: dict[str, str]) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    code = f"import os, sys, tripletcl; print('torch' in sys.modules, *(os.environ[name] for name in {names}))"
    others = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", code]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={**others, **own}).stdout.split()
    assert printed == ["False", own.get(names[0], "PASSIVE"), own.get(names[1], "10000")]
