"""The plugins that need a library which may not be installed, and the sentences where it is not."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from tripletcl.errors import UserError
from tripletcl.plugins import learning_rate

LIBRARIES = {"avalanche": "avalanche.models", "huggingface": "accelerate", "lightning": "lightning.pytorch"}


@pytest.mark.parametrize("plugin", LIBRARIES)
@pytest.mark.parametrize("old", [False, True], ids=["missing", "old"])
def test_a_library_that_is_missing_or_too_old_is_one_sentence(
    plugin: str, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = LIBRARIES[plugin] if not old or plugin != "huggingface" else "transformers"
    for name in [library, *(library.rpartition(".")[:1] if "." in library else [])]:
        monkeypatch.setitem(sys.modules, name, ModuleType(name) if old else None)  # type: ignore[arg-type]
    monkeypatch.delitem(sys.modules, f"tripletcl.plugins.{plugin}", raising=False)
    with pytest.raises(
        UserError, match=rf"tripletcl.plugins.{plugin} needs .* or newer: pip install 'tripletcl\[{plugin}]'"
    ):
        importlib.import_module(f"tripletcl.plugins.{plugin}")


def test_groups_of_different_learning_rates_are_refused() -> None:
    model = nn.Linear(2, 2)
    groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.2}]
    with pytest.raises(UserError, match=r"one learning rate, and the optimizer's groups have 0.1, 0.2"):
        learning_rate([torch.optim.SGD(groups)])
    assert learning_rate([torch.optim.SGD(model.parameters(), lr=0.5)]) == 0.5
