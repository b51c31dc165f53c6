"""Every shipped config is read, checked, and says in its head what it is for; wrong settings are all named at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tripletcl.config import dump_config, load_config, parse_config, shipped_configs
from tripletcl.errors import UserError
from tripletcl.experiments.facts import load_table

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_config(path: Path) -> None:
    config = load_config(path)
    assert path.stem in shipped_configs()
    assert load_config(path.stem) == config
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert head.startswith("# ")
    assert f"tripletcl compare {path.stem}" in head or f"tripletcl {path.stem}" in head, "the head names the command"


def test_resolved_config_comes_back_equal() -> None:
    import yaml

    config = load_config("demo", ["method={name: mas, lam: 3}", "data.tasks=2"])
    text = dump_config(config)
    assert parse_config(yaml.safe_load(text), "again") == config
    assert dump_config(parse_config(yaml.safe_load(text), "again")) == text


def test_overrides() -> None:
    config = load_config("demo", ["method=mas", "method.lam=7", "training.lr=1e-3", "model.fork_at=null"])
    assert config.method[0]["lam"] == 7
    assert config.training.lr == 0.001
    assert config.model.fork_at is None


def test_environment_variables_are_filled_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPLETCL_DATA", "/photos")
    assert load_config("photos").data.table == "/photos/facts/facts.csv"
    monkeypatch.delenv("TRIPLETCL_DATA")
    with pytest.raises(UserError, match="set that environment variable"):
        load_table(load_config("photos"))


@pytest.mark.parametrize("text", ["no-equals", "=3", "seed.deep=3", "training.lr={"])
def test_a_bad_override_is_named(text: str) -> None:
    with pytest.raises(UserError, match=r"is no setting|seed: Input should be|no YAML"):
        load_config("demo", [text])


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text("{trainning: {}, training: {epoch: 3, lr: -1}, loss: {name: l3}, method: {name: mas, lamda: 2}}")
    with pytest.raises(UserError) as error:
        load_config(path)
    for words in (
        "trainning (did you mean training?)",
        "training.epoch (did you mean epochs?)",
        "training.lr",
        "loss.name",
        "lamda",
    ):
        assert words in str(error.value)


@pytest.mark.parametrize("text", ["- a list", "key: [", "\x00"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"wrong\.yaml"):
        load_config(path)


@pytest.mark.parametrize(
    ("method", "words"),
    [("nothing", "there are finetune, mas"), ({"lam": 3}, "a name"), ({"name": "mas", "lam": -1}, "at least 0"),
     ({"name": "joint", "lam": 3}, "lam"), ({"name": "mas", "penalty": "huge"}, "proximal")],
)  # fmt: skip
def test_a_wrong_method(method: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_config({"method": method}, "test")
