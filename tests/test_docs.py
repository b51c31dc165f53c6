"""The documentation is true: its programs run, its commands exist, its figures have a source."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from test_layout import ORDER
from torch import nn
from toy import run_toy, toy_tasks

import tripletcl
from tripletcl.config import FactConfig, ObjectConfig, load_config
from tripletcl.testing import contract

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    title: str | None
    text: str

    @property
    def commands(self) -> list[str]:
        """The commands of a console block, without their comments."""
        lines = (
            line.removeprefix("$ ") for line in self.text.replace("\\\n", "").splitlines() if line.startswith("$ ")
        )
        return [re.sub(r"\s+# .*", "", line) for line in lines]


def blocks(page: Path) -> list[Block]:
    return [Block(kind, title or None, text) for kind, title, text in FENCE.findall(page.read_text(encoding="utf-8"))]


MODULES = {
    block.title: block.text for page in PAGES for block in blocks(page) if block.title and block.language == "python"
}
"""The modules of all pages."""


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- programs --------------------------------------------------------------------------------------------------------


def run_page(page: Path, folder: Path) -> None:
    """Run a page's blocks in their order: Python in one namespace, files with a title, commands of a console."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.title is not None:
            (folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, page.name, "exec"), namespace)
        elif block.language == "console":
            for command in block.commands:
                run_command(command, folder)


