"""The shape of the code: imports flow one way, every package is installed, the help answers without torch."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [
    "errors",
    "progress",
    "files",
    "cpu",
    "group",
    "data",
    "scenes",
    "embedding",
    "continual",
    "mas",
    "plugins",
    "methods",
    "evaluation",
    "retrieval",
    "gallery",
    "config",
    "testing",
    "experiments",
    "runs",
    "report",
    "compare",
    "web",
    "cli",
]
"""Every package and module of tripletcl: each may import those before it and itself."""


def modules() -> dict[str, Path]:
    """The file of every module, by its dotted name without `tripletcl.`; a package is its `__init__`."""
    package = ROOT / "tripletcl"
    names = {file: file.relative_to(package).with_suffix("").parts for file in sorted(package.rglob("*.py"))}
    return {".".join(part for part in parts if part != "__init__"): file for file, parts in names.items()}


def imports(file: Path, everywhere: bool = True) -> set[str]:
    """The tripletcl modules that a file imports, without `tripletcl.`; with `everywhere` also inside functions."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.removeprefix("tripletcl.") for name in names if name.startswith("tripletcl.")}


def test_every_package_and_module_has_its_place() -> None:
    places = {path.stem for path in (ROOT / "tripletcl").iterdir() if path.name != "__pycache__"}
    assert places - {"__init__", "__main__", "py"} == set(ORDER)
    assert len([place for place in ORDER if (ROOT / "tripletcl" / f"{place}.py").exists()]) <= 4


@pytest.mark.parametrize("place", ORDER)
def test_imports_flow_one_way(place: str) -> None:
    allowed = {*ORDER[: ORDER.index(place) + 1], "configs"}
    files = [file for name, file in modules().items() if name.split(".")[0] == place]
    assert files
    for file in files:
        assert {name.split(".")[0] for name in imports(file) if name != "__version__"} <= allowed, file


def test_no_two_modules_import_each_other() -> None:
    """Also within a package, imports when a module is loaded go one way; a package's face imports what lies in it."""
    files = modules()
    graph = {name: imports(file, everywhere=False) & set(files) for name, file in files.items() if name}
    faces = {name for name in files if files[name].name == "__init__.py"}
    TopologicalSorter({name: used - faces for name, used in graph.items() if name not in faces}).prepare()


def test_every_test_file_has_a_name_of_its_own() -> None:
    """pytest imports test files by their name alone, and refuses two of the same name."""
    names = [path.name for path in (ROOT / "tests").rglob("*.py")]
    assert {name for name in names if names.count(name) > 1} <= {"conftest.py"}


PRIVATE_NAMES = {
    "_linear_pointwise": ["cpu"],  # oneDNN's product, which is tested before its first use
    "_foreach_*": ["mas.chunked"],  # torch's multi-tensor operations, of which its optimizers consist
}
"""Private names of other packages, and the modules that may use them."""


def private_names(tree: ast.AST) -> set[str]:
    """The names with one leading underscore that a module imports or reads of an object, but does not define."""
    defined: set[str] = set()
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Attribute):
            (defined if isinstance(node.ctx, ast.Store) else used).add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            defined.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            used |= {part for alias in node.names for part in alias.name.split(".")}
            used |= set((getattr(node, "module", None) or "").split("."))
    return {name for name in used - defined if name.startswith("_") and not name.startswith("__")}


def test_private_names_of_torch_and_others_are_used_in_few_places() -> None:
    """Their meaning changes without notice; so they are where one finds them when it has."""
    for module, file in modules().items():
        for name in private_names(ast.parse(file.read_text(encoding="utf-8"))):
            allowed = [places for pattern, places in PRIVATE_NAMES.items() if fnmatch(name, pattern)]
            assert any(fnmatch(module, place) for places in allowed for place in places), f"{file}: {name}"


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    there = {".".join(f.parent.relative_to(ROOT).parts) for f in (ROOT / "tripletcl").rglob("__init__.py")}
    assert set(settings["tool"]["setuptools"]["packages"]) == there | {"tripletcl.configs"}


