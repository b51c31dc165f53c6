"""One checkpoint = one safetensors file: tensors of a nested state, everything else as JSON in its header.

A checkpoint may refer to another one in the same folder, its base, for the tensors that are equal there.

safetensors holds no code, so a pickle is refused, and the file holds its SHA-256, so a damaged one is refused, too.
"""

from __future__ import annotations

import copy
import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.files import reading
from tripletcl.files.arrays import read_about
from tripletcl.files.tensors import read_tensors, write_tensors

State = dict[str, Any]


def save_state(path: Path, state: State, base: Path | None = None) -> None:
    """Write a nested dict of tensors and JSON values; keys may contain dots but no slash.

    Args:
        base: A checkpoint in the same folder to refer to if most of the bytes are equal; it must stay there.
    """
    tensors: dict[str, Tensor] = {}
    about = {"values": json.dumps(_split(state, "", tensors))}
    shared = _shared(tensors, base) if base is not None else []
    if base is not None and 2 * sum(tensors[key].nbytes for key in shared) > sum(t.nbytes for t in tensors.values()):
        about |= {"base": base.name, "shared": json.dumps(shared)}
        tensors = {key: tensor for key, tensor in tensors.items() if key not in set(shared)}
    write_tensors(path, tensors, about)


def _shared(tensors: dict[str, Tensor], base: Path) -> list[str]:
    """The keys of the tensors that are equal, bit for bit, in a checkpoint without a base; none in a damaged one."""
    try:
        stored = read_tensors(base).tensors
    except UserError:
        return []
    return [key for key in sorted(stored.keys() & tensors.keys()) if _equal(stored[key], tensors[key])]


def _equal(left: Tensor, right: Tensor) -> bool:
    return left.shape == right.shape and left.dtype == right.dtype and torch.equal(left, right)


def base_of(path: Path) -> Path | None:
    """The checkpoint that this one refers to; None if it has none, or cannot be read."""
    with suppress(UserError):
        name = read_about(path).get("base")
        return path.with_name(name) if name else None
    return None


def load_state(path: Path) -> State:
    """Read what `save_state` wrote, with all tensors on the CPU.

    Raises:
        UserError: The file, or its base, is missing, damaged, or something else.
    """
    tensors, about = read_tensors(path)
    with reading(path):
        state = json.loads(about["values"])
        if "base" in about:
            stored = read_tensors(path.with_name(about["base"])).tensors
            tensors |= {key: stored[key] for key in json.loads(about["shared"])}
        for key, tensor in tensors.items():
            _place(state, key.split("/"), tensor)
    return state


def load_values(path: Path) -> State:
    """The plain values of a checkpoint, read from its header only.

    Raises:
        UserError: The file is missing, damaged, or something else.
    """
    about = read_about(path)
    with reading(path):
        return dict(json.loads(about["values"]))


def _split(tree: State, prefix: str, tensors: dict[str, Tensor]) -> State:
    """Move the tensors into one flat dict; the rest is JSON."""
    values: State = {}
    for key, value in tree.items():
        if isinstance(value, Tensor):
            tensors[prefix + key] = value.detach().cpu()
        elif isinstance(value, dict):
            values[key] = _split(value, f"{prefix}{key}/", tensors)
        else:
            values[key] = value
    return values


def _place(tree: State, keys: list[str], tensor: Tensor) -> None:
    for key in keys[:-1]:
        tree = tree[key]
    tree[keys[-1]] = tensor


def state_on(device: torch.device | str, state: State) -> State:
    """A deep copy of a state, with its tensors on a device."""
    return {
        key: state_on(device, value)
        if isinstance(value, dict)
        else value.detach().to(device, copy=True)
        if isinstance(value, Tensor)
        else copy.deepcopy(value)
        for key, value in state.items()
    }


def optimizer_state(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str]) -> State:
    """The optimizer's state by parameter name."""
    return {names[p]: dict(optimizer.state[p]) for group in optimizer.param_groups for p in group["params"]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, names: dict[torch.nn.Parameter, str], state: State) -> None:
    """Restore an `optimizer_state`."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            # AdamW keeps its step count on the CPU unless it is fused; all else is on the parameter's device.
            optimizer.state[p] = {
                key: value.to(p.device) if isinstance(value, Tensor) and (value.dim() or group["fused"]) else value
                for key, value in state[names[p]].items()
            }


def set_seed(seed: int) -> None:
    """Seed the global generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.manual_seed(seed)


def random_states() -> State:
    """The states of the global generators, from which a user's method or a dropout layer may draw."""
    python, numpy_state = random.getstate(), np.random.get_state(legacy=False)  # noqa: NPY002
    state: State = {
        "torch": torch.get_rng_state(),
        "python": [python[0], list(python[1]), python[2]],
        "numpy": {**numpy_state, "state": {k: np.asarray(v).tolist() for k, v in numpy_state["state"].items()}},
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_states(state: State) -> None:
    """Restore `random_states`."""
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(state["numpy"])  # noqa: NPY002
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
