"""A torch and a torchvision of different builds are named before anything else fails."""

from __future__ import annotations

import importlib
from typing import NoReturn

import pytest
import torch

from tripletcl.embedding import build_backbone, check_torch_pair
from tripletcl.errors import UserError


def test_the_installed_pair_works() -> None:
    check_torch_pair()


@pytest.mark.parametrize("error", [RuntimeError("operator torchvision::nms does not exist"), ImportError("libc10.so")])
def test_a_mismatch_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(name: str) -> NoReturn:
        assert name == "torchvision"
        raise error

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(UserError) as caught:
        check_torch_pair()
    message = str(caught.value)
    assert str(error) in message
    assert f"torch {torch.__version__.partition('+')[0]}" in message
    assert "pip install" in message
    assert "\n" not in message
    with pytest.raises(UserError, match="do not work together"):
        build_backbone("timm/resnet18", "none")
