"""Settings files of version 0.1 still load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tripletcl.config import FactConfig, ObjectConfig, dump_config, load_config, parse_config
from tripletcl.errors import UserError

STORED = Path(__file__).parents[1] / "stored_0_1"
"""Written by version 0.1."""


def test_settings_of_facts(caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(STORED / "facts.yaml")
    assert isinstance(config, FactConfig)
    assert config.precision == "float32"
    assert config.method[0]["name"] == "mas"
    assert config.method[0]["lam"] == 3
    assert [len(methods) for methods in config.compare.methods] == [1, 1, 2, 1]
    assert config.data.further[0].training is not None
    assert config.data.further[0].training.epochs == 4
    ignored = [record.getMessage() for record in caplog.records]
    assert [message.rpartition(" ")[2] for message in ignored] == ["default", "bf16", "tf32"]
    assert all("of version 0.1 that is ignored" in message for message in ignored)


def test_settings_of_objects(caplog: pytest.LogCaptureFixture) -> None:
    config = load_config(STORED / "objects.yaml")
    assert isinstance(config, ObjectConfig)
    assert config.precision == "bf16"
    assert not caplog.records


@pytest.mark.parametrize("name", ["facts.yaml", "objects.yaml"])
def test_what_is_written_again_is_of_today(name: str) -> None:
    """All else is as it was, and nothing is changed in the mapping that is given."""
    text = (STORED / name).read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    config = parse_config(values, name)
    assert values == yaml.safe_load(text)
    again = dump_config(config)
    assert "compile" not in again
    assert parse_config(yaml.safe_load(again), "again") == config
    removed = (" compile:", " precision:")
    lines = iter(again.splitlines())
    for line in text.splitlines():
        if not line.startswith("precision:") and not any(key in line for key in removed):
            assert line in lines  # in the same order; settings of today stand between them


@pytest.mark.parametrize("value", ["no", "off", "'no'", "float32"])
def test_no_is_float32(value: str) -> None:
    assert load_config("demo", [f"precision={value}"]).precision == "float32"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.compile=fast", "unknown key training.compile"),
        ("method={name: mas, precision: fp16}", "precision: Extra inputs are not permitted"),
        ("method={name: lwf, compile: default}", "compile: Extra inputs are not permitted"),
        ("precision=half", "precision: Input should be 'float32', 'bf16' or 'fp16'"),
    ],
)
def test_what_version_0_1_did_not_know_is_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_config("demo", [override])


@pytest.mark.parametrize("values", [{"data": 3}, {"data": {"further": 3}}, {"compare": "x"}, {"training": []}])
def test_wrong_sections_are_refused_as_ever(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="Input should be"):
        parse_config(values, "settings")
