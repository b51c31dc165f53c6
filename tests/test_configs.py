"""Every shipped config is valid and names its command; one message names all wrong settings."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from tripletcl.config import FactConfig, ObjectConfig, dump_config, load_config, parse_config, shipped_configs
from tripletcl.data import FactSetSpec
from tripletcl.errors import UserError
from tripletcl.experiments.tables import load_table
from tripletcl.methods import METHODS
from tripletcl.runs.kinds import open_run

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_config(path: Path) -> None:
    config = load_config(path)
    assert path.stem in shipped_configs()
    assert load_config(path.stem) == config
    head = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert head.startswith("# ")
    commands = (f"tripletcl {word}{path.stem}" for word in ("", "compare ", "train "))
    assert any(command in head for command in commands), "the head names the command"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_head_that_gives_a_duration_names_the_processor(path: Path) -> None:
    head = path.read_text(encoding="utf-8").split("\n\n")[0].replace("\n# ", " ")
    durations = re.findall(r"\b\d+ (?:s|min|minutes|hours)\b", head)
    assert bool(durations) == ("cores of an" in head or "thread of an" in head)


def test_resolved_config_comes_back_equal() -> None:
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
    with pytest.raises(UserError, match=r"is not a setting|seed: Input should be|not YAML"):
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


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("{set: vrt, root: x}", "data.table: there is no fact set 'vrt'; there are lfl, vrd"),
        ("{set: vrd, root: x, region: part}", "data.table.region: Input should be 'whole' or 'union'"),
        ("{set: vrd, root: x, min_trian: 3}", "unknown key data.table.min_trian"),
        ("{set: vrd}", "data.table.root: Field required"),
        ("5", "data.table: Input should be a valid string"),
        ("{set: vrd, root: x}\n  root: y", "data.root: it belongs to a table file"),
    ],
)
def test_a_mistake_in_a_published_set_is_named(table: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(f"data:\n  table: {table}\n")
    with pytest.raises(UserError, match=re.escape(words)):
        load_config(path)


def test_settings_of_a_published_set_are_overridden_and_come_back_equal() -> None:
    config = load_config("vrd", ["data.table.min_train=5", "data.table.orders=[3]", "method=mas"])
    assert isinstance(config, FactConfig)
    assert isinstance(config.data.table, FactSetSpec)
    assert (config.data.table.min_train, config.data.table.orders) == (5, (3,))
    assert parse_config(yaml.safe_load(dump_config(config)), "again") == config


@pytest.mark.parametrize("text", ["- a list", "key: [", "\x00"])
def test_a_file_that_is_no_mapping(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"wrong\.yaml"):
        load_config(path)


@pytest.mark.parametrize("content", [b"- a list", b"key: [", b"\xff\xfe", b"learns: nothing"])
def test_settings_of_a_run_that_are_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml"):
        _ = open_run(tmp_path).settings


@pytest.mark.parametrize(
    ("method", "words"),
    [("nothing", "there are finetune, mas"), ({"lam": 3}, "a name"), ({"name": "mas", "lam": -1}, "at least 0"),
     ({"name": "joint", "lam": 3}, "lam"), ({"name": "mas", "penalty": "huge"}, "proximal")],
)  # fmt: skip
def test_a_wrong_method(method: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_config({"method": method}, "test")


def fields(section: type, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every setting of a section and of the sections within; "[]" stands for an element of a list."""
    names = section.model_fields if issubclass(section, BaseModel) else section.__dataclass_fields__
    for name, hint in typing.get_type_hints(section).items():
        if name in names:
            yield (*above, name)
            element = ("[]",) if typing.get_origin(hint) is list else ()
            for inner in (hint, *typing.get_args(hint)):
                if isinstance(inner, type) and (issubclass(inner, BaseModel) or dataclasses.is_dataclass(inner)):
                    yield from fields(inner, (*above, name, *element))


def nested(path: tuple[str, ...], value: object) -> typing.Any:
    """A mapping of sections in which only one setting is given."""
    for key in reversed(path):
        value = [value] if key == "[]" else {key: value}
    return value


@pytest.mark.parametrize("kind", [FactConfig, ObjectConfig])
def test_every_setting_is_documented(kind: type) -> None:
    def undocumented(section: type[BaseModel], above: str = "") -> Iterator[str]:
        for name, field in section.model_fields.items():
            if not field.description:
                yield f"{above}{name}"
            for inner in (field.annotation, *typing.get_args(field.annotation)):
                if isinstance(inner, type) and issubclass(inner, BaseModel):
                    yield from undocumented(inner, f"{above}{name}.")

    assert list(undocumented(kind)) == []


def refusal_of(path: Path) -> str | None:
    """The sentence that refuses a config, None where it is accepted; any other error is passed on."""
    try:
        load_config(path)
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize("kind", [FactConfig, ObjectConfig])
@pytest.mark.parametrize("value", [None, 5, "x", [], {}, [5], {"a": 1}], ids=str)
def test_any_value_of_any_setting_is_accepted_or_refused_in_a_sentence(
    kind: type, value: object, tmp_path: Path
) -> None:
    paths = list(fields(kind))
    assert ("training", "lr") in paths
    assert {"further", "sets"} & {path[1] for path in paths if "[]" in path}
    for path in paths:
        (tmp_path / "given.yaml").write_text(yaml.safe_dump({"learns": kind().learns} | nested(path, value)))
        refusal = refusal_of(tmp_path / "given.yaml")
        assert refusal is None or path[-1] in refusal


def test_a_value_of_learns_that_is_no_kind_of_run() -> None:
    for value in (None, [], {"facts": 1}, "scenes"):
        with pytest.raises(UserError, match=r"learns is .*; allowed are facts, objects"):
            parse_config({"learns": value}, "test")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("value", [None, 5, "x", [], {}], ids=str)
def test_any_value_of_any_setting_of_a_method_is_accepted_or_refused_in_a_sentence(
    name: str, value: object, tmp_path: Path
) -> None:
    for key in inspect.signature(METHODS[name]).parameters:
        (tmp_path / "given.yaml").write_text(yaml.safe_dump({"method": {"name": name, key: value}}))
        refusal = refusal_of(tmp_path / "given.yaml")
        assert refusal is None or key in refusal
