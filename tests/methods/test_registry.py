"""Methods that are not part of the package: by their path, and announced by an installed package."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tripletcl.compare.plan import plan
from tripletcl.config import load_config
from tripletcl.config.method import validate_methods
from tripletcl.errors import UserError
from tripletcl.methods import METHODS, announced_methods, build_method, method_class, method_name
from tripletcl.report import described_methods, properties_of
from tripletcl.testing.__main__ import main

MODULE = """
from typing import ClassVar

import torch

from tripletcl.continual import Lam, Method, Properties, Task
from tripletcl.mas import PenaltyMethod, QuadraticPenalty


class L2(PenaltyMethod):
    \"\"\"L2 penalty on the change of every parameter.\"\"\"

    name: ClassVar[str] = "l2"
    properties: ClassVar[Properties] = Properties()

    def __init__(self, lam: Lam = 1.0) -> None:
        self.set_lam(lam)
        self.penalty = QuadraticPenalty()

    def after_task(self, task: Task) -> None:
        ones = {name: torch.ones_like(p) for name, p in self.parameters.items() if p.requires_grad}
        self.penalty.update(self.parameters, ones, keep=0)


class Forgetful(L2):
    \"\"\"The same, which stores nothing: it is lost when a run is killed.\"\"\"

    joint: ClassVar[bool] = True

    name: ClassVar[str] = "forgetful"

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


class Nameless(L2):
    name: ClassVar[str] = "mas"


number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_pkg").mkdir()
    (tmp_path / "my_pkg" / "__init__.py").touch()
    (tmp_path / "my_pkg" / "my_method.py").write_text(MODULE)
    yield tmp_path
    for name in ("my_pkg", "my_pkg.my_method", "my_pkg.broken"):
        sys.modules.pop(name, None)
    announced_methods.cache_clear()


def announce(folder: Path, **methods: str) -> None:
    """Install a package that announces methods."""
    info = folder / "my_pkg-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_pkg\nVersion: 1.0\n")
    lines = [f"{name} = {path}" for name, path in methods.items()]
    (info / "entry_points.txt").write_text("\n".join(["[tripletcl.methods]", *lines]))
    sys.path.insert(0, str(folder))
    announced_methods.cache_clear()


@pytest.mark.parametrize("announced", [False, True])
def test_a_method_of_ones_own_is_checked_compared_and_listed_like_any_other(package: Path, announced: bool) -> None:
    name = "my_pkg.my_method:L2"
    if announced:
        announce(package, l2=name)
        assert [method["name"] for method in described_methods()] == [*METHODS, "l2"]
        name = "l2"
    settings = validate_methods({"name": name, "lam": 3})
    assert settings == [{"name": name, "lam": 3.0}]
    assert method_name(settings) == build_method(settings).name == "l2"
    assert properties_of(settings) == method_class(name).properties
    (described,) = described_methods([name])
    assert described["summary"] == "L2 penalty on the change of every parameter."
    assert described["settings"] == {"lam": {"default": 1.0, "choices": ["auto"]}}
    config = load_config("demo", [f"compare.methods=[finetune, {{name: '{name}', lam: 3}}, [mas, '{name}']]"])
    assert [run.label for run in plan(config, package)] == ["finetune", "l2", "mas+l2"]
    with pytest.raises(ValueError, match=f"method {name}: lam.float: "):
        validate_methods({"name": name, "lam": "much"})
    with pytest.raises(ValueError, match=f"method {name}: lam is -1"):
        validate_methods({"name": name, "lam": -1})


@pytest.mark.parametrize(
    ("name", "refusal"),
    [
        ("l3", r"no method 'l3'; there are finetune, .*, and classes of your own as package.module:Class"),
        ("my_pkg.other:L2", r"no module 'my_pkg.other' is installed or in the current folder, "),
        ("nothing.at.all:L2", r"no module 'nothing.at.all' is installed"),
        (":L2", r"no module '' is installed"),
        ("my_pkg.my_method:", r"my_method has no class '' that inherits .*; its methods are .*L2, Forgetful"),
        ("my_pkg.my_method:number", r"my_method has no class 'number' that inherits"),
        ("my_pkg.my_method:Nameless", r"has the name 'mas' of another method; give the class a `name` of its own"),
    ],
)
def test_a_bad_name_is_one_sentence(package: Path, name: str, refusal: str) -> None:
    with pytest.raises(UserError, match=refusal):
        method_class(name)
    with pytest.raises(ValueError, match=refusal):
        validate_methods(name)


def test_an_error_inside_the_module_keeps_its_trace(package: Path) -> None:
    (package / "my_pkg" / "broken.py").write_text("import a_module_that_nobody_has")
    with pytest.raises(ModuleNotFoundError, match="a_module_that_nobody_has"):
        method_class("my_pkg.broken:L2")


def test_announced_methods_that_cannot_be_used_are_named_and_the_others_listed(
    package: Path, caplog: pytest.LogCaptureFixture
) -> None:
    announce(package, l2="my_pkg.my_method:L2", lost="my_pkg.lost:L2", other="my_pkg.my_method:L2", mas="my_pkg:MAS")
    with caplog.at_level(logging.WARNING, "tripletcl"):
        assert [method["name"] for method in described_methods()] == [*METHODS, "l2"]
    assert "the method lost of an installed package cannot be used: method 'lost': no module" in caplog.text
    assert "announced as 'other', but its attribute `name` is 'l2'" in caplog.text
    assert method_class("mas") is METHODS["mas"]
    assert method_class("my_pkg.my_method:L2") is method_class("l2")


def test_authors_run_the_contract_on_their_class(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["my_pkg.my_method:L2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-2].strip() for line in lines] == ["holds"] * 4 + ["not promised", "holds"]
    assert lines[1].endswith("with lam 0 it is fine-tuning, bit for bit")
    assert main(["{name: my_pkg.my_method:Forgetful, lam: 5}"]) == 1
    assert capsys.readouterr().out.startswith("      BROKEN  a run that is killed and resumed equals")
    assert main(["my_pkg.my_method:L3"]) == 1
    assert capsys.readouterr().err.startswith("tripletcl: method 'my_pkg.my_method:L3': ")
    assert main([]) == 2
