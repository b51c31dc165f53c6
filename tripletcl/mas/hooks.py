"""One forward and one backward pass of a batch, in which every module adds its samples' gradients to the sums."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tripletcl.errors import UserError
from tripletcl.mas.broadcasting import Broadcasting
from tripletcl.mas.own_gradients import OwnGradients
from tripletcl.mas.owners import Calls, Owner, batched_arguments, find_owners, observe
from tripletcl.mas.products import Statistic
from tripletcl.mas.rules import RULES
from tripletcl.mas.samples import Samples, device_of, first_sample, map_tensors, sample_count, shape_of_one
from tripletcl.mas.taps import WAY_OUT, Forward, Pass, Tap, find_rectified

log = logging.getLogger("tripletcl")

Values = Callable[[Any, int], Tensor]
"""From a model's outputs and the number of samples to one number a sample `[B]`, or K of them `[B, K]`."""

Parts = Callable[[Tensor], list[tuple[Tensor, Tensor]]]
"""From these to the totals that are differentiated, each with the weights of the scalars in it."""

ROUNDING = 100
"""Units in the last place of the largest gradient that rounding may add to a gradient that should be zero."""

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Hooks:
    """Adds the statistics of batch after batch to sums.

    Before the first batch, the gradients of one sample that the modules give are compared with those of autograd. A
    parameter that does not meet the samples by broadcasting is left to the modules. A module that gives others, since
    it mixes samples, or keeps them on another axis, or since its parameter is used elsewhere too, is replaced by the
    module above it.

    Args:
        model: Owns the parameters.
        forward: Computes the outputs.
        values: The scalars of the outputs.
        f: The statistic, as a function that may work in place.
        scope: As in `per_sample_statistic`.
    """

    def __init__(self, model: nn.Module, forward: Forward, values: Values, f: Statistic, scope: str) -> None:
        for path, module in model.named_modules():
            if isinstance(module, BATCH_NORMS) and module.running_mean is None:
                raise UserError(f"{path} has no running statistics, so it mixes the samples of a batch; {WAY_OUT}")
        self.model, self.forward, self.values, self.f, self.scope = model, forward, values, f, scope
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.calls: dict[tuple[tuple[int, ...], ...], dict[str, Calls]] = {}
        """The calls of the modules, by the shapes of a sample."""
        self.taps: dict[tuple[tuple[int, ...], ...], tuple[list[Tap], set[str]]] = {}
        """Their taps, and the parameters that only the whole model answers for, likewise."""
        self.broadcast: frozenset[str] = frozenset()
        """The parameters that meet the samples by broadcasting, so that no module has to answer for them."""
        self.checked = False
        self.excluded: frozenset[str] = frozenset()
        """The modules that cannot answer for their parameters."""
        self.unused: frozenset[str] = frozenset()
        """The parameters that the outputs do not depend on."""
        self.whole = OwnGradients("the model", _Whole(model, forward, values), {})

    def add(self, sums: dict[str, Tensor], inputs: Samples) -> None:
        """Add the statistics of a batch to sums by the parameters' names."""
        if (shape := shape_of_one(inputs)) not in self.calls:
            self.calls[shape] = observe(self.model, self.forward, inputs)
        calls = self.calls[shape]
        if self.scope != "global":
            self._add_local(sums, inputs, calls)
            return
        if not self.checked:
            self._check(sums, inputs, calls)
            self.checked = True
        if shape not in self.taps:
            self.taps[shape] = self._taps(calls)
        pass_ = Pass(sample_count(inputs), self.f, sums)
        strays = self._run(pass_, inputs, *self.taps[shape], self.values, _all_samples)
        if pass_.failed:
            raise next(iter(pass_.failed.values()))
        if strays:
            raise UserError(f"{min(strays)} is used outside the forward of its own layer; {WAY_OUT}")

    def _check(self, sums: dict[str, Tensor], inputs: Samples, calls: Mapping[str, Calls]) -> None:
        """Find the modules that cannot answer, by a batch of one sample twice, whose scalars have opposite signs.

        Wherever the gradients of the two samples are not told apart, they cancel. The scalar is one of its own, since
        that of the statistic may draw random numbers.
        """
        one = first_sample(inputs)
        twice = map_tensors(one, lambda tensor: torch.cat([tensor, tensor]))
        (expected,) = each_gradient([_probe(self.forward(one), 1).sum()], self.parameters)
        expected = {name: 2 * grad.abs() for name, grad in expected.items()}
        self.unused = frozenset(self.parameters.keys() - expected.keys())
        beside = [owner.names.values() for owner in self._owners(calls) if not owner.by_rule]
        self.broadcast = frozenset(name for names in beside for name in names)
        while True:
            pass_ = Pass(2, torch.abs_, sums)
            wrong = self._run(pass_, twice, *self._taps(calls), _probe, _opposite)
            wrong |= set() if pass_.failed else _differences(sums, expected)
            for total in sums.values():
                total.zero_()
            if met_otherwise := self.broadcast & (wrong | pass_.met_otherwise):
                self.broadcast -= met_otherwise
                continue
            owners = {name: owner.path for owner in self._owners(calls) for name in owner.names.values()}
            paths = frozenset(path for name in wrong if (path := owners[name]) is not None) | pass_.failed.keys()
            if not paths and (not wrong or self.whole.one_by_one):
                return
            self.excluded |= paths
            self.whole.one_by_one |= not paths  # by vmap the whole model gives something else
            for path in sorted(paths):
                log.debug("%s does not give the gradients of its samples; the module above does", path or "the model")

    def _owners(self, calls: Mapping[str, Calls]) -> list[Owner]:
        return find_owners(self.model, calls, self.excluded, self.unused | self.broadcast)

    def _taps(self, calls: Mapping[str, Calls]) -> tuple[list[Tap], set[str]]:
        """The taps of the modules, and the parameters that only the whole model answers for."""
        owners = self._owners(calls)
        whole = {name for owner in owners if owner.path is None for name in owner.names.values()}
        return [Tap(owner) for owner in owners if owner.path is not None], whole

    def _run(
        self, pass_: Pass, inputs: Samples, taps: Sequence[Tap], only_whole: set[str], values: Values, parts: Parts
    ) -> set[str]:
        """Add a batch to the sums of a pass; returns the parameters that were used outside of their owners."""
        whole = {name: self.parameters[name] for name in only_whole}
        anchor, strays = torch.zeros((), device=device_of(inputs), requires_grad=True), set()
        broadcasting = Broadcasting({name: self.parameters[name] for name in self.broadcast}, self.model)
        try:
            for tap in taps:
                tap.attach(pass_, anchor)
            for parameter in whole.values():
                parameter.requires_grad_(False)
            with broadcasting if self.broadcast else nullcontext():
                outputs = self.forward(inputs)
            pass_.met_otherwise |= broadcasting.failed
            totals, weights = zip(*parts(values(outputs, pass_.batch)), strict=True)
            # The gradient of the anchor makes the backward pass visit every tap, and nothing below the first one.
            rows = {f"{number} {m.name}": m.rows for number, m in enumerate(broadcasting.meetings)}
            wanted = {"": anchor, **rows, **{name: p for name, p in self.parameters.items() if name not in whole}}
            for grads in each_gradient(totals, wanted) if (taps or rows) and not pass_.failed else ():
                for meeting, key in zip(broadcasting.meetings, rows, strict=True):
                    if key in grads:
                        parameter = self.parameters[meeting.name]
                        pass_.add_rows(meeting.name, meeting.gradients(parameter, grads[key], pass_.batch))
                pass_.finish()
                strays |= grads.keys() - {"", *rows}
        finally:
            for tap in taps:
                tap.detach()
            for parameter in whole.values():
                parameter.requires_grad_(True)
        if whole:
            self._add_whole(pass_, whole, inputs, values, weights)
        return strays

    def _add_whole(
        self,
        pass_: Pass,
        parameters: Mapping[str, Tensor],
        inputs: Samples,
        values: Values,
        weights: Sequence[Tensor],
    ) -> None:
        """Add the statistics of the parameters that only the whole model answers for."""
        self.whole.module = _Whole(self.model, self.forward, values)
        self.whole.parameters = {f"model.{name}": p.detach() for name, p in parameters.items()}
        args, kwargs = ((inputs,), {}) if isinstance(inputs, Tensor) else ((), inputs)
        batched = set(batched_arguments(args, kwargs))
        for weight in weights:
            for _, rows in self.whole.rows(args, kwargs, batched, [weight], pass_.batch):
                for name in parameters:
                    total = pass_.sums[name]
                    total.add_(pass_.f(rows[f"model.{name}"].to(total.dtype, copy=True)).sum(0))

    def _add_local(self, sums: dict[str, Tensor], inputs: Samples, calls: Mapping[str, Calls]) -> None:
        """Add the statistics of every layer's own output, going forward."""
        never_called = {path for path, of_module in calls.items() if not of_module.outputs}
        unused = frozenset(name for name in self.parameters if name.rpartition(".")[0] in never_called)
        taps = [Tap(owner) for owner in find_owners(self.model, calls, self.excluded, unused)]
        for tap in taps:
            if not tap.owner.by_rule:
                allowed = ", ".join(sorted({name.rpartition(".")[2] for name in RULES}))
                raise tap.error(
                    f"owns trainable parameters and is no layer with a rule ({allowed}) that is called once, has its "
                    "parameters for itself and keeps the batch on axis 0, as local importance takes"
                )
        if self.scope == "rectified":
            find_rectified(taps, self.model, self.forward, first_sample(inputs))
        anchor = torch.zeros((), device=device_of(inputs), requires_grad=True)
        pass_ = Pass(sample_count(inputs), self.f, sums, local=True)
        try:
            for tap in taps:
                tap.attach(pass_, anchor)
            totals = [total for total, _ in _all_samples(self.values(self.forward(inputs), pass_.batch))]
            if pass_.failed:
                raise next(iter(pass_.failed.values()))
            if pass_.received:  # only a stray parameter, or a layer outside of the model, still needs a gradient
                totals = [total for total in totals if total.requires_grad]
            strays = [name for grads in each_gradient(totals, {"": anchor, **self.parameters}) for name in grads]
        finally:
            for tap in taps:
                tap.detach()
        if strays:
            raise UserError(f"{strays[0]} is used outside the forward of its own layer; {WAY_OUT}")


