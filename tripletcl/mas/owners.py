"""Assignment of parameters to modules: the lowest one from whose calls a gradient of each sample can be computed.

A layer with a rule (`rules`) that is called once answers by its rule. Any other module answers by its own derivative
(`own_gradients`). Both need its samples on axis 0 of its output, as one or several rows each: windows of an image, say.
A parameter whose own module cannot answer, since another module uses it, is answered for by the module above, and in
the end by the whole model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tripletcl.mas.rules import FOLDING, RULES, type_name
from tripletcl.mas.samples import Samples, first_sample


@dataclass
class Calls:
    """The calls of a module in a forward pass of one sample.

    Attributes:
        inputs: For each call the length of each tensor among its arguments, by position or keyword.
        outputs: For each call the length of each tensor that it returned.
        simple: False if an argument holds tensors in a container, or it returned something else than tensors.
    """

    inputs: list[dict[int | str, int]] = field(default_factory=list)
    outputs: list[list[int]] = field(default_factory=list)
    simple: bool = True

    def enter(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Record the arguments of a call; a forward pre-hook."""
        tensors = batched_arguments(args, kwargs)
        self.inputs.append({key: len(value) for key, value in tensors.items()})
        others = [value for key, value in [*enumerate(args), *kwargs.items()] if key not in tensors]
        self.simple &= bool(tensors) and not any(_holds_tensors(value) for value in others)

    def leave(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Record the result of a call; a forward hook."""
        tensors = output_tensors(output)
        self.simple &= tensors is not None and bool(tensors) and all(tensor.ndim for tensor in tensors)
        self.outputs.append([len(tensor) for tensor in tensors or () if tensor.ndim])


@dataclass(frozen=True)
class Owner:
    """A module and the parameters that it answers for.

    Attributes:
        path: Its name in the model; None for the whole model as it is called.
        module: The module.
        names: The parameters' names in the module -> their names in the model.
        calls: Its calls in a forward pass of one sample.
        by_rule: True if its rule gives them.
        alone: Those, by their names in the model, that no other call uses.
    """

    path: str | None
    module: nn.Module
    names: dict[str, str]
    calls: Calls
    by_rule: bool
    alone: frozenset[str]


def batched_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[int | str, Tensor]:
    """The tensors with an axis 0 among the arguments of a call, by position or keyword."""
    pairs: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
    return {key: value for key, value in pairs if isinstance(value, Tensor) and value.ndim}


def output_tensors(output: Any) -> list[Tensor] | None:
    """The floating-point tensors of a result: a tensor, or a tuple or list of tensors and None; None for others."""
    parts = output if type(output) in (tuple, list) else [output]
    if not all(isinstance(part, Tensor | None) for part in parts):
        return None
    return [part for part in parts if isinstance(part, Tensor) and part.is_floating_point()]


def observe(model: nn.Module, forward: Any, inputs: Samples) -> dict[str, Calls]:
    """The calls of every module in a forward pass of the first of some samples."""
    calls = {path: Calls() for path, _ in model.named_modules()}
    handles = []
    for path, module in model.named_modules():
        handles.append(module.register_forward_pre_hook(calls[path].enter, with_kwargs=True))
        handles.append(module.register_forward_hook(calls[path].leave))
    try:
        with torch.no_grad():
            forward(first_sample(inputs))
    finally:
        for handle in handles:
            handle.remove()
    return calls


def find_owners(
    model: nn.Module, calls: Mapping[str, Calls], excluded: frozenset[str], unused: frozenset[str]
) -> list[Owner]:
    """Assign every trainable parameter to a module.

    Args:
        model: The model.
        calls: From `observe`.
        excluded: Paths of modules that cannot answer, as a check has shown.
        unused: Names of parameters that nobody has to answer for.
    """
    modules = dict(model.named_modules())
    used = ((name, p) for name, p in model.named_parameters() if name not in unused)
    canonical: dict[Tensor, str] = {p: name for name, p in used if p.requires_grad}
    owned: dict[str | None, dict[str, str]] = {}
    for alias, parameter in model.named_parameters(remove_duplicate=False):
        if parameter in canonical and alias.rpartition(".")[0] in calls:  # of a shared module one path is enough
            path = _owner_path(alias.rpartition(".")[0], calls, excluded)
            local = alias if path is None else alias[len(path) + 1 :] if path else alias
            owned.setdefault(path, {})[local] = canonical[parameter]
    uses: dict[str, int] = {}
    for path, names in owned.items():
        for name in set(names.values()):
            uses[name] = uses.get(name, 0) + (1 if path is None else len(calls[path].outputs))
    alone = frozenset(name for name, count in uses.items() if count == 1)
    return [
        _owner(path, model if path is None else modules[path], names, Calls() if path is None else calls[path], alone)
        for path, names in owned.items()
    ]


def _owner(path: str | None, module: nn.Module, names: dict[str, str], calls: Calls, alone: frozenset[str]) -> Owner:
    own = set(names) <= {"weight", "bias"} and len(calls.outputs) == 1 and alone.issuperset(names.values())
    rows = {*calls.inputs[0].values(), *calls.outputs[0]} if own and calls.inputs else set()
    by_rule = own and type_name(module) in RULES and (rows == {1} or (len(rows) == 1 and type_name(module) in FOLDING))
    return Owner(path, module, names, calls, by_rule, alone & set(names.values()))


def _owner_path(path: str, calls: Mapping[str, Calls], excluded: frozenset[str]) -> str | None:
    """The lowest module at or above a path that can answer; None if only the whole model can."""
    while path in excluded or not calls[path].outputs or not calls[path].simple:
        if not path:
            return None
        path = path.rpartition(".")[0]
    return path


def _holds_tensors(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_tensors, value.values()))
    if isinstance(value, tuple | list | set):
        return any(map(_holds_tensors, value))
    return isinstance(value, Tensor) and value.ndim > 0