def run_command(command: str, folder: Path) -> None:
    """Run a command: tripletcl and python in this process, which has imported torch; others in a shell."""
    from tripletcl.cli.app import app

    expanded = subprocess.run(["bash", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True)
    program, *arguments = expanded.stdout.splitlines()
    if program == "tripletcl":
        app(arguments, standalone_mode=False)
    elif program == "python":
        if arguments[0] == "-m":
            subprocess.run([sys.executable, *arguments], check=True)
            return
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        subprocess.run(["bash", "-o", "pipefail", "-c", command], check=True, capture_output=True)


@contextlib.contextmanager
def import_path(folder: Path) -> Iterator[None]:
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with import_path(tmp_path):
        yield tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("tutorial", ["engineer", "photos", "researcher"])
def test_a_tutorial_runs_as_printed(tutorial: str, workplace: Path, capsys: pytest.CaptureFixture) -> None:
    run_page(ROOT / "docs" / "tutorials" / f"{tutorial}.md", workplace)
    printed = capsys.readouterr().out
    assert printed


@pytest.mark.slow
def test_the_demos_of_the_plugins_run_as_printed(workplace: Path, capsys: pytest.CaptureFixture) -> None:
    for library in ("avalanche", "accelerate", "lightning"):
        pytest.importorskip(library)
    page = ROOT / "docs" / "how-to" / "plugins.md"
    run_page(page, workplace)
    printed = [line for line in capsys.readouterr().out.splitlines() if re.match(r"(lam|with)", line)]
    expected = [line for block in blocks(page) if block.language == "text" for line in block.text.splitlines()]
    assert [re.sub(r": .*", "", line) for line in printed] == [re.sub(r": .*", "", line) for line in expected]
    accuracies = [[float(figure) for figure in re.sub(r".*: ", "", line).split()] for line in printed]
    for (first, _), (first_with, _) in zip(accuracies[::2], accuracies[1::2], strict=True):
        assert first_with > first + 0.05  # protected, the first task is forgotten less


def test_the_loop_of_the_readme_learns_and_consolidates() -> None:
    (loop,) = (block for block in blocks(ROOT / "README.md") if "MemoryAwareSynapses" in block.text)
    model, lr = nn.Linear(3, 2), 0.1
    before = model.weight.detach().clone()
    loader = [(torch.randn(4, 3), torch.tensor([0, 1, 0, 1])) for _ in range(3)]
    optimizer = torch.optim.SGD(model.parameters(), lr)
    namespace = {"model": model, "loader": loader, "optimizer": optimizer, "lr": lr, "criterion": nn.CrossEntropyLoss()}
    exec(compile(loop.text, "README.md", "exec"), namespace)
    assert not torch.equal(model.weight, before)
    assert torch.equal(namespace["mas"].anchor["weight"], model.weight)
    assert (namespace["mas"].omega["weight"] > 0).all()


# --- commands --------------------------------------------------------------------------------------------------------


def documented_commands() -> list[str]:
    """Every tripletcl command of a console block of any page."""
    lines = [
        command for page in PAGES for block in blocks(page) if block.language == "console" for command in block.commands
    ]
    return sorted({re.sub(r"^(\w+=\S+ )+", "", line) for line in lines if "tripletcl " in line.split("pip")[0]})


@pytest.mark.parametrize("command", documented_commands())
def test_a_documented_command_exists_with_its_options_and_settings(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for title, text in MODULES.items():  # a setting may name a class of one
        (tmp_path / title).write_text(text, encoding="utf-8")
    monkeypatch.setenv("TRIPLETCL_DATA", "data")
    monkeypatch.setenv("TRIPLETCL_OBJECTS", "data")
    words = shlex.split(re.sub(r"\$\(.*?\)", "photo.jpg", command), comments=True)
    given = parsed(words[words.index("tripletcl") + 1 :])  # before it, perhaps, what starts several processes
    if isinstance(given.get("config"), str) and not given.get("go_on"):
        with import_path(tmp_path):
            load_config(given["config"], given.get("overrides") or ())


def parsed(arguments: list[str]) -> dict[str, Any]:
    """The values that a command would be called with."""
    from typer.main import get_command

    from tripletcl.cli.app import app

    given: dict[str, Any] = {}
    command = get_command(app)
    for leaf in leaves(command):
        leaf.callback = lambda **values: given.update(values)
        for parameter in leaf.params:
            parameter.callback = None  # which asks for the files
    command.main(arguments, standalone_mode=False)
    return given


def leaves(command: Any) -> Iterator[Any]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield command
    for each in (inner or {}).values():
        yield from leaves(each)


# --- contributing ----------------------------------------------------------------------------------------------------


def test_the_method_of_contributing_runs_as_printed(tmp_path: Path) -> None:
    (example,) = (block for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "python")
    method = loaded(example, tmp_path).L2
    with import_path(tmp_path):
        assert [held for _, held in contract({"name": "l2:L2", "lam": 3})] == [True, True, True, True, None, None]
    tasks = toy_tasks()[:2]
    moved = {
        lam: change(run_toy(tmp_path / f"{lam}-{len(of)}", method(lam=lam), tasks=of)[0] for of in (tasks[:1], tasks))
        for lam in (0.0, 30.0)
    }
    assert moved[30.0] < 0.5 * moved[0.0]


def loaded(block: Block, folder: Path) -> ModuleType:
    """The module of a block with a title."""
    assert block.title is not None
    file = folder / block.title
    file.write_text(block.text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def change(learners: Iterable[nn.Module]) -> float:
    """How far the first learner's weights are from the second's."""
    first, second = (torch.cat([p.detach().flatten() for p in learner.parameters()]) for learner in learners)
    return (first - second).norm().item()


def test_the_map_names_every_package_in_the_order_of_imports() -> None:
    (tree,) = (block for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "text")
    package, _, others = tree.text.partition("configs/")
    assert re.findall(r"^  (\w+) {2,}\S", package, re.MULTILINE) == ORDER
    inner = {f"{place}/{name}" for place, name in inner_packages(package)}
    here = ROOT / "tripletcl"
    assert inner == {
        str(folder.parent.relative_to(here)) for folder in here.glob("*/*/__init__.py") if "configs" not in folder.parts
    }
    assert all((ROOT / name).is_dir() for name in re.findall(r"^(\w+)/ ", "configs/" + others, re.MULTILINE))


def inner_packages(tree: str) -> Iterator[tuple[str, str]]:
    """The packages inside packages of the map, each with the one that it is in."""
    outer = ""
    for indent, name in re.findall(r"^( {2,4})(\w+) {2,}\S", tree, re.MULTILINE):
        if len(indent) == 2:
            outer = name
        else:
            yield outer, name


# --- pages -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_lines_are_at_most_120_characters(page: Path) -> None:
    long = [line for line in page.read_text(encoding="utf-8").splitlines() if len(line) > 120]
    assert not long


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#: ]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 160


def test_every_package_has_a_page_of_its_interface() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "api").glob("*.md")} - {"index"}
    packages = {path.parent.name for path in (ROOT / "tripletcl").glob("*/__init__.py")}
    assert pages - {"group"} == packages - {"cli"}
    for package in pages:
        assert f"::: tripletcl.{package}\n" in (ROOT / "docs" / "api" / f"{package}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", [FactConfig, ObjectConfig])
def test_every_setting_says_what_it_means(settings: type[FactConfig | ObjectConfig]) -> None:
    sections = [settings.model_json_schema(), *settings.model_json_schema()["$defs"].values()]
    without = [
        name
        for section in sections
        for name, field in section["properties"].items()
        if not field.get("description") and "$ref" not in field
    ]
    assert not without


ROWS = re.findall(r"^\| (.*\]\((.+?)\).*) \| (.*) \|$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.])[\d,]*\.?\d+(?!\w)")


def test_readme_shows_results() -> None:
    assert len(ROWS) >= 10


@pytest.mark.parametrize(("what", "source", "measured"), ROWS)
def test_a_figure_of_the_readme_is_that_of_its_source(what: str, source: str, measured: str) -> None:
    """Every number of a row stands in the file that the row links to: a page, or the head of a config."""
    text = (ROOT / source).read_text(encoding="utf-8")
    if source.endswith(".yaml"):
        text = "\n".join(line for line in text.splitlines() if line.startswith("#"))
    known = set(NUMBER.findall(text))
    assert set(NUMBER.findall(measured)) <= known


def test_the_package_is_one_version_everywhere() -> None:
    assert f"## {tripletcl.__version__.split('.dev')[0]} (" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f'version: "{tripletcl.__version__}"' in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["project"]["version"] == tripletcl.__version__