def test_every_template_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]
    files = [file for file in (ROOT / "tripletcl").rglob("templates/**/*") if file.is_file()]
    assert files
    for file in files:
        parts = file.relative_to(ROOT).parts
        at = parts.index("templates")
        package, name = ".".join(parts[:at]), "/".join(parts[at:])
        assert any(fnmatch(name, pattern) for pattern in patterns.get(package, ())), file


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


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["query", "nowhere", "dog"], "nowhere is no run folder (it has no config.yaml)"),
        (["describe", "nowhere", "a.jpg"], "nowhere is no run folder"),
        (["index", "nowhere", "."], "nowhere is no run folder"),
        (["index", "info", "nowhere"], "nowhere is no run folder"),
        (["train", "--continue", "nowhere", "more.csv"], "nowhere is no run folder"),
        (["serve", "nowhere"], "nowhere is no run folder"),
        (["evaluate", "nowhere"], "nowhere is no run folder"),
        (["describe", "run", "a.jpg"], "'a.jpg': no such file"),
        (["teach", "run", "person", "riding", "unicycle"], "'riding': no such file; put what has several words in"),
        (["index", "run", "photos"], "the image folder photos does not exist"),
        (["adapt", "run", "--images", "photos"], "the image folder photos does not exist"),
        (["data", "check", "facts.csv"], "facts.csv cannot be read: No such file or directory"),
    ],
)
def test_a_missing_file_is_named_before_torch_is_imported(tmp_path: Path, words: list[str], refusal: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    code = (
        "import sys\nfrom tripletcl.cli import main\nsys.argv[0] = 'tripletcl'\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2\n"
        "heavy = {'torch', 'transformers', 'faiss', 'numpy', 'PIL', 'gradio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (ended.returncode, ended.stderr.startswith(f"tripletcl: {refusal}")) == (0, True), ended.stderr


THREADS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def environment_after(code: str, own: dict[str, str]) -> list[str]:
    """Whether a Python program imported torch, and its OpenMP variables at the end."""
    others = {name: value for name, value in os.environ.items() if name not in THREADS}
    report = f"print('torch' in sys.modules, *(os.environ.get(name) for name in {THREADS}))"
    command = [sys.executable, "-c", f"import os, sys\n{code}\n{report}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env={**others, **own})
    return ended.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "7"}])
def test_the_command_sets_how_idle_threads_wait_unless_the_user_has(own: dict[str, str]) -> None:
    """They are read when torch is imported, so the command sets them first."""
    code = (
        "from tripletcl.cli import main\nsys.argv = ['tripletcl', '--help']\ntry:\n    main()\nexcept SystemExit: ..."
    )
    assert environment_after(code, own) == ["False", own.get(THREADS[0], "PASSIVE"), own.get(THREADS[1], "10000")]


def test_importing_the_library_leaves_the_environment_unchanged() -> None:
    assert environment_after("import tripletcl\nfrom tripletcl import FactEmbedder", {}) == ["True", "None", "None"]


def test_importing_mas_imports_nothing_heavy_but_torch() -> None:
    """People use it in programs of their own."""
    code = (
        "import sys\nfrom tripletcl.mas import MemoryAwareSynapses\n"
        "heavy = {'faiss', 'gradio', 'matplotlib', 'transformers', 'timm', 'torchvision', 'sklearn', 'pyarrow'}\n"
        "heavy &= set(sys.modules)\nassert not heavy, heavy"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    "file", sorted((ROOT / "tripletcl").rglob("*.py")), ids=lambda file: f"{file.parent.name}/{file.name}"
)
def test_docstrings_begin_with_a_verb_or_a_noun(file: Path) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    nodes = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, kinds)]
    first_lines = [docstring.splitlines()[0] for node in nodes if (docstring := ast.get_docstring(node))]
    questions = re.compile(r"(What|Where|How|Which|Is|Are|Of|Whether|Does|Has)\b|.*\?$")
    assert [line for line in first_lines if questions.match(line)] == []
