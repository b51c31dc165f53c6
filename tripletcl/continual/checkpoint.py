"""One checkpoint = one safetensors file: tensors of a nested state, everything else as JSON in its header.

safetensors holds no code and knows its own length, so a file cut short is found out and a pickle is refused.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.files import write_atomically

State = dict[str, Any]


def save_state(path: Path, state: State) -> None:
    """Write a nested dict of tensors and JSON values; keys may hold dots but no slash."""
    tensors: dict[str, Tensor] = {}
    values = _split(state, "", tensors)
    write_atomically(path, lambda temporary: save_file(tensors, temporary, {"values": json.dumps(values)}))


def load_state(path: Path) -> State:
    """Read what `save_state` wrote, with all tensors on the CPU.

    Raises:
        UserError: the file is cut short, damaged, or something else (a pickle is never opened).
    """
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["values"])
            for key in file.keys():  # noqa: SIM118  (safe_open is no dict)
                _place(state, key.split("/"), file.get_tensor(key))
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is no whole checkpoint (cut short, damaged or not a safetensors file): {error}"
        ) from error
    return state


def _split(tree: State, prefix: str, tensors: dict[str, Tensor]) -> State:
    """Move the tensors out into one flat dict; what is left is JSON."""
    values: State = {}
    for key, value in tree.items():
        if isinstance(value, Tensor):
            tensors[prefix + key] = value.detach().cpu().clone().contiguous()
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
    """A deep copy of a state with its tensors on a device: what becomes of the one does not touch the other."""
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
    """Take up what `optimizer_state` gave."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            # AdamW keeps its step count on the CPU whatever the parameter's device; everything else lies beside p.
            optimizer.state[p] = {
                key: value.to(p.device) if isinstance(value, Tensor) and value.dim() else value
                for key, value in state[names[p]].items()
            }


def random_states() -> State:
    """The global random states that a user's method or a dropout layer may draw from."""
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
    """Take up what `random_states` gave."""
    torch.set_rng_state(state["torch"])
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(state["numpy"])  # noqa: NPY002
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