class _Whole(nn.Module):
    """The scalars of a model as a module, so that it can be called with other parameters."""

    def __init__(self, model: nn.Module, forward: Forward, values: Values) -> None:
        super().__init__()
        self.model, self.call, self.values = model, forward, values

    def forward(self, *args: Tensor, **kwargs: Any) -> Tensor:
        """The scalars `[1]` or `[1, K]` of one sample."""
        return self.values(self.call(args[0] if args else kwargs), 1)


def _probe(outputs: Any, batch: int) -> Tensor:
    """A scalar `[B]` of any outputs, to which every number in them adds with another weight.

    Raises:
        UserError: they hold no floating-point tensor.
    """
    tensors = [tensor.reshape(batch, -1) for tensor in _tensors_in(outputs)]
    if not tensors:
        raise UserError(f"the outputs are a {type(outputs).__name__} without tensors, which have no gradient")
    flat = torch.cat(tensors, dim=1)
    return flat @ torch.arange(1, flat.shape[1] + 1, device=flat.device).cos().to(flat)


def _tensors_in(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs] if outputs.is_floating_point() else []
    parts = outputs.values() if isinstance(outputs, Mapping) else outputs if isinstance(outputs, tuple | list) else ()
    return [tensor for part in parts for tensor in _tensors_in(part)]


