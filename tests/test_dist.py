"""A wheel holds every file of the package, and its command starts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[1]
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built of a copy: a build leaves folders behind."""
    pytest.importorskip("setuptools", "77")
    copy, out = tmp_path_factory.mktemp("copy") / "tree", tmp_path_factory.mktemp("dist")
    for folder in ("tripletcl", "configs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    subprocess.run([sys.executable, "-c", BUILD, str(out)], cwd=copy, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def files_below(folder: Path, name: str) -> set[str]:
    """The files that are to be installed below a folder, as the wheel names them."""
    files = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {f"{name}/{file.relative_to(folder)}" for file in files}


@pytest.mark.slow
def test_a_wheel_holds_every_file_of_the_package_and_every_config(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_below(ROOT / "tripletcl", "tripletcl") | files_below(ROOT / "configs", "tripletcl/configs")
    assert "tripletcl/py.typed" in names
    assert "tripletcl/configs/demo.yaml" in names


@pytest.mark.slow
def test_the_command_of_an_installed_wheel_starts(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / "bin"
    install = [str(scripts / "python"), "-m", "pip", "install", "-q", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    # Typer and rich come from here; tripletcl itself does not, since a path of PYTHONPATH has no editable installs.
    environment = {**os.environ, "PYTHONPATH": str(Path(typer.__file__).parents[1])}
    command = [str(scripts / "tripletcl"), "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path).stdout
    assert "compare" in shown
    where = [str(scripts / "python"), "-c", "import tripletcl; print(tripletcl.__file__)"]
    found = subprocess.run(where, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path).stdout
    assert Path(found.strip()).is_relative_to(tmp_path)
