"""The table of properties and the list of methods say what the methods themselves declare."""

from __future__ import annotations

import inspect
import json
import sys

import pytest
from cells import texts

from tripletcl.cli import main
from tripletcl.config.method import validate_method
from tripletcl.continual import Properties
from tripletcl.methods import METHODS
from tripletcl.report import described_methods, properties_of, properties_table
from tripletcl.report.formatting import MISSING


def test_the_table_has_a_mark_for_each_property() -> None:
    table = properties_table({"mas-lam3.0": Properties(adaptive=True, constant_memory=False), "joint": None})
    titles = ["constant memory", "problem agnostic", "on pretrained", "unlabeled data", "adaptive", "consistent"]
    assert table.titles == ["method", *titles]
    assert texts(table) == {"MAS-lam3.0": [MISSING, "✓", "✓", "✓", "✓", MISSING], "joint": [""] * 6}
    assert "Adaptive: other inputs" in table.caption


def test_properties_are_those_of_the_settings() -> None:
    assert properties_of([{"name": "joint"}]) is None
    assert properties_of([{"name": "mas"}]) == METHODS["mas"].properties
    both = properties_of([{"name": "mas"}, {"name": "lwf"}])
    assert both is not None
    assert both.adaptive  # one of them is
    for name in METHODS:
        assert properties_of([{"name": name}]) in (METHODS[name].properties, None)


def test_every_method_is_described_with_its_settings() -> None:
    described = {method["name"]: method for method in json.loads(json.dumps(described_methods()))}
    assert list(described) == list(METHODS)
    assert described["mas"]["settings"]["lam"] == {"default": 1.0, "choices": ["auto"]}
    assert described["mas"]["settings"]["penalty"] == {"default": "proximal", "choices": ["proximal", "gradient"]}
    assert described["joint"]["joint"]
    assert described["frozen"]["settings"] == {}


@pytest.mark.parametrize("name", METHODS)
def test_defaults_and_choices_are_settings_that_a_config_takes(name: str) -> None:
    (described,) = [method for method in described_methods() if method["name"] == name]
    assert described["summary"]
    assert set(described["settings"]) == set(inspect.signature(METHODS[name]).parameters)
    defaults = {key: setting["default"] for key, setting in described["settings"].items()}
    assert validate_method({"name": name, **defaults}) == {"name": name, **defaults}


def test_the_command_lists_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tripletcl", "methods", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert not end.value.code
        return capsys.readouterr().out

    lines = printed().splitlines()
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == list(METHODS)
    mas = lines.index(f"mas: {described_methods()[1]['summary']}")
    assert lines[mas + 1].startswith("  properties: constant memory, problem agnostic, on pretrained, unlabeled data")
    assert lines[mas + 2].startswith("  settings: lam 1.0 | auto, penalty proximal | gradient")
    assert max(map(len, lines)) <= 120
    assert json.loads(printed("--json")) == described_methods()