def _all_samples(values: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The sum of each scalar `[B]` or `[B, K]` over the samples, with the weights of the scalars in it."""
    flat = values.reshape(len(values), -1)
    return [
        (
            flat[:, k].sum(),
            functional.one_hot(torch.full((len(flat),), k), flat.shape[1]).to(values).reshape(values.shape),
        )
        for k in range(flat.shape[1])
    ]


def _opposite(values: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The scalars of the first of two samples minus those of the second, with the weights."""
    weights = torch.ones_like(values)
    weights[1] = -1
    return [((values * weights).sum(), weights)]


def each_gradient(totals: Sequence[Tensor], parameters: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield for each total of one graph the gradients of those parameters that it depends on.

    Raises:
        UserError: a total depends on none.
    """
    for number, total in enumerate(totals, 1):
        if not total.requires_grad:
            raise UserError("the outputs depend on no trainable parameter; is the forward under torch.no_grad?")
        keep = number < len(totals)
        grads = torch.autograd.grad(total, tuple(parameters.values()), allow_unused=True, retain_graph=keep)
        yield {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None}


def _differences(sums: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> set[str]:
    """The parameters whose sums are not those that are expected."""
    largest = max((float(grad.max()) for grad in expected.values() if grad.numel()), default=0.0)
    wrong = set()
    for name, grad in expected.items():
        eps = torch.finfo(grad.dtype).eps
        room = eps**0.5 * float(grad.max()) + ROUNDING * eps * largest if grad.numel() else 0
        if grad.numel() and float((sums[name] - grad).abs().max()) > room:
            wrong.add(name)
    return wrong
