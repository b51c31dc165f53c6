"""The Dockerfile's steps, in a clean environment without Docker and without a network."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
import typer
import yaml

ROOT = Path(__file__).parents[1]


def steps() -> list[tuple[str, str]]:
    """(instruction, the rest) of each step."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [(line.partition(" ")[0], line.partition(" ")[2]) for line in lines]


def copied() -> list[str]:
    """The files and folders that the image takes from here."""
    return [name for kind, rest in steps() if kind == "COPY" for name in rest.split()[:-1]]


def commands() -> list[list[str]]:
    """The calls of tripletcl when the container starts."""
    (start,) = (rest for kind, rest in steps() if kind == "CMD")
    script = yaml.safe_load(start)[-1]
    return [shlex.split(part.strip().removeprefix("exec "))[1:] for part in script.split("&&")]


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    allowed = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    assert set(copied()) == allowed
    assert all((ROOT / name).exists() for name in copied())


@pytest.mark.slow
def test_the_copied_files_install_and_the_container_starts(tmp_path: Path) -> None:
    """Every `pip install .` of the image runs, without dependencies; its commands know their options."""
    pytest.importorskip("setuptools", "77")
    for name in copied():
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    venv.create(tmp_path / "clean", with_pip=True)
    scripts = tmp_path / "clean" / "bin"
    environment = {**os.environ, "PYTHONPATH": str(Path(typer.__file__).parents[1])}
    for kind, rest in steps():
        if kind == "RUN" and rest.startswith("pip install") and '".' in rest:
            words = [
                str(scripts / "python"),
                "-m",
                *shlex.split(rest),
                "--no-deps",
                "--no-index",
                "--no-build-isolation",
            ]
            subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True)
    for words in commands():
        shown = subprocess.run(
            [str(scripts / "tripletcl"), words[0], "--help"], cwd=tmp_path / "clean", env=environment, check=True,
            capture_output=True, text=True,
        ).stdout  # fmt: skip
        options = [word for word in words if word.startswith("--")]
        assert options
        assert all(option in shown for option in options)


def test_who_runs_it_may_write_into_its_volumes() -> None:
    """A volume is made of the folder in the image, with its owner; without one it is root's."""
    kinds = [kind for kind, _ in steps()]
    (user,) = (rest for kind, rest in steps() if kind == "USER")
    (volumes,) = (yaml.safe_load(rest) for kind, rest in steps() if kind == "VOLUME")
    (made,) = (shlex.split(rest) for kind, rest in steps() if kind == "RUN" and rest.startswith("install "))
    assert made[:6] == ["install", "--directory", "--owner", user, "--group", user]
    assert made[6:] == volumes
    assert any(kind == "RUN" and f"useradd --create-home --uid 1000 {user}" in rest for kind, rest in steps())
    assert kinds.index("USER") < kinds.index("CMD")


@pytest.mark.parametrize("listens", [True, False])
def test_its_health_is_that_the_server_answers(listens: bool) -> None:
    (rest,) = (rest for kind, rest in steps() if kind == "HEALTHCHECK")
    (exposed,) = (rest for kind, rest in steps() if kind == "EXPOSE")
    program, *words = yaml.safe_load(rest.partition("CMD ")[2])
    assert program == "python"
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listens:
            server.listen()
        words[-1] = words[-1].replace(exposed, str(server.getsockname()[1]))
        assert subprocess.run([sys.executable, *words], capture_output=True, check=False).returncode == (not listens)


def test_its_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = [
        extra for _, rest in steps() for group in re.findall(r'"\.\[([\w,]+)\]"', rest) for extra in group.split(",")
    ]
    assert named
    assert set(named) <= set(extras)


def test_compose_serves_to_this_machine_with_a_token() -> None:
    service = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]["photos"]
    (exposed,) = (rest for kind, rest in steps() if kind == "EXPOSE")
    assert service["ports"] == [f"127.0.0.1:{exposed}:{exposed}"]
    assert "TRIPLETCL_TOKEN" in service["environment"]
    mounted = {volume.rsplit(":ro")[0].rpartition(":")[2] for volume in service["volumes"]}
    (volumes,) = (yaml.safe_load(rest) for kind, rest in steps() if kind == "VOLUME")
    assert mounted == set(volumes)
    assert {word for words in commands() for word in words if word.startswith("/")} >= {"/photos", "/runs/photos"}
