"""The method that `tripletcl train CONFIG` trains: one that the config or the user names, never a default."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tripletcl.config import load_config, load_config_to_train, shipped_configs
from tripletcl.errors import UserError


def config_file(folder: Path, **values: Any) -> Path:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_the_only_method_that_a_config_compares_is_trained() -> None:
    compared = load_config("photos_best").compare.methods
    assert load_config_to_train("photos_best").method == compared[0]
    assert compared[0][0]["features"] == 8000


def test_of_several_methods_the_user_is_asked_with_their_settings() -> None:
    with pytest.raises(UserError, match="photos_heads compares several methods") as error:
        load_config_to_train("photos_heads")
    assert "'method={name: mas, lam: 12.0}'" in str(error.value)
    assert load_config_to_train("photos_heads", ["method=joint"]).method == [{"name": "joint"}]


def test_what_the_error_proposes_can_be_typed() -> None:
    for name in shipped_configs():
        try:
            load_config_to_train(name)
        except UserError as error:
            proposed = str(error).partition("one of ")[2].split(" or ")
            assert [load_config_to_train(name, [text.strip("'")]).method for text in proposed] == load_config(
                name
            ).compare.methods


def test_a_config_without_any_method_trains_nothing(tmp_path: Path) -> None:
    path = config_file(tmp_path, seed=1, compare={"seeds": [0, 1]})
    with pytest.raises(UserError, match="names no method"):
        load_config_to_train(path)


def test_a_config_with_a_method_trains_it(tmp_path: Path) -> None:
    path = config_file(tmp_path, method="ewc", compare={"methods": ["finetune", "mas"]})
    assert load_config_to_train(path).method[0]["name"] == "ewc"
