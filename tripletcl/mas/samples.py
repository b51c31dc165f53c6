"""Batches of samples as models take them: a tensor, or a mapping of tensors such as a tokenizer's result."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor

from tripletcl.errors import UserError

Samples = Tensor | Mapping[str, Any]
"""A tensor `[B, ...]`, or a mapping whose tensors are `[B, ...]`; its other values belong to the whole batch."""


def check_samples(batch: object) -> None:
    """Refuse a batch that is neither.

    Raises:
        UserError: It is of another type, has no tensor, or its tensors differ in their number of samples.
    """
    if isinstance(batch, Mapping):
        sizes = {key: len(value) for key, value in batch.items() if isinstance(value, Tensor) and value.ndim}
        if not sizes:
            raise UserError(f"a batch that is a mapping holds tensors [B, ...]; this one has the keys {list(batch)}")
        if len(set(sizes.values())) > 1:
            raise UserError(f"the tensors of a batch have one row for each sample, but they have {sizes}")
    elif not isinstance(batch, Tensor):
        raise UserError(
            f"importance takes batches of inputs only, tensors [B, ...] or mappings of them, not {type(batch).__name__}"
        )


def sample_count(batch: Samples) -> int:
    """B, the number of samples."""
    return len(batch) if isinstance(batch, Tensor) else len(_tensors(batch)[0])


def device_of(batch: Samples) -> torch.device:
    """The device that the samples are on."""
    return (batch if isinstance(batch, Tensor) else _tensors(batch)[0]).device


def shape_of_one(batch: Samples) -> tuple[tuple[int, ...], ...]:
    """The shapes of one sample's tensors."""
    tensors = [batch] if isinstance(batch, Tensor) else _tensors(batch)
    return tuple(tuple(tensor.shape[1:]) for tensor in tensors)


def map_tensors(batch: Samples, change: Callable[[Tensor], Tensor]) -> Samples:
    """Change every tensor of samples; a mapping becomes a dict."""
    if isinstance(batch, Tensor):
        return change(batch)
    return {key: change(value) if _has_samples(value) else value for key, value in batch.items()}


def first_sample(batch: Samples) -> Samples:
    """A batch of the first sample only."""
    return map_tensors(batch, itemgetter(slice(1)))


def split_samples(batch: Samples, size: int) -> Iterator[Samples]:
    """Yield the samples in chunks of `size`."""
    for start in range(0, sample_count(batch), size):
        yield map_tensors(batch, itemgetter(slice(start, start + size)))


def call_model(model: Callable[..., Any], batch: Samples) -> Any:
    """Call a model with a batch: a tensor is its argument, a mapping its keyword arguments."""
    return model(batch) if isinstance(batch, Tensor) else model(**batch)


def _has_samples(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _tensors(batch: Mapping[str, Any]) -> list[Tensor]:
    return [value for value in batch.values() if _has_samples(value)]
